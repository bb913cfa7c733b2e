//! gVisor's `runsc do`, where it is installed, beside eyot: labelled, and not judged.
//!
//! Which of its platforms is meant is never left to its default, for the figures differ by a factor of
//! a hundred: the fastest that works here is named and used.

use std::path::Path;
use std::process::Command;

use eyot_tests::island::{SEARCH_PATH, bare};
use eyot_tests::outcome::run;

use crate::bench::Bench;
use crate::contest::{Contest, Measure};
use crate::launch::LIMIT;

/// Those that need no virtualisation, the faster one first.
const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];

/// Runs a command's words in a sandbox of gVisor's.
pub struct Runsc {
    version: String,
    platform: &'static str,
}

/// Adds gVisor to a contest, or why it is not there.
pub fn beside<'a>(
    bench: &Bench,
    contest: Contest<'a>,
    measure: impl FnOnce(Runsc) -> Measure<'a>,
) -> Contest<'a> {
    match Runsc::find(bench) {
        Ok(runsc) => contest.beside(runsc.label(), measure(runsc)),
        Err(reason) => contest.noting(format!("runsc do: {reason}")),
    }
}

impl Runsc {
    fn find(bench: &Bench) -> Result<Self, &'static str> {
        if !SEARCH_PATH.split(':').any(|directory| Path::new(directory).join("runsc").exists()) {
            return Err("not installed");
        }
        let version = version(bench.directory()).ok_or("says no version")?;
        PLATFORMS
            .map(|platform| Self { version: version.clone(), platform })
            .into_iter()
            .find(|runsc| {
                let command = runsc.command(bench.directory(), ["true"]);
                run(command, b"", LIMIT).and_then(|outcome| outcome.success()).is_ok()
            })
            .ok_or("installed, but cannot run `true` here")
    }

    fn label(&self) -> String {
        format!("runsc do {} ({})", self.version, self.platform)
    }

    /// The command, in the same surroundings as all others.
    pub fn command<Word: AsRef<std::ffi::OsStr>>(
        &self,
        directory: &Path,
        words: impl IntoIterator<Item = Word>,
    ) -> Command {
        let mut command = Command::new("runsc");
        command.args(["--network=none", &format!("--platform={}", self.platform)]);
        if !rustix::process::geteuid().is_root() {
            command.arg("--rootless");
        }
        command.arg("do").args(words);
        bare(&mut command, directory);
        command
    }
}

/// The last word of the first line of what it says of itself.
fn version(directory: &Path) -> Option<String> {
    let mut command = Command::new("runsc");
    command.arg("--version");
    bare(&mut command, directory);
    let outcome = run(command, b"", LIMIT).ok()?;
    Some(outcome.text().lines().next()?.split_whitespace().last()?.to_owned())
}
