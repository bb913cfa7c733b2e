//! `eyot doctor`: prints what this machine can do for islands, what is missing, and what to do about it.

use std::process::ExitCode;

use anyhow::Result;
use api::report::{Check, State};
use clap::{Args, ValueEnum};

use crate::Monitor;

/// Says what this machine can do, what is missing, and what to do about it.
///
/// Exit status 0 means that `eyot do` works here.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  eyot doctor\n  eyot doctor --format json | jq .checks")]
pub struct Arguments {
    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Examines the machine and prints the report.
pub fn doctor(arguments: &Arguments, monitor: &Monitor) -> Result<ExitCode> {
    let report = (monitor.examine)();
    match arguments.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Text => {
            for check in &report.checks {
                print_check(check);
            }
            let verdict = if report.able { "`eyot do` works here" } else { "`eyot do` cannot work here yet" };
            println!("\n{verdict}");
        }
    }
    Ok(if report.able { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_check(check: &Check) {
    let mark = match check.state {
        State::Good => "ok",
        State::Limited => "limited",
        State::Missing => "MISSING",
        State::Noted => "-",
    };
    println!("{mark:>8}  {:<18} {}", check.subject, check.found);
    if let Some(remedy) = &check.remedy {
        println!("{:>8}  {:<18} → {remedy}", "", "");
    }
}
