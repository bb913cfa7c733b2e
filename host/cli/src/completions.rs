//! `eyot completions`: completion scripts for shells, for packagers.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::command::Eyot;
use crate::output;

/// Prints a completion script.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell to complete for.
    shell: Shell,
}

/// Prints the script on standard output.
pub fn print(arguments: &Arguments) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Eyot::command(), "eyot", &mut script);
    output::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
