//! The project's own commands: `cargo xtask test`, `tidy`, `bench`, `conformance`.
#![forbid(unsafe_code)]

mod bench;
mod conformance;
mod count;
mod test;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

const USAGE: &str = "\
cargo xtask COMMAND

  test [--case TEXT] [--caller NAME] [--pending] [--suite-only]
        builds, checks, runs the unit tests, then the end-to-end suite against target/release/eyot
  tidy
        checks layers, unsafe code, openings, paths, formatting, clippy and the guest image's instructions
  bench [--only TEXT] [--rounds N] [--quick] [--json FILE] [--list]
        builds, measures target/release/eyot against this machine, prints one table and writes
        target/bench.json
  conformance [SUITE…] [--engine ENGINE] [--fast] [--only TEXT] [--list] [--reuse] [--write]
        runs other people's test suites natively and on an island, prints what differs and a table;
        --fast takes a fixed part, --reuse the native verdicts of the last run, --write renews the
        table in docs/conformance.md
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    std::env::set_current_dir(root)?;
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match command.as_str() {
        "test" => test::run(&rest),
        "tidy" => tidy::run(root),
        "bench" => bench::run(&rest),
        "conformance" => conformance::run(&rest),
        _ => {
            eprint!("{USAGE}");
            Ok(matches!(command.as_str(), "help" | "--help" | "-h"))
        }
    }
}
