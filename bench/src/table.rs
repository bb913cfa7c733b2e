//! The table as it is printed: a line a row, as soon as it is known.

use crate::figure::short;
use crate::outcome::Outcome;
use crate::report::Judged;
use crate::row::{Judge, Row, Verdict};

/// Width of the first column.
const NAME: usize = 49;

pub fn heading() -> String {
    let columns = columns(["", "native", "eyot", "ratio", "of best", "rounds", "bar", "aim", "verdict"]);
    format!("{columns}\n{}", "─".repeat(columns.chars().count()))
}

pub fn line(row: &Row, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Skipped(reason) => format!("{:<NAME$} skipped: {reason}", row.name),
        Outcome::Failed(reason) => format!("{:<NAME$} FAILED: {reason}", row.name),
        Outcome::Measured(race) => measured(row, &Judged::new(row, race)),
    }
}

fn measured(row: &Row, result: &Judged) -> String {
    let sign = if row.judge.ascends() { "≥" } else { "≤" };
    let limit = |limit: f64| format!("{sign} {}", plain(limit));
    let native = result.native.as_ref().map_or("–".to_owned(), |side| figure(side.median, row.unit));
    let mut text = columns([
        row.name,
        &native,
        &figure(result.eyot.median, row.unit),
        &score(row, result.score),
        &score(row, result.score_of_best),
        &format!("{}–{}", short(result.least_score), short(result.greatest_score)),
        &limit(row.bar),
        &limit(row.aim),
        &verdict(result),
    ]);
    for (name, compared) in &result.beside {
        let name = format!("  beside it: {name}");
        let native = compared.native.as_ref().map_or(String::new(), |side| figure(side.median, row.unit));
        text.push('\n');
        text.push_str(&columns([
            &name,
            &native,
            &figure(compared.figure.median, row.unit),
            &short(compared.ratio),
            "",
            "",
            "",
            "",
            "",
        ]));
    }
    for note in &result.notes {
        text.push_str(&format!("\n  beside it: {note}"));
    }
    text
}

fn verdict(result: &Judged) -> String {
    let words = match result.verdict {
        Verdict::Aim => "met, aim too",
        Verdict::Bar => "met",
        Verdict::Missed => "NOT MET",
    };
    if result.noisy { format!("{words} (noisy)") } else { words.to_owned() }
}

/// A difference is shown with its unit, a quotient has none.
fn score(row: &Row, score: f64) -> String {
    match row.judge {
        Judge::Cost | Judge::Throughput | Judge::Gain => short(score),
        Judge::Excess => format!("{score:+.2}"),
        Judge::Amount if score.fract() == 0.0 => plain(score),
        Judge::Amount => short(score),
    }
}

fn figure(figure: f64, unit: &str) -> String {
    format!("{} {unit}", short(figure)).trim_end().to_owned()
}

/// As it was written in the source: no more digits than there are.
fn plain(figure: f64) -> String {
    if figure >= 2.0 { format!("{figure}") } else { format!("{figure:.2}") }
}

/// Name, native, eyot, ratio, ratio of the best, range, bar, aim, verdict.
fn columns(cells: [&str; 9]) -> String {
    let [name, native, eyot, ratio, best, rounds, bar, aim, verdict] = cells;
    let left = format!("{name:<NAME$} {native:>13} {eyot:>13} {ratio:>7} {best:>7} {rounds:>13}");
    format!("{left} {bar:>7} {aim:>7}  {verdict}").trim_end().to_owned()
}

pub fn summary(outcomes: &[(&Row, Outcome)]) -> String {
    let verdicts: Vec<Verdict> = outcomes
        .iter()
        .filter_map(|(row, outcome)| match outcome {
            Outcome::Measured(race) => Some(Judged::new(row, race).verdict),
            _ => None,
        })
        .collect();
    let met = verdicts.iter().filter(|verdict| **verdict != Verdict::Missed).count();
    let aims = verdicts.iter().filter(|verdict| **verdict == Verdict::Aim).count();
    let without = outcomes.len() - verdicts.len();
    format!("{met} of {} bars met, {aims} aims reached, {without} rows without figures", verdicts.len())
}
