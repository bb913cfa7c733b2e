//! Judged rows, and the file that holds them for programs to read.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::contest::{Beside, Race};
use crate::figure::Series;
use crate::machine::Machine;
use crate::outcome::Outcome;
use crate::row::{Row, Verdict};

/// By how much the greatest native figure may exceed the least before a row is called noisy.
const NOISE: f64 = 1.25;

/// One side of a row.
#[derive(Serialize)]
pub struct Side {
    pub median: f64,
    pub best: f64,
    /// In the order of the rounds.
    pub rounds: Vec<f64>,
}

/// What stands beside a row.
#[derive(Serialize)]
pub struct Compared {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native: Option<Side>,
    pub figure: Side,
    /// Against its own native side, else against the row's.
    pub ratio: f64,
}

/// A row with its figures and what follows from them. What the score is, `judge` says.
#[derive(Serialize)]
pub struct Judged {
    pub native: Option<Side>,
    pub eyot: Side,
    /// From the medians; this is what is judged.
    pub score: f64,
    /// From each side's best round.
    pub score_of_best: f64,
    /// Over the rounds, each by itself.
    pub least_score: f64,
    pub greatest_score: f64,
    pub verdict: Verdict,
    /// The native rounds differ so much among themselves that the machine was measured, not eyot.
    pub noisy: bool,
    pub beside: BTreeMap<String, Compared>,
    pub notes: Vec<String>,
}

impl Judged {
    pub fn new(row: &Row, race: &Race) -> Self {
        let side = |series: &Series| Side {
            median: series.median(),
            best: series.best(row.judge.ascends()),
            rounds: series.values().to_vec(),
        };
        let native = race.native.as_ref().map(side);
        let eyot = side(&race.eyot);
        // Rows without a native side do not look at it.
        let against = |figure: Option<f64>, eyot| row.judge.score(figure.unwrap_or(f64::NAN), eyot);
        let noisy = race.native.as_ref().is_some_and(|all| all.greatest() > NOISE * all.least());
        let score = against(native.as_ref().map(|side| side.median), eyot.median);
        let rounds: Series = eyot
            .rounds
            .iter()
            .enumerate()
            .map(|(at, figure)| against(native.as_ref().map(|side| side.rounds[at]), *figure))
            .collect();
        let compared = |beside: &Beside<Series>| {
            let own = beside.native.as_ref().map(side);
            let figure = side(&beside.figure);
            let against = own.as_ref().or(native.as_ref()).map_or(f64::NAN, |side| side.median);
            Compared { ratio: figure.median / against, native: own, figure }
        };
        let beside = race.beside.iter().map(|beside| (beside.what.clone(), compared(beside))).collect();
        Self {
            score,
            score_of_best: against(native.as_ref().map(|side| side.best), eyot.best),
            least_score: rounds.least(),
            greatest_score: rounds.greatest(),
            verdict: row.verdict(score),
            noisy,
            beside,
            notes: race.notes.clone(),
            native,
            eyot,
        }
    }
}

#[derive(Serialize)]
pub struct Report<'a> {
    machine: &'a Machine,
    rows: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    row: &'a Row,
    #[serde(flatten)]
    judged: Option<Judged>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> Report<'a> {
    pub fn new(machine: &'a Machine, outcomes: &'a [(&'a Row, Outcome)]) -> Self {
        let rows = outcomes.iter().map(|(row, outcome)| match outcome {
            Outcome::Measured(race) => Entry { row, judged: Some(Judged::new(row, race)), reason: None },
            Outcome::Skipped(reason) | Outcome::Failed(reason) => {
                Entry { row, judged: None, reason: Some(reason) }
            }
        });
        Self { machine, rows: rows.collect() }
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(fs::write(path, text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::Judged;
    use crate::contest::Race;
    use crate::row::{Judge, Row, Verdict};

    #[test]
    fn medians_are_judged_and_the_rest_is_shown() {
        let row = Row::new("a row", "ns", |_| anyhow::bail!("not to be run")).judged(Judge::Cost, 2.0, 1.0);
        let race = Race {
            native: Some([10.0, 20.0, 100.0].into_iter().collect()),
            eyot: [30.0, 10.0, 60.0].into_iter().collect(),
            beside: Vec::new(),
            notes: Vec::new(),
        };
        let judged = Judged::new(&row, &race);
        assert_eq!((judged.score, judged.score_of_best), (1.5, 1.0));
        assert_eq!((judged.least_score, judged.greatest_score), (0.5, 3.0));
        assert_eq!(judged.verdict, Verdict::Bar);
        assert!(judged.noisy, "100 is far from 10");
    }
}
