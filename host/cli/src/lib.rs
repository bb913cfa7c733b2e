//! The `eyot` command: reads words, asks the monitor, prints. One file per verb.
//!
//! Data goes to standard output, everything else to standard error as `eyot: …`. Exit status 125 is ours.
//! The command knows nothing of how islands are run: the root package hands it a [`Monitor`].
#![forbid(unsafe_code)]

mod build;
mod command;
mod completions;
mod doctor;
mod output;
// For fuzzing.
#[doc(hidden)]
pub mod parse;
mod perform;

use std::process::ExitCode;
use std::time::Duration;

use api::report::Report;
use api::spec::Spec;
use clap::Parser;
use clap::error::ErrorKind;

/// Exit status of our own failures, as docker has it.
const FAILED: u8 = 125;

/// What the command needs of the monitor.
pub struct Monitor {
    /// Turns this process into the monitor of an island. Returns only if that fails.
    pub become_monitor: fn(&Spec) -> std::io::Error,
    /// Runs an island whose output is nobody's, for a time at most, to find out what it needs.
    pub try_out: fn(&Spec, Duration) -> std::io::Result<Tried>,
    /// The kernel of virtual machines.
    pub kernel: &'static [u8],
    /// Says what this machine can do.
    pub examine: fn() -> Report,
}

/// What has come of a trial run.
pub struct Tried {
    /// The program's exit status, unless it was stopped.
    pub status: Option<i32>,
    /// Names of the root's files that it looked up, each ended by NUL.
    pub record: Vec<u8>,
}

/// Reads the process's arguments and does what they say.
pub fn main(monitor: &Monitor) -> ExitCode {
    let outcome = match command::Eyot::try_parse() {
        Ok(eyot) => eyot.verb.carry_out(monitor),
        Err(error) => return refused(&error),
    };
    outcome.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &anyhow::Error) -> ExitCode {
    if error.is::<output::ReaderGone>() {
        return ExitCode::from(output::BY_PIPE);
    }
    eprintln!("eyot: {error:#}");
    ExitCode::from(FAILED)
}

/// Prints what clap has to say: help and version as asked for, everything else as our error.
fn refused(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match output::checked(error.print()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(FAILED)
        }
        _ => {
            let text = error.render().to_string();
            eprint!("eyot: {}", text.strip_prefix("error: ").unwrap_or(&text));
            ExitCode::from(FAILED)
        }
    }
}
