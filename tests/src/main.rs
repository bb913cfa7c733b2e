//! The end-to-end suite: real programs on islands, compared with this machine.
//!
//! Every case is a row of a table in `cases`. As root, the suite plays each as root, as an ordinary user, and
//! as an ordinary user who is denied user namespaces; and, where the case has a native counterpart, without
//! an island, which proves the expectation; and as root by each other engine. Everything happens in one
//! directory that goes at the end; no user is created.
#![forbid(unsafe_code)]

mod arguments;
mod cases;
mod suite;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use eyot_tests::build::{self, Toolchain};
use eyot_tests::package;
use eyot_tests::process;
use eyot_tests::scratch::Scratch;
use rustix::process::{getpid, set_child_subreaper};

use arguments::{Action, Arguments};
use suite::caller::Caller;
use suite::case::Case;
use suite::play::play;
use suite::runner::{Runner, Tally};
use suite::setting::Setting;
use suite::trace::{Before, Whose};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("eyot-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    match &arguments.action {
        Action::Play { case, stage, user } => Ok(play(case, stage, *user)),
        Action::List => {
            for (case, setting) in arguments.selection() {
                println!("{} ({})", case.name, setting.name());
            }
            for case in arguments.left_out() {
                let (engines, reason) = case.left_out;
                let names: Vec<_> = engines.iter().map(|engine| engine.name()).collect();
                println!("{}: not by {}: {reason}", case.name, names.join(" or "));
            }
            Ok(ExitCode::SUCCESS)
        }
        Action::Suite { eyot } => whole(&arguments, eyot),
    }
}

/// Plays the selected cases, and ends with the summary line.
fn whole(arguments: &Arguments, eyot: &Path) -> Result<ExitCode> {
    set_child_subreaper(Some(getpid())).context("becoming the reaper of orphans")?;
    let runner = prepare(eyot)?;
    let before = Before::look(Whose::Named, runner.scratch.path());
    let mut tally = Tally::default();
    let mut jobs = Vec::new();
    for (case, setting) in arguments.selection() {
        match obstacle(case, setting, eyot) {
            Some(reason) => tally.skip(case, setting, &reason),
            None => jobs.push((case, setting)),
        }
    }
    tally.merge(runner.play(jobs));
    if let Err(error) = before.nothing_left() {
        println!("FAILED   after all cases: {error:#}");
        tally.failed.push("nothing left behind".to_string());
    }
    process::kill_descendants(std::process::id());
    drop(runner);
    for title in &tally.failed {
        println!("failed: {title}");
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failed.len(), tally.skipped);
    Ok(if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compiles the test programs and puts everything where every caller can read it.
fn prepare(eyot: &Path) -> Result<Runner> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/suite-programs");
    build::all(&sources, &built, &[Toolchain::Glibc, Toolchain::Musl, Toolchain::Go, Toolchain::Java])?;
    let scratch = Scratch::new()?;
    let programs = scratch.directory("programs", None)?;
    copy_programs(&built, &programs)?;
    let tools = scratch.directory("tools", None)?;
    let suite = tools.join("eyot-tests");
    fs::copy(std::env::current_exe()?, &suite)?;
    if eyot.exists() {
        fs::copy(eyot, tools.join("eyot"))?;
    }
    Ok(Runner { suite, eyot: tools.join("eyot"), programs, scratch })
}

fn copy_programs(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), target)?;
        } else if entry.path().extension().is_some_and(|extension| extension == "classes") {
            fs::create_dir(&target)?;
            copy_programs(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Why a case is not played, if it is not.
fn obstacle(case: &Case, setting: Setting, eyot: &Path) -> Option<String> {
    if !setting.caller.is_possible() {
        return Some("the suite does not run as root".to_string());
    }
    let missing: Vec<&str> = package::missing(case.needs).iter().map(|need| need.package).collect();
    if !missing.is_empty() {
        return Some(format!("not installed: {}", missing.join(", ")));
    }
    if let Some(need) = package::missing(setting.engine.needs()).first() {
        return Some(format!("no {} here", need.path));
    }
    let islander = setting.caller != Caller::Native;
    (islander && !eyot.exists()).then(|| format!("{} does not exist", eyot.display()))
}
