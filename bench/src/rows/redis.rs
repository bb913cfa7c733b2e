//! redis under load: the client outside, fifty connections, short and long pipelines.

use anyhow::{Context, Result};
use eyot_tests::island::{Place, Run};
use eyot_tests::outcome::run;
use eyot_tests::package::{REDIS_BENCHMARK, REDIS_SERVER};
use eyot_tests::service::{Service, free_port};

use crate::bench::Bench;
use crate::contest::{Contest, Measure, number};
use crate::launch::LIMIT;
use crate::row::{Judge, Row};

const NEEDS: &[eyot_tests::package::Need] = &[REDIS_SERVER, REDIS_BENCHMARK];

const fn row(name: &'static str, begin: fn(&Bench) -> Result<Contest<'_>>, bar: f64) -> Row {
    Row::new(name, "/s", begin).judged(Judge::Throughput, bar, 1.0).needs(NEEDS)
}

pub const ROWS: &[Row] = &[
    row("redis SET, 50 clients, pipeline 1", |bench| here(bench, "set", 1), 0.85),
    row("redis GET, 50 clients, pipeline 1", |bench| here(bench, "get", 1), 0.85),
    row("redis SET, 50 clients, pipeline 16", |bench| here(bench, "set", 16), 0.95),
    row("redis GET, 50 clients, pipeline 16", |bench| here(bench, "get", 16), 0.95),
];

/// Requests a second of pipeline, about what a core answers: so rounds last as long as wanted.
const RATE: u32 = 40_000;

fn here<'a>(bench: &'a Bench, test: &str, pipeline: u32) -> Result<Contest<'a>> {
    load(bench, test, pipeline, [Place::Native, bench.island()])
}

/// The same load in two places.
pub fn load<'a>(bench: &'a Bench, test: &str, pipeline: u32, places: [Place; 2]) -> Result<Contest<'a>> {
    let requests = RATE * bench.effort.seconds * pipeline.min(8);
    let [native, eyot] = places.map(|place| measure(bench, &place, test, pipeline, requests));
    Ok(Contest::between(native?, eyot?))
}

fn measure<'a>(
    bench: &'a Bench,
    place: &Place,
    test: &str,
    pipeline: u32,
    requests: u32,
) -> Result<Measure<'a>> {
    let (service, port) = serve(bench, place)?;
    let [port, pipeline, requests] = [u32::from(port), pipeline, requests].map(|number| number.to_string());
    let words = ["redis-benchmark", "-p", &port, "-c", "50", "-P", &pipeline, "-n", &requests];
    // What is read is there: a miss would be answered by less.
    let key = Run::new(["redis-cli", "-p", &port, "set", "key:__rand_int__", "xxx"]);
    run(key.command(&Place::Native, bench.directory()), b"", LIMIT)?.success()?.says("OK")?;
    let client = Run::new(words.iter().chain(&["-t", test, "-q", "--csv"]));
    Ok(Box::new(move || {
        let _keep = &service;
        let outcome = run(client.command(&Place::Native, bench.directory()), b"", LIMIT)?.success()?;
        rate(&outcome.text())
    }))
}

/// A server with nothing in it, which keeps nothing.
pub fn serve(bench: &Bench, place: &Place) -> Result<(Service, u16)> {
    let port = free_port()?;
    let words = ["redis-server", "--port", &port.to_string(), "--save", ""];
    // As the README has it: without protected mode a server says what it listens on.
    let open = ["--bind", "0.0.0.0", "--protected-mode", "no"];
    let server = Run::new(words.iter().chain(&open)).publish(port);
    let command = server.command(place, bench.directory());
    Ok((Service::listening(command, bench.directory(), port)?, port))
}

/// From the second field of the last line, which is quoted.
pub fn rate(text: &str) -> Result<f64> {
    let line = text.lines().last().unwrap_or_default();
    let field = line.split(',').nth(1).with_context(|| format!("no rate in “{line}”"))?;
    number(field.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::rate;

    #[test]
    fn rates_are_read() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"81234.50\",\"0.3\"\n";
        assert_eq!(rate(text).expect("there is one"), 81234.5);
        assert!(rate("").is_err());
    }
}
