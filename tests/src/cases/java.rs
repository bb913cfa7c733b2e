//! OpenJDK 17: compiled code, garbage collectors, threads, and an HTTP server asked from outside.

use anyhow::Result;
use eyot_tests::build::{Toolchain, name};
use eyot_tests::engine::Engine;
use eyot_tests::island::Run;
use eyot_tests::package::{CURL, JAVA, JAVAC, WRK};
use eyot_tests::service::free_port;

use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("java/work", work).needs(&[JAVA, JAVAC]).limit_s(180),
    case("java/http-server", http_server).needs(&[JAVA, JAVAC, CURL, WRK]).limit_s(120),
];

/// A virtual machine with a collector, running a compiled class.
fn java(stage: &Stage, class: &str, collector: &str) -> Run {
    let classes = text(&stage.programs.join(name(class, Toolchain::Java)));
    let words = [JAVA.path, collector, "-Xmx256m", "-Xshare:auto", "-cp", &classes, class];
    let run = Run::new(words).readable(&stage.programs);
    // QEMU's processors read instructions piece by piece, while HotSpot's compiler patches them on another one: Linux
    // as its guest loses programs to that as well (`tests/programs/patched_code.c` shows it in seconds).
    if stage.setting.engine == Engine::Qemu { run.option(&["--cpus", "1"]) } else { run }
}

fn work(stage: &Stage) -> Result<()> {
    for collector in ["-XX:+UseG1GC", "-XX:+UseSerialGC", "-XX:+UseParallelGC"] {
        stage.compare(&java(stage, "Work", collector))?.success()?.says("done\n")?;
    }
    Ok(())
}

fn http_server(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let run = java(stage, "Server", "-XX:+UseG1GC").argument(port.to_string()).publish(port);
    let mut server = stage.serve(&run, port)?;
    let base = format!("http://127.0.0.1:{port}/path");
    stage.outside(["curl", "-sSf", &base])?.success()?.prints("GET /path\n")?;
    stage.outside(["wrk", "-t", "1", "-c", "50", "-d", "4s", &base])?.success()?.says("requests in")?;
    server.terminate()?.exits(143)?.says("closed\n")?;
    Ok(())
}
