//! A case: what runs natively, what runs on the island, and how to read what came of it.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use eyot_tests::package::Need;

use super::setting::Setting;
use super::verdict::Verdict;

/// A suite of tests that others wrote.
pub struct Suite {
    pub name: &'static str,
    /// What it is, in half a sentence.
    pub about: &'static str,
    /// What it needs of Debian's packages; crates and sources it fetches itself.
    pub needs: &'static [Need],
    pub cases: fn(&Setting) -> Result<Vec<Case>>,
}

/// One run of a program: how it ended, and what it wrote, errors and output in one.
pub struct Report {
    pub code: i32,
    pub text: String,
}

/// One command natively and one on the island.
pub struct Case {
    pub name: String,
    /// Something to be made first, once: a test binary.
    pub prepare: Option<Command>,
    pub native: Command,
    pub island: Command,
    pub limit: Duration,
    pub judge: Judge,
    /// The names of its cases are known only when it has run.
    pub parts: bool,
}

/// How a run is read.
pub enum Judge {
    /// One verdict.
    Whole(fn(&Report) -> Verdict),
    /// A verdict for each of several cases in one run.
    Parts(fn(&Report) -> Vec<(String, Verdict)>),
    /// Exit status 0, and the island's output is the native one.
    Output,
}

impl Case {
    pub fn new(name: impl Into<String>, native: Command, island: Command) -> Self {
        Self {
            name: name.into(),
            prepare: None,
            native,
            island,
            limit: Duration::from_secs(60),
            judge: Judge::Whole(status),
            parts: false,
        }
    }

    /// Time that one of the two runs may take.
    pub fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    pub fn prepare(mut self, command: Command) -> Self {
        self.prepare = Some(command);
        self
    }

    pub fn judge(mut self, judge: fn(&Report) -> Verdict) -> Self {
        self.judge = Judge::Whole(judge);
        self
    }

    pub fn parts(mut self, judge: fn(&Report) -> Vec<(String, Verdict)>) -> Self {
        self.judge = Judge::Parts(judge);
        self.parts = true;
        self
    }

    pub fn same_output(mut self) -> Self {
        self.judge = Judge::Output;
        self
    }
}

/// Exit status 0 is success.
pub fn status(report: &Report) -> Verdict {
    Verdict::passed_if(report.code == 0)
}
