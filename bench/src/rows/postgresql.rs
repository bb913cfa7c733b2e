//! PostgreSQL under pgbench: twenty clients outside, which read, or write as banks do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use eyot_tests::island::{Place, Run};
use eyot_tests::outcome::run;
use eyot_tests::package::{Need, POSTGRESQL, SETPRIV};
use eyot_tests::service::{Service, free_port};

use crate::bench::Bench;
use crate::contest::{Contest, Measure, number};
use crate::launch::LIMIT;
use crate::row::{Judge, Row};

const NEEDS: &[Need] = &[POSTGRESQL, SETPRIV];

pub const ROWS: &[Row] = &[
    Row::new("pgbench, 20 clients, read only", "/s", |bench| load(bench, &["-S"]))
        .judged(Judge::Throughput, 0.8, 1.0)
        .needs(NEEDS),
    Row::new("pgbench, 20 clients, read and write", "/s", |bench| load(bench, &[]))
        .judged(Judge::Throughput, 0.8, 1.0)
        .needs(NEEDS),
];

/// Ten times as many rows as pgbench's clients touch in a round.
const SCALE: &str = "5";

fn program(name: &str) -> String {
    format!("/usr/lib/postgresql/15/bin/{name}")
}

fn load<'a>(bench: &'a Bench, kind: &'static [&str]) -> Result<Contest<'a>> {
    let measure = |place| measure(bench, &place, kind);
    Contest::of(bench, measure)?.by_machines(bench, measure)
}

/// A program of PostgreSQL's as the user it wants to be, natively: it refuses to be root.
fn as_user(words: &[&str]) -> Run {
    let user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"];
    let user = if rustix::process::geteuid().is_root() { &user[..] } else { &[] };
    Run::new(user.iter().chain(words))
}

/// A new database in a directory of its own, served from somewhere.
fn measure<'a>(bench: &'a Bench, place: &Place, kind: &'static [&str]) -> Result<Measure<'a>> {
    let volume = database(bench)?;
    let (data, port) = (data(&volume), free_port()?.to_string());
    let server = program("postgres");
    let words = [&server, "-D", &data, "-p", &port, "-k", "", "-c", "listen_addresses=127.0.0.1"];
    let run = if *place == Place::Native { as_user(&words) } else { Run::new(words) };
    let run = run.option(&["-u", "postgres"]).volume(&volume).publish(port.parse()?);
    let service = Service::start(run.command(place, bench.directory()), bench.directory())?;
    client(bench, &port, &["-i", "-q", "-s", SCALE])?;
    // The time that twenty connections take to open is in it, and not in the rate: a second of a virtual machine's.
    let seconds = (4 * bench.effort.seconds).to_string();
    Ok(Box::new(move || {
        let _keep = &service;
        let load = ["-n", "-c", "20", "-j", "2", "-T", &seconds];
        rate(&client(bench, &port, &[&load, kind].concat())?)
    }))
}

/// Where a volume's database is: a directory that belongs to the server's user.
fn data(volume: &Path) -> String {
    volume.join("data").to_string_lossy().into_owned()
}

fn database(bench: &Bench) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let volume = bench.new_file("database");
    std::fs::create_dir(&volume)?;
    std::fs::set_permissions(&volume, std::fs::Permissions::from_mode(0o777))?;
    let initialize = program("initdb");
    let words = [&initialize[..], "-D", &data(&volume), "-A", "trust", "--no-sync", "-U", "postgres"];
    run(as_user(&words).command(&Place::Native, bench.directory()), b"", LIMIT)?.success()?;
    Ok(volume)
}

/// Runs pgbench; a server that has only just begun refuses it.
fn client(bench: &Bench, port: &str, words: &[&str]) -> Result<String> {
    let program = program("pgbench");
    let to = [&program, "-h", "127.0.0.1", "-p", port, "-U", "postgres"];
    let client = Run::new(to.iter().chain(words).chain(&["postgres"]));
    for _ in 0..300 {
        let outcome = run(client.command(&Place::Native, bench.directory()), b"", LIMIT)?;
        if outcome.code() == 0 {
            return Ok(outcome.text());
        }
        if !outcome.error_text().contains("connection to server") {
            bail!("{outcome}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the server does not answer")
}

fn rate(text: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("tps = "));
    number(line.and_then(|line| line.split(' ').next()).context("pgbench names no rate")?)
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_are_read() {
        let text = "latency average = 0.6 ms\ntps = 31234.567 (without initial connection time)\n";
        assert_eq!(rate(text).expect("there is one"), 31234.567);
        assert!(rate("latency").is_err());
    }
}
