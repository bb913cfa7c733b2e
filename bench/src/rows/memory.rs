//! Memory: how fast it is once the library OS has arranged it, and how much an island takes.

use std::time::Duration;

use anyhow::Result;
use eyot_tests::island::Place;
use eyot_tests::package::REDIS_SERVER;
use eyot_tests::process::proportional_bytes;
use eyot_tests::service::Service;

use crate::bench::Bench;
use crate::contest::Contest;
use crate::row::{Judge, Row};
use crate::rows::{SETTLING, redis};

pub const SPEEDS: &[Row] = &[
    Row::new("a loop that computes", "M/s", |bench| Contest::of_program(bench, &bench.program("compute")))
        .judged(Judge::Throughput, 0.98, 1.0),
    Row::new("steady random reads over 1 GiB", "M/s", |bench| {
        Contest::of_program(bench, &bench.program("random"))
    })
    .judged(Judge::Throughput, 0.95, 1.0),
    Row::new("first touch of 1 GiB, huge pages advised", "GiB/s", |bench| {
        Contest::of_program(bench, &bench.program("touch").argument("advised"))
    })
    .judged(Judge::Throughput, 0.9, 1.0),
    Row::new("first touch of 1 GiB, pages as the host has them", "GiB/s", |bench| {
        Contest::of_program(bench, &bench.program("touch"))
    })
    .judged(Judge::Throughput, 0.9, 1.0),
];

pub const SIZES: &[Row] = &[
    Row::new("memory of an idle C program's island, more", "MiB", |bench| {
        size(bench, |bench, place| {
            let command = bench.program("idle").command(place, bench.directory());
            let mut service = Service::start(command, bench.directory())?;
            service.wait_for_output("ready", Duration::from_secs(10))?;
            Ok(service)
        })
    })
    .judged(Judge::Excess, 8.0, 3.0),
    Row::new("memory of an idle redis's island, more", "MiB", |bench| {
        size(bench, |bench, place| Ok(redis::serve(bench, place)?.0))
    })
    .judged(Judge::Excess, 8.0, 3.0)
    .needs(&[REDIS_SERVER]),
];

/// Started anew for each figure, and alone: pages that both sides shared would count half.
fn size(bench: &Bench, start: fn(&Bench, &Place) -> Result<Service>) -> Result<Contest<'_>> {
    Contest::of(bench, |place| {
        Ok(Box::new(move || {
            let service = start(bench, &place)?;
            std::thread::sleep(SETTLING);
            Ok(proportional_bytes(service.id())? as f64 / f64::from(1 << 20))
        }))
    })
}
