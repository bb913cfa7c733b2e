//! Guests that QEMU emulates: an image of `eyot build` against the same program above Debian's kernel.
//!
//! Beside what clients see stands the same by a second of QEMU's processor time, which a busy machine
//! disturbs less.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};
use eyot_tests::package::{
    BUSYBOX, CPIO, IP, IPERF, LINUX, NGINX, Need, QEMU, REDIS_BENCHMARK, REDIS_SERVER, TUN, UNSHARE, WRK,
};
use eyot_tests::scratch::Scratch;

use crate::bench::Bench;
use crate::contest::{Contest, Measure};
use crate::emulator::{Guest, small_machine};
use crate::image::{ADDRESS, Image, Program};
use crate::launch::first_line_ms;
use crate::row::{Judge, Row};
use crate::rows::{nginx, redis};

const REDIS: &[Need] = &[QEMU, LINUX, BUSYBOX, CPIO, IP, TUN, UNSHARE, REDIS_SERVER, REDIS_BENCHMARK];

const fn redis_row(name: &'static str, begin: fn(&Bench) -> Result<Contest<'_>>) -> Row {
    Row::new(name, "/s", begin).judged(Judge::Throughput, 1.5, 2.5).needs(REDIS)
}

const fn bulk_row(name: &'static str, begin: fn(&Bench) -> Result<Contest<'_>>) -> Row {
    let needs = &[QEMU, LINUX, BUSYBOX, CPIO, IP, TUN, UNSHARE, IPERF];
    Row::new(name, "Mbit/s", begin).judged(Judge::Throughput, 1.0, 2.0).needs(needs)
}

pub const ROWS: &[Row] = &[
    Row::new("QEMU: to the first line, against Debian's kernel", "ms", start)
        .judged(Judge::Cost, 0.12, 0.05)
        .needs(&[QEMU, LINUX, BUSYBOX, CPIO]),
    redis_row("QEMU: redis SET, 50 clients, pipeline 1", |bench| redis_load(bench, "set", 1)),
    redis_row("QEMU: redis GET, 50 clients, pipeline 1", |bench| redis_load(bench, "get", 1)),
    redis_row("QEMU: redis SET, 50 clients, pipeline 16", |bench| redis_load(bench, "set", 16)),
    redis_row("QEMU: redis GET, 50 clients, pipeline 16", |bench| redis_load(bench, "get", 16)),
    Row::new("QEMU: nginx, 1 kB file, 50 connections", "/s", nginx_load)
        .judged(Judge::Throughput, 1.5, 2.5)
        .needs(&[QEMU, LINUX, BUSYBOX, CPIO, IP, TUN, UNSHARE, NGINX, WRK]),
    bulk_row("QEMU: bulk TCP to the guest", |bench| bulk(bench, false)),
    bulk_row("QEMU: bulk TCP from the guest", |bench| bulk(bench, true)),
];

fn start(bench: &Bench) -> Result<Contest<'_>> {
    const LINE: &str = "the first line";
    /// Debian's side takes seconds, and there are rounds.
    const MOST: usize = 2;
    let program = Program { words: &[BUSYBOX.path, "echo", LINE], files: &[], networked: false };
    let side = |image: Image| -> Measure<'_> {
        let launches = bench.effort.launches.min(MOST);
        Box::new(move || first_line_ms(launches, LINE, || small_machine(bench, &image)))
    };
    let (debian, eyot) = (Image::debian(bench, &program)?, Image::eyot(bench, &program)?);
    Ok(Contest::between(side(debian), side(eyot)))
}

/// What a client's words say of how many requests or bits it moved in a second.
type Rate = fn(&str) -> Result<f64>;

/// Both sides under the same client. One guest is started after the other, and both stay: an idle one takes
/// next to nothing.
fn load<'a>(
    bench: &'a Bench,
    program: &Program<'_>,
    ready: &[&str],
    client: &[&str],
    rate: Rate,
) -> Result<Contest<'a>> {
    let (native, native_time) = side(bench, &Image::debian(bench, program)?, ready, client, rate)?;
    let (eyot, eyot_time) = side(bench, &Image::eyot(bench, program)?, ready, client, rate)?;
    Ok(Contest::between(native, eyot).also("the same, a second of QEMU's time", native_time, eyot_time))
}

