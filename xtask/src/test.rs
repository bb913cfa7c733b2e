//! `cargo xtask test`: packages, release build, checks, unit tests, end-to-end suite, the fast part of the conformance
//! suites, one summary line.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use eyot_tests::package;

use crate::count::Count;

/// Runs everything; the last line printed is the sum of all the runners' summaries. Answers whether
/// all passed.
pub fn run(arguments: &[String]) -> Result<bool> {
    let suite_only = arguments.iter().any(|word| word == "--suite-only");
    package::provide(package::ALL, is_root())?;
    let mut total = Count::default();
    let mut sound = stage("cargo build --release", cargo(&["build", "--release"]), &mut total)?;
    if sound && !suite_only {
        sound &= stage("tidy", ourselves(&["tidy"])?, &mut total)?;
    }
    if sound && !suite_only {
        sound &= stage("unit tests", cargo(&["test", "--workspace", "--no-fail-fast"]), &mut total)?;
    }
    if sound {
        let words = ["run", "--quiet", "--package", "eyot-tests", "--", "--eyot", "target/release/eyot"];
        let mut suite = cargo(&words);
        suite.args(arguments.iter().filter(|word| *word != "--suite-only"));
        sound &= stage("end-to-end suite", suite, &mut total)?;
    }
    if sound && !suite_only {
        sound &= stage("conformance", ourselves(&["conformance", "--fast"])?, &mut total)?;
    }
    if !sound && total.failed == 0 {
        total.failed = 1;
    }
    println!("\n{total}");
    Ok(sound && total.failed == 0)
}

/// A command of the cargo that runs us.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    command
}

/// A command of this program.
fn ourselves(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(arguments);
    Ok(command)
}

/// Runs one part, passes its output on and adds up the summaries in it. Answers whether it succeeded.
fn stage(name: &str, mut command: Command, total: &mut Count) -> Result<bool> {
    println!("\n== {name}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let output = child.stdout.take().context("a piped child has an output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(count) = Count::read(&line) {
            *total += count;
        }
        println!("{line}");
    }
    let status = child.wait()?;
    if !status.success() {
        println!("FAILED: {name} ended with {status}");
    }
    Ok(status.success())
}

pub fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output();
    user.is_ok_and(|output| output.stdout == b"0\n")
}
