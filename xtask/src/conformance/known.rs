//! Differences that are known: those that docs/conformance.md gives a reason for.
//!
//! A line there begins with `- **SUITE: ` and then the cases, each in backquotes, up to `**`. Anything else that differs is a
//! fault, of the island or of the document.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};

use super::table::DOCUMENT;
use super::verdict::Pair;

/// Suites and cases.
#[derive(Default)]
pub struct Known(BTreeSet<(String, String)>);

impl Known {
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(DOCUMENT).with_context(|| format!("reading {DOCUMENT}"))?;
        Ok(Self::of(&text))
    }

    fn of(document: &str) -> Self {
        let mut known = BTreeSet::new();
        for line in document.split("\n- **").skip(1) {
            let Some((suite, cases)) = line.split_once("**").and_then(|(head, _)| head.split_once(": "))
            else {
                continue;
            };
            let cases = cases.split('`').skip(1).step_by(2);
            known.extend(cases.map(|case| (suite.to_string(), case.replace('\n', " "))));
        }
        Self(known)
    }

    pub fn has(&self, suite: &str, pair: &Pair) -> bool {
        self.0.contains(&(suite.to_string(), pair.case.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::verdict::Verdict;

    #[test]
    fn reasons_name_their_cases() {
        let known = Known::of(
            "text\n\n- **go: `net`, `os/user`** no raw sockets (`ip4`).\n- **redis: `a b`** other\n- no",
        );
        let pair = |case: &str| {
            let (native, island) = (Verdict::Passed, Verdict::Failed);
            Pair { case: case.to_string(), log: case.to_string(), native, island }
        };
        assert!(
            known.has("go", &pair("net"))
                && known.has("go", &pair("os/user"))
                && known.has("redis", &pair("a b"))
        );
        assert!(!known.has("go", &pair("ip4")) && !known.has("redis", &pair("net")));
    }
}
