//! What a system call costs, and how many kinds of them the guest may make of the host.

use anyhow::{Context, Result};
use eyot_tests::outcome::run;

use crate::bench::Bench;
use crate::contest::{Contest, printed, prints};
use crate::gvisor;
use crate::launch::LIMIT;
use crate::row::{Judge, Row};

pub const CALLS: &[Row] = &[
    Row::new("getppid, a call", "ns", smallest).judged(Judge::Cost, 0.35, 0.15),
    Row::new("clock_gettime, a call, against the vDSO", "ns", |bench| {
        Contest::of_program(bench, &bench.program("clock"))
    })
    .judged(Judge::Cost, 1.5, 1.0),
];

pub const WALL: &[Row] = &[Row::new("host system calls that the guest may make", "", host_calls).judged(
    Judge::Amount,
    24.0,
    18.0,
)];

fn smallest(bench: &Bench) -> Result<Contest<'_>> {
    let program = bench.program("getppid");
    let contest = Contest::of_program(bench, &program)?;
    let contest = contest.by_kvm(bench, |place| Ok(prints(bench, &program, place)))?;
    Ok(gvisor::beside(bench, contest, |runsc| {
        Box::new(move || printed(runsc.command(bench.directory(), program.words())))
    }))
}

/// Counted by the binary under test, from the rules that its filters are compiled from.
fn host_calls(bench: &Bench) -> Result<Contest<'_>> {
    let mut doctor = std::process::Command::new(&bench.eyot);
    doctor.args(["doctor", "--format", "json"]);
    let report = run(doctor, b"", LIMIT)?;
    let report: serde_json::Value = serde_json::from_slice(&report.output)?;
    let calls = report["host_calls"].as_array().context("eyot doctor names no host calls")?.len();
    Ok(Contest::alone(Box::new(move || Ok(calls as f64))))
}
