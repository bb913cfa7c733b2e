//! Virtual machines by KVM, and the kernel in them.

use anyhow::Result;
use eyot_tests::island::{Place, Run};
use eyot_tests::package::{BUSYBOX, KVM, REDIS_BENCHMARK, REDIS_SERVER};
use eyot_tests::process::own_bytes;
use eyot_tests::service::{Service, free_port};

use crate::bench::Bench;
use crate::contest::{Contest, prints};
use crate::image::{Image, Program};
use crate::launch::wall;
use crate::row::{Judge, Row};
use crate::rows::{SETTLING, redis};

const fn redis_row(name: &'static str, begin: fn(&Bench) -> Result<Contest<'_>>, bar: f64) -> Row {
    Row::new(name, "/s", begin).judged(Judge::Throughput, bar, 0.9).needs(&[
        KVM,
        REDIS_SERVER,
        REDIS_BENCHMARK,
    ])
}

pub const ROWS: &[Row] = &[
    Row::new("kernel image, without its service", "MiB", kernel)
        .judged(Judge::Amount, 3.0, 1.0)
        .needs(&[BUSYBOX]),
    Row::new("KVM: busybox true, wall, against pico", "ms", smallest)
        .judged(Judge::Cost, 3.0, 1.2)
        .needs(&[KVM, BUSYBOX]),
    redis_row("KVM: redis SET, 50 clients, pipeline 1", |bench| redis_load(bench, "set", 1), 0.5),
    redis_row("KVM: redis GET, 50 clients, pipeline 1", |bench| redis_load(bench, "get", 1), 0.5),
    redis_row("KVM: redis SET, 50 clients, pipeline 16", |bench| redis_load(bench, "set", 16), 0.8),
    redis_row("KVM: redis GET, 50 clients, pipeline 16", |bench| redis_load(bench, "get", 16), 0.8),
    Row::new("KVM: two busy threads, times as fast as one", "", |bench| {
        let program = bench.program("busy");
        let native = prints(bench, &program, Place::Native);
        Ok(Contest::between(native, prints(bench, &program.option(&["--cpus", "2"]), bench.machine())))
    })
    .judged(Judge::Gain, 1.8, 2.0)
    .needs(&[KVM]),
    Row::new("KVM: own memory, busybox httpd", "MiB", |bench| size(bench, web))
        .judged(Judge::Amount, 16.0, 5.0)
        .needs(&[KVM, BUSYBOX]),
    Row::new("KVM: own memory, idle redis", "MiB", |bench| {
        size(bench, |bench| Ok(redis::serve(bench, &bench.machine())?.0))
    })
    .judged(Judge::Amount, 32.0, 8.0)
    .needs(&[KVM, REDIS_SERVER]),
];

fn kernel(bench: &Bench) -> Result<Contest<'_>> {
    let program = Program { words: &[BUSYBOX.path], files: &[], networked: false };
    let bytes = Image::eyot(bench, &program)?.kernel_bytes()?;
    Ok(Contest::alone(Box::new(move || Ok(bytes as f64 / f64::from(1 << 20)))))
}

fn smallest(bench: &Bench) -> Result<Contest<'_>> {
    let program = Run::new(["busybox", "true"]);
    let pico = wall(bench, program.clone(), bench.island())?;
    Ok(Contest::between(pico, wall(bench, program, bench.machine())?))
}

fn redis_load<'a>(bench: &'a Bench, test: &str, pipeline: u32) -> Result<Contest<'a>> {
    redis::load(bench, test, pipeline, [Place::Native, bench.machine()])
}

fn web(bench: &Bench) -> Result<Service> {
    let port = free_port()?;
    let server =
        Run::new(["busybox", "httpd", "-f", "-p", &port.to_string(), "-h", "/usr/share"]).publish(port);
    Service::listening(server.command(&bench.machine(), bench.directory()), bench.directory(), port)
}

/// What monitor and VMM hold of their own, the guest's memory above all: not their programs' text, nor the
/// host's cache of files. Started anew for each figure.
fn size(bench: &Bench, start: fn(&Bench) -> Result<Service>) -> Result<Contest<'_>> {
    Ok(Contest::alone(Box::new(move || {
        let service = start(bench)?;
        std::thread::sleep(SETTLING);
        Ok(own_bytes(service.id())? as f64 / f64::from(1 << 20))
    })))
}
