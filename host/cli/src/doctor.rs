//! `eyot doctor`: prints what this machine can do for islands, what is missing, and what to do about it.

use std::process::ExitCode;

use anyhow::Result;
use api::report::{Check, State};
use clap::{Args, ValueEnum};

use crate::{Monitor, output};

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
        Format::Json => output::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        Format::Text => {
            let checks: String = report.checks.iter().map(line).collect();
            let verdict = if report.able { "`eyot do` works here" } else { "`eyot do` cannot work here yet" };
            output::print(&format!("{checks}\n{verdict}\n"))?;
        }
    }
    Ok(if report.able { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(check: &Check) -> String {
    let mark = match check.state {
        State::Good => "ok",
        State::Limited => "limited",
        State::Missing => "MISSING",
        State::Noted => "-",
    };
    let remedy = check.remedy.as_ref().map(|remedy| format!("{:>8}  {:<18} → {remedy}\n", "", ""));
    format!("{mark:>8}  {:<18} {}\n{}", check.subject, check.found, remedy.unwrap_or_default())
}
