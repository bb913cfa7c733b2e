//! The command line as a whole: verbs, and where each is carried out.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{Monitor, build, completions, doctor, perform};

/// Runs programs on islands.
///
/// An island is one program, joined with a library OS inside one confined process. It sees the machine's
/// files read-only with a private overlay for writes, and no network, no other process and no other
/// user's files unless granted. Neither root nor KVM is needed.
#[derive(Debug, Parser)]
#[command(name = "eyot", version, max_term_width = 100, after_help = EXAMPLES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Eyot {
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  eyot do python3 -c 'print(6 * 7)'              run a program of this machine
  eyot do -p 8080:80 -v ./site:/srv python3 -m http.server -d /srv 80
  eyot do -it bash                               a shell on an island
  eyot doctor                                    what this machine can do

Exit status: the program's own; 128+signal; 125 our error, 126 cannot run, 127 not found.";

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Do(Box<perform::Arguments>),
    Build(build::Arguments),
    Doctor(doctor::Arguments),
    #[command(hide = true)]
    Completions(completions::Arguments),
}

impl Verb {
    /// Does it.
    pub fn carry_out(self, monitor: &Monitor) -> Result<ExitCode> {
        match self {
            Self::Do(arguments) => perform::perform(*arguments, monitor),
            Self::Build(arguments) => build::build(arguments, monitor),
            Self::Doctor(arguments) => doctor::doctor(&arguments, monitor),
            Self::Completions(arguments) => completions::print(&arguments),
        }
    }
}