/// One side: what a client sees, and then the same a second of processor time.
fn side<'a>(
    bench: &'a Bench,
    image: &Image,
    ready: &[&str],
    client: &[&str],
    rate: Rate,
) -> Result<(Measure<'a>, Measure<'a>)> {
    let mut guest = Guest::start(bench, image)?;
    guest.await_answer(ready)?;
    let client: Vec<String> = client.iter().map(|word| word.to_string()).collect();
    let by_time = Rc::new(Cell::new(f64::NAN));
    let seen = by_time.clone();
    let measure = move || {
        let words: Vec<&str> = client.iter().map(String::as_str).collect();
        let begin = std::time::Instant::now();
        let (text, processor) = guest.serve(&words)?;
        let rate = rate(&text)?;
        by_time.set(rate * begin.elapsed().as_secs_f64() / processor);
        Ok(rate)
    };
    Ok((Box::new(measure), Box::new(move || Ok(seen.get()))))
}

fn redis_load<'a>(bench: &'a Bench, test: &str, pipeline: u32) -> Result<Contest<'a>> {
    /// Requests a second of pipeline, about what an emulated core answers.
    const RATE: u32 = 6_000;
    let words = ["--save", "", "--bind", "0.0.0.0", "--protected-mode", "no"];
    let words = [&[REDIS_SERVER.path][..], &words].concat();
    let program = Program { words: &words, files: &[], networked: true };
    let requests = (RATE * bench.effort.seconds * pipeline.min(4)).to_string();
    let pipeline = pipeline.to_string();
    let ready = ["redis-cli", "-h", ADDRESS, "set", "key:__rand_int__", "xxx"];
    let client = ["redis-benchmark", "-h", ADDRESS, "-c", "50", "-P", &pipeline, "-n", &requests];
    let client = [&client[..], &["-t", test, "-q", "--csv"]].concat();
    load(bench, &program, &ready, &client, redis::rate)
}

fn nginx_load(bench: &Bench) -> Result<Contest<'_>> {
    const PORT: u16 = 80;
    // Not below /tmp, which is empty in a guest; what is in it is in the images once they are made.
    let scratch = Scratch::within(Path::new("/var/tmp"))?;
    let state = scratch.path();
    let (page, configuration) = (state.join("page"), state.join("nginx.conf"));
    fs::write(&page, "x".repeat(1000))?;
    fs::write(&configuration, nginx::configuration(state, state, PORT))?;
    let path = configuration.to_string_lossy().into_owned();
    let words = [NGINX.path, "-c", &path, "-e", "stderr", "-g", "daemon off; master_process off;"];
    // Who it is to run as is looked up.
    let users = ["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"].map(PathBuf::from);
    let files: Vec<PathBuf> =
        [page, configuration].into_iter().chain(users).filter(|path| path.exists()).collect();
    let program = Program { words: &words, files: &files, networked: true };
    let address = format!("http://{ADDRESS}/page");
    let duration = format!("{}s", bench.effort.seconds);
    let ready = ["wrk", "-t", "1", "-c", "1", "-d", "1s", &address];
    load(bench, &program, &ready, &["wrk", "-t", "1", "-c", "50", "-d", &duration, &address], nginx::rate)
}

/// Bytes that a client moves in a second, and the server takes or sends.
fn bulk(bench: &Bench, from_guest: bool) -> Result<Contest<'_>> {
    let program = Program { words: &[IPERF.path, "-s"], files: &[], networked: true };
    let seconds = bench.effort.seconds.to_string();
    let ready = ["iperf3", "-c", ADDRESS, "-n", "1"];
    let direction: &[&str] = if from_guest { &["-R"] } else { &[] };
    let client = [&["iperf3", "-J", "-c", ADDRESS, "-t", &seconds], direction].concat();
    let rate: Rate = if from_guest { received_here } else { received_there };
    load(bench, &program, &ready, &client, rate)
}

/// Bits that arrived in a second, by this machine's clock, whoever received them.
fn received_here(report: &str) -> Result<f64> {
    received(report, "sum_received")
}

fn received_there(report: &str) -> Result<f64> {
    received(report, "sum_sent")
}

fn received(report: &str, clock: &str) -> Result<f64> {
    let report: serde_json::Value = serde_json::from_str(report)?;
    let end = &report["end"];
    let bytes = end["sum_received"]["bytes"].as_f64().context("iperf3 says not how much it received")?;
    let seconds = end[clock]["seconds"].as_f64().context("iperf3 says not how long it took")?;
    Ok(bytes * 8e-6 / seconds)
}

#[cfg(test)]
mod tests {
    use super::{received_here, received_there};

    #[test]
    fn bits_are_counted_by_our_own_clock() {
        let report = r#"{"end": {"sum_sent": {"seconds": 2.0, "bytes": 9000000},
                                 "sum_received": {"seconds": 1.0, "bytes": 1000000}}}"#;
        assert_eq!(received_here(report).expect("all is said"), 8.0);
        assert_eq!(received_there(report).expect("all is said"), 4.0);
        assert!(received_here("{}").is_err());
    }
}
