//! The benchmark: one table of what programs cost on an island and natively, measured in turn in one run.
//!
//! Every row is an entry of a table in `rows`. A row's two sides run one after the other, in changing
//! order, for several rounds after one that does not count; the medians are what is judged, the best
//! figures and the range of the rounds' ratios stand beside them, so that a noisy machine shows.
#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod contest;
mod emulator;
mod figure;
mod gvisor;
mod image;
mod launch;
mod machine;
mod outcome;
mod report;
mod row;
mod rows;
mod table;

use std::process::ExitCode;

use anyhow::{Context, Result};
use eyot_tests::package::{self, Need};

use arguments::Arguments;
use bench::Bench;
use machine::Machine;
use outcome::Outcome;
use report::Report;
use row::Row;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("eyot-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let chosen: Vec<&Row> = rows::all().filter(|row| arguments.wants(row.name)).collect();
    if arguments.list {
        chosen.iter().for_each(|row| println!("{}", row.name));
        return Ok(ExitCode::SUCCESS);
    }
    package::provide(&needs(&chosen), rustix::process::geteuid().is_root())?;
    let bench = Bench::prepare(&arguments)?;
    let machine = Machine::look();
    println!("\n{machine}; {} rounds\n\n{}", bench.effort.rounds, table::heading());
    let mut outcomes = Vec::new();
    for row in chosen {
        let outcome = measure(row, &bench);
        println!("{}", table::line(row, &outcome));
        outcomes.push((row, outcome));
    }
    println!("\n{}", table::summary(&outcomes));
    let report = Report::new(&machine, &outcomes);
    report.write(&arguments.json).with_context(|| format!("writing {}", arguments.json.display()))?;
    let sound = outcomes.iter().all(|(_, outcome)| !matches!(outcome, Outcome::Failed(_)));
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the toolchain and the rows need, each once.
fn needs(rows: &[&Row]) -> Vec<Need> {
    let mut needs = vec![package::GCC, package::C_LIBRARY];
    for need in rows.iter().flat_map(|row| row.needs) {
        if !needs.contains(need) {
            needs.push(*need);
        }
    }
    needs
}

fn measure(row: &Row, bench: &Bench) -> Outcome {
    let missing: Vec<&str> = package::missing(row.needs).iter().map(|need| need.package).collect();
    if !missing.is_empty() {
        return Outcome::Skipped(format!("not installed: {}", missing.join(", ")));
    }
    match (row.begin)(bench).and_then(|contest| contest.race(bench.effort.rounds)) {
        Ok(result) => Outcome::Measured(result),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}
