//! What is said of the verdicts: the cases that differ with the end of their output, and the table, on the
//! terminal and in docs/conformance.md.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::case::Suite;
use super::known::Known;
use super::setting::Setting;
use super::verdict::{self, Pair, Verdict};
use crate::count::Count;

pub const DOCUMENT: &str = "docs/conformance.md";

/// The document's part between these lines is ours to write.
const BEGIN: &str = "<!-- table: cargo xtask conformance --write -->";
const END: &str = "<!-- end of the table -->";

/// Lines of a log that are shown for a case that differs.
const TAIL: usize = 12;

/// A suite's row.
pub struct Summary {
    suite: String,
    cases: usize,
    native: usize,
    island: usize,
    equal: usize,
    /// Those that differ, for a reason that is known and for none.
    explained: usize,
    pub unexplained: usize,
}

impl Summary {
    fn new(suite: &str, pairs: &[Pair], known: &Known) -> Self {
        let count = |judge: &dyn Fn(&Pair) -> bool| pairs.iter().filter(|pair| judge(pair)).count();
        Self {
            suite: suite.to_string(),
            cases: pairs.len(),
            native: count(&|pair| pair.native == Verdict::Passed),
            island: count(&|pair| pair.island == Verdict::Passed),
            equal: count(&|pair| pair.counts() && !pair.differs()),
            explained: count(&|pair| pair.differs() && known.has(suite, pair)),
            unexplained: count(&|pair| pair.differs() && !known.has(suite, pair)),
        }
    }

    pub fn skipped(suite: &str) -> Self {
        Self::new(suite, &[], &Known::default())
    }

    pub fn is_skipped(&self) -> bool {
        self.cases == 0
    }

    fn row(&self) -> String {
        let Self { suite, cases, native, island, equal, .. } = self;
        if self.is_skipped() {
            return format!("| {suite} | – | – | – | – | skipped |\n");
        }
        let share = if *native == 0 { 0.0 } else { *equal as f64 * 100.0 / *native as f64 };
        format!("| {suite} | {cases} | {native} | {island} | {equal} | {share:.1} % |\n")
    }
}

pub fn markdown(summaries: &[Summary]) -> String {
    let mut text = "| suite | cases | passed natively | passed on the island | equal | share |\n".to_string();
    text.push_str("|---|---|---|---|---|---|\n");
    summaries.iter().for_each(|summary| text.push_str(&summary.row()));
    text
}

/// All suites in the words of a test runner: what is equal, what differs for no known reason, and what for one.
pub fn count(summaries: &[Summary]) -> Count {
    let mut count = Count::default();
    for summary in summaries {
        count.passed += summary.equal as u64;
        count.failed += summary.unexplained as u64;
        count.skipped += summary.explained as u64 + u64::from(summary.is_skipped());
    }
    count
}

/// Shows each case that differs with the end of what the island wrote.
pub fn print_differences(setting: &Setting, suite: &str, pairs: &[Pair], known: &Known) -> Result<Summary> {
    let mut last = "";
    for pair in pairs.iter().filter(|pair| pair.differs()) {
        let reason = if known.has(suite, pair) { format!(", as {DOCUMENT} explains") } else { String::new() };
        println!("{suite} {}: passed natively, {} on the island{reason}", pair.case, pair.island.name());
        if last != pair.log && pair.log == pair.case {
            let log = setting.log(suite, &pair.log, "island");
            let text = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            let text = text.unwrap_or_default();
            let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
            for line in &lines[lines.len().saturating_sub(TAIL)..] {
                println!("    {}", line.chars().take(160).collect::<String>());
            }
            println!("    ({})", log.display());
        }
        last = &pair.log;
    }
    Ok(Summary::new(suite, pairs, known))
}

/// Writes the table of the last runs into the document, and which cases differ.
pub fn write_document(setting: &Setting, suites: &[Suite], known: &Known) -> Result<()> {
    let mut summaries = Vec::new();
    let mut differing = String::new();
    for suite in suites {
        let pairs = verdict::load(setting, suite.name)?;
        let names: Vec<&str> =
            pairs.iter().filter(|pair| pair.differs()).map(|pair| pair.case.as_str()).collect();
        if !names.is_empty() {
            write!(differing, "\n{}, {} differ: {}.\n", suite.name, names.len(), names.join(", "))?;
        }
        summaries.push(Summary::new(suite.name, &pairs, known));
    }
    let table = format!("{}{differing}", markdown(&summaries));
    let text = fs::read_to_string(DOCUMENT).with_context(|| format!("reading {DOCUMENT}"))?;
    fs::write(Path::new(DOCUMENT), replaced(&text, &table)?)?;
    println!("{DOCUMENT} has the table");
    Ok(())
}

/// The document with another table between its marks.
fn replaced(document: &str, table: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).context("the document has no table")?;
    let (_, after) = rest.split_once(END).context("the document's table has no end")?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, Known, Pair, Summary, Verdict, replaced};

    #[test]
    fn only_the_part_between_the_marks_is_replaced() {
        let document = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(replaced(&document, "new\n").ok(), Some(format!("a\n{BEGIN}\n\nnew\n\n{END}\nb\n")));
        assert!(replaced("a", "new").is_err());
    }

    #[test]
    fn a_row_counts_what_passed_natively() {
        let pair = |native, island| Pair { case: String::new(), log: String::new(), native, island };
        let pairs = [
            pair(Verdict::Passed, Verdict::Passed),
            pair(Verdict::Passed, Verdict::TimedOut),
            pair(Verdict::Failed, Verdict::Passed),
            pair(Verdict::Skipped, Verdict::Skipped),
        ];
        let summary = Summary::new("go", &pairs, &Known::default());
        assert_eq!((summary.row().as_str(), summary.unexplained), ("| go | 4 | 2 | 2 | 1 | 50.0 % |\n", 1));
    }
}
