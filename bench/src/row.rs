//! A row: what is measured, how it is judged, and how it begins.

use anyhow::Result;
use eyot_tests::package::Need;
use serde::Serialize;

use crate::bench::Bench;
use crate::contest::Contest;

#[derive(Serialize)]
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    pub judge: Judge,
    /// What must be reached.
    pub bar: f64,
    /// What should be.
    pub aim: f64,
    #[serde(skip)]
    pub needs: &'static [Need],
    #[serde(skip)]
    pub begin: fn(&Bench) -> Result<Contest<'_>>,
}

/// How eyot's figure becomes the score that bar and aim speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// eyot's figure over the native one; less is better.
    Cost,
    /// eyot's figure over the native one; more is better.
    Throughput,
    /// eyot's figure less the native one; less is better.
    Excess,
    /// eyot's figure alone; less is better.
    Amount,
    /// eyot's figure alone; more is better.
    Gain,
}

/// How a row did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Aim,
    Bar,
    Missed,
}

impl Judge {
    pub fn score(self, native: f64, eyot: f64) -> f64 {
        match self {
            Self::Cost | Self::Throughput => eyot / native,
            Self::Excess => eyot - native,
            Self::Amount | Self::Gain => eyot,
        }
    }

    /// Whether greater figures are better.
    pub fn ascends(self) -> bool {
        matches!(self, Self::Throughput | Self::Gain)
    }

    fn meets(self, score: f64, limit: f64) -> bool {
        if self.ascends() { score >= limit } else { score <= limit }
    }
}

impl Row {
    pub const fn new(
        name: &'static str,
        unit: &'static str,
        begin: fn(&Bench) -> Result<Contest<'_>>,
    ) -> Self {
        Self { name, unit, judge: Judge::Cost, bar: 1.0, aim: 1.0, needs: &[], begin }
    }

    pub const fn judged(mut self, judge: Judge, bar: f64, aim: f64) -> Self {
        self.judge = judge;
        self.bar = bar;
        self.aim = aim;
        self
    }

    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    pub fn verdict(&self, score: f64) -> Verdict {
        if !self.judge.meets(score, self.bar) {
            Verdict::Missed
        } else if self.judge.meets(score, self.aim) {
            Verdict::Aim
        } else {
            Verdict::Bar
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Judge, Row, Verdict};

    fn row(judge: Judge, bar: f64, aim: f64) -> Row {
        Row::new("a row", "ns", |_| anyhow::bail!("not to be run")).judged(judge, bar, aim)
    }

    #[test]
    fn costs_stay_below_and_throughputs_above() {
        let cost = row(Judge::Cost, 0.35, 0.15);
        let scores = [0.36, 0.35, 0.15].map(|score| cost.verdict(score));
        assert_eq!(scores, [Verdict::Missed, Verdict::Bar, Verdict::Aim]);
        let throughput = row(Judge::Throughput, 0.85, 1.0);
        let scores = [0.84, 0.85, 1.0].map(|score| throughput.verdict(score));
        assert_eq!(scores, [Verdict::Missed, Verdict::Bar, Verdict::Aim]);
    }

    #[test]
    fn scores_compare_with_native_where_that_means_something() {
        assert_eq!(Judge::Cost.score(4.0, 1.0), 0.25);
        assert_eq!(Judge::Excess.score(4.0, 6.0), 2.0);
        assert_eq!(Judge::Amount.score(f64::NAN, 24.0), 24.0);
    }

    #[test]
    fn what_cannot_be_computed_misses() {
        assert_eq!(row(Judge::Cost, 1.0, 1.0).verdict(f64::NAN), Verdict::Missed);
        assert_eq!(row(Judge::Throughput, 1.0, 1.0).verdict(f64::NAN), Verdict::Missed);
    }
}
