//! What came of a program that ran to its end: status, output, errors.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{OFlags, fcntl_setfl};

/// A finished run.
#[derive(Clone)]
pub struct Outcome {
    pub command: String,
    pub status: ExitStatus,
    pub output: Vec<u8>,
    pub errors: Vec<u8>,
}

/// Runs a command to its end with the given bytes as its input. One that outlives the limit is killed,
/// and that is an error.
///
/// Output goes to unnamed files, not pipes: a descendant that outlives the program must not keep the
/// caller waiting for the end of its output.
pub fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<Outcome> {
    let mut given = tempfile()?;
    given.write_all(input)?;
    given.rewind()?;
    let mut output = appended()?;
    let mut errors = appended()?;
    command.stdin(Stdio::from(given));
    command.stdout(Stdio::from(output.try_clone()?));
    command.stderr(Stdio::from(errors.try_clone()?));
    let words = describe(&command);
    let mut child = command.spawn().with_context(|| format!("starting {words}"))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            let state = crate::process::describe(child.id());
            child.kill()?;
            child.wait()?;
            let outcome = Outcome {
                command: words,
                status: ExitStatus::from_raw(9),
                output: contents(&mut output)?,
                errors: contents(&mut errors)?,
            };
            bail!("not done after {limit:?}\n{state}{outcome}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ok(Outcome { command: words, status, output: contents(&mut output)?, errors: contents(&mut errors)? })
}

/// An unnamed file whose writers never overwrite each other, as a log has to be opened.
fn appended() -> Result<File> {
    let file = tempfile()?;
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// The words of a command, for messages.
pub fn describe(command: &Command) -> String {
    let mut words = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        words.push(' ');
        words.push_str(&argument.to_string_lossy());
    }
    words
}

fn tempfile() -> Result<File> {
    let descriptor = rustix::fs::memfd_create("output", rustix::fs::MemfdFlags::CLOEXEC)?;
    Ok(File::from(descriptor))
}

fn contents(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Outcome {
    /// The exit status as a shell shows it: 128 and the signal's number for a death by signal.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.errors).into_owned()
    }

    /// Requires exit status 0.
    pub fn success(self) -> Result<Self> {
        self.exits(0)
    }

    /// Requires an exit status.
    pub fn exits(self, code: i32) -> Result<Self> {
        ensure!(self.code() == code, "exit status {} instead of {code}\n{self}", self.code());
        Ok(self)
    }

    /// Requires the whole output to be this.
    pub fn prints(self, expected: &str) -> Result<Self> {
        ensure!(self.output == expected.as_bytes(), "expected output:\n{expected}\n{self}");
        Ok(self)
    }

    /// Requires a text somewhere in the output.
    pub fn says(self, expected: &str) -> Result<Self> {
        ensure!(self.text().contains(expected), "output lacks “{expected}”\n{self}");
        Ok(self)
    }

    /// Requires a text, case aside, somewhere in the errors.
    pub fn complains(self, expected: &str) -> Result<Self> {
        self.complains_somehow(&[expected])
    }

    /// Requires one of these on the standard error output, where it depends on who is first.
    pub fn complains_somehow(self, expected: &[&str]) -> Result<Self> {
        let errors = self.error_text().to_lowercase();
        let found = expected.iter().any(|expected| errors.contains(&expected.to_lowercase()));
        ensure!(found, "errors lack “{}”\n{self}", expected.join("” or “"));
        Ok(self)
    }

    /// Requires that our words are one sentence: a single line, neither a panic nor a backtrace.
    pub fn one_sentence(self) -> Result<Self> {
        let text = self.error_text();
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        ensure!(lines == 1, "{lines} lines of errors instead of one sentence\n{self}");
        ensure!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "a panic\n{self}");
        Ok(self)
    }

    /// Requires status and output to be those of another run.
    pub fn same_as(self, other: &Outcome) -> Result<Self> {
        if self.output != other.output || self.code() != other.code() {
            let (command, errors) = (&self.command, self.error_text());
            let statuses = format!("status {} instead of {}", self.code(), other.code());
            bail!(
                "{command}\ndiffers from the native run, {statuses}:\n{}{errors}",
                difference(other, &self)
            );
        }
        Ok(self)
    }
}

/// The first lines that differ: what was expected, and what came.
fn difference(expected: &Outcome, came: &Outcome) -> String {
    let (expected, came) = (expected.text(), came.text());
    let (mut left, mut right) = (expected.lines(), came.lines());
    let mut shown = String::new();
    for _ in 0..20 {
        let pair = loop {
            let pair = (left.next(), right.next());
            if pair.0 != pair.1 || pair.0.is_none() {
                break pair;
            }
        };
        if pair == (None, None) {
            break;
        }
        let [one, other] = [pair.0, pair.1].map(|line| line.unwrap_or("(end)"));
        shown.push_str(&format!("  - {one}\n  + {other}\n"));
    }
    shown
}

/// So many lines are shown of what a program said, from its start and its end.
const FIRST: usize = 30;
const LAST: usize = 40;

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{} ({})", self.command, self.status)?;
        for (name, bytes) in [("output", &self.output), ("errors", &self.errors)] {
            let text = String::from_utf8_lossy(bytes);
            let lines: Vec<&str> = text.lines().collect();
            // A crash says why first, and where it was afterwards.
            let last = lines.len().saturating_sub(LAST).max(FIRST.min(lines.len()));
            let (first, rest) = lines.split_at(FIRST.min(last));
            let hidden = last - first.len();
            for line in first {
                writeln!(formatter, "  {name}| {line}")?;
            }
            if hidden > 0 {
                writeln!(formatter, "  {name}| … {hidden} lines …")?;
            }
            for line in &rest[hidden..] {
                writeln!(formatter, "  {name}| {line}")?;
            }
        }
        Ok(())
    }
}
