//! Verdicts, and the file that keeps those of a suite's last run: `case native island`, a tab between.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

use super::setting::Setting;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    Failed,
    Skipped,
    TimedOut,
}

/// The two verdicts of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub case: String,
    /// The run whose logs say more: the case itself, unless it is a part of a larger one.
    pub log: String,
    pub native: Verdict,
    pub island: Verdict,
}

impl Verdict {
    const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Skipped, Self::TimedOut];

    pub fn passed_if(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::TimedOut => "timed out",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == name)
    }
}

impl Pair {
    /// Whether it counts: a case that does not pass natively says nothing about an island.
    pub fn counts(&self) -> bool {
        self.native == Verdict::Passed
    }

    pub fn differs(&self) -> bool {
        self.counts() && self.island != Verdict::Passed
    }

    fn line(&self) -> String {
        format!("{}\t{}\t{}\t{}\n", self.case, self.log, self.native.name(), self.island.name())
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        let mut text = || words.next().map(str::to_string);
        let (case, log) = (text()?, text()?);
        let (native, island) = (Verdict::named(&text()?)?, Verdict::named(&text()?)?);
        Some(Self { case, log, native, island })
    }
}

/// Keeps a suite's verdicts.
pub fn save<'a>(setting: &Setting, suite: &str, pairs: impl IntoIterator<Item = &'a Pair>) -> Result<()> {
    let path = setting.verdicts(suite);
    let text: String = pairs.into_iter().map(Pair::line).collect();
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// The verdicts of a suite's last run; none if it never ran.
pub fn load(setting: &Setting, suite: &str) -> Result<Vec<Pair>> {
    let path = setting.verdicts(suite);
    match fs::read_to_string(&path) {
        Ok(text) => text
            .lines()
            .map(|line| Pair::read(line).with_context(|| format!("{}: {line}", path.display())))
            .collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Pair, Verdict};

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let pair = Pair {
            case: "net/http".to_string(),
            log: "net/http".to_string(),
            native: Verdict::Passed,
            island: Verdict::TimedOut,
        };
        assert_eq!(Pair::read(pair.line().trim_end()), Some(pair));
        assert_eq!(Pair::read("a\tb\tpassed\tperhaps"), None);
    }

    #[test]
    fn only_what_passes_natively_can_differ() {
        let pair = |native, island| Pair { case: String::new(), log: String::new(), native, island };
        assert!(pair(Verdict::Passed, Verdict::Skipped).differs());
        assert!(!pair(Verdict::Failed, Verdict::TimedOut).differs());
        assert!(!pair(Verdict::Passed, Verdict::Passed).differs());
    }
}
