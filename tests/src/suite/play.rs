//! One case, played in a process of its own that has become the case's caller.

use std::fmt;
use std::process::ExitCode;

use anyhow::{Context, Result};
use eyot_tests::process;
use rustix::process::{getpid, set_child_subreaper};

use super::caller::{Caller, become_caller};
use super::case::Case;
use super::stage::Stage;
use super::trace::{Before, Whose};

/// Exit status of a case that found out while it played that it cannot be played here.
pub const SKIPPED: u8 = 77;

/// The reason why a case cannot be played here, as an error.
#[derive(Debug)]
pub struct Skip(pub String);

impl fmt::Display for Skip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Plays a case; called in a new process with a single thread.
pub fn play(case: &Case, stage: &Stage, user: Option<u32>) -> ExitCode {
    match try_play(case, stage, user) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            if error.is::<Skip>() { ExitCode::from(SKIPPED) } else { ExitCode::FAILURE }
        }
    }
}

fn try_play(case: &Case, stage: &Stage, user: Option<u32>) -> Result<()> {
    // Orphans of this case come to this process, so that none escapes the check below.
    set_child_subreaper(Some(getpid())).context("becoming the reaper of orphans")?;
    become_caller(stage.setting.caller, user)?;
    let whose = match user {
        Some(user) if stage.setting.caller != Caller::Root => Whose::User(user),
        _ => Whose::Nobody,
    };
    let before = Before::look(whose, &stage.directory);
    let result = (case.body)(stage);
    let left = before.nothing_left();
    process::kill_descendants(std::process::id());
    result.and(left)
}
