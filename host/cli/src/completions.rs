//! `eyot completions`: completion scripts for shells, for packagers.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::command::Eyot;

/// Prints a completion script.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell to complete for.
    shell: Shell,
}

/// Prints the script on standard output.
pub fn print(arguments: &Arguments) -> ExitCode {
    clap_complete::generate(arguments.shell, &mut Eyot::command(), "eyot", &mut std::io::stdout());
    ExitCode::SUCCESS
}
