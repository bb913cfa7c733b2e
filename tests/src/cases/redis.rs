//! redis-server: many clients, pipelines, and an append-only file that outlives the island.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use eyot_tests::island::Run;
use eyot_tests::package::{REDIS_BENCHMARK, REDIS_SERVER};
use eyot_tests::service::{Service, free_port};

use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    case("redis/clients", clients).needs(&[REDIS_SERVER, REDIS_BENCHMARK]),
    case("redis/append-only-file", append_only_file).needs(&[REDIS_SERVER, REDIS_BENCHMARK]),
    case("redis/killed-keeps-data", killed_keeps_data).needs(&[REDIS_SERVER, REDIS_BENCHMARK]),
    case("redis/commands", commands).needs(&[REDIS_SERVER, REDIS_BENCHMARK]),
];

/// A server without snapshots.
fn server(port: u16) -> Run {
    Run::new(["redis-server", "--port", &port.to_string(), "--save", ""]).publish(port)
}

/// A server that keeps its data on a volume.
fn keeping(port: u16, volume: &Path) -> Run {
    let words = ["redis-server", "--port", &port.to_string(), "--save", "", "--dir", &text(volume)];
    let options = ["--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"];
    Run::new(words.iter().chain(&options)).volume(volume).publish(port)
}

/// Starts a server and waits until it has loaded its data: it listens before that.
fn serve(stage: &Stage, run: &Run, port: u16) -> Result<Service> {
    let service = stage.serve(run, port)?;
    for _ in 0..1000 {
        if ask(stage, port, &["ping"])? == "PONG" {
            return Ok(service);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    bail!("the server loads its data for ever")
}

fn ask(stage: &Stage, port: u16, words: &[&str]) -> Result<String> {
    let port = port.to_string();
    let command = ["redis-cli", "-p", &port].into_iter().chain(words.iter().copied());
    Ok(stage.outside(command)?.success()?.text().trim().to_string())
}

fn clients(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let mut redis = serve(stage, &server(port), port)?;
    let port_word = port.to_string();
    let benchmark = ["redis-benchmark", "-p", &port_word, "-c", "50", "-q", "--csv"];
    let tests = ["-n", "10000", "-t", "ping,set,get,incr,lpush,lrange_100,mset"];
    stage.outside(benchmark.iter().chain(&tests))?.success()?.says("\"SET\"")?;
    let pipelined = ["-n", "50000", "-P", "16", "-d", "1000", "-r", "1000", "-t", "set,get"];
    stage.outside(benchmark.iter().chain(&pipelined))?.success()?.says("\"GET\"")?;
    ensure!(ask(stage, port, &["dbsize"])?.parse::<u32>()? > 900, "keys are missing");
    redis.terminate()?.exits(0)?.says("ready to exit, bye bye")?;
    Ok(())
}

fn append_only_file(stage: &Stage) -> Result<()> {
    let volume = stage.make_directory("volume")?;
    let port = free_port()?;
    let mut redis = serve(stage, &keeping(port, &volume), port)?;
    for number in 0..50 {
        let answer = ask(stage, port, &["set", &format!("key-{number}"), &"value".repeat(number)])?;
        ensure!(answer == "OK", "a write was refused: {answer}");
    }
    redis.terminate()?.exits(0)?;
    ensure!(volume.join("appendonlydir").is_dir(), "nothing was kept in {}", volume.display());
    let port = free_port()?;
    let mut redis = serve(stage, &keeping(port, &volume), port)?;
    let size = ask(stage, port, &["dbsize"])?;
    ensure!(size == "50", "keys were lost: {size}");
    ensure!(ask(stage, port, &["get", "key-7"])? == "value".repeat(7), "a value was lost");
    redis.terminate()?.exits(0)?;
    Ok(())
}

/// What was acknowledged is kept, however the island ends.
fn killed_keeps_data(stage: &Stage) -> Result<()> {
    let volume = stage.make_directory("volume")?;
    let port = free_port()?;
    let mut redis = serve(stage, &keeping(port, &volume), port)?;
    for number in 0..20 {
        ensure!(ask(stage, port, &["rpush", "list", &number.to_string()])? == (number + 1).to_string());
    }
    redis.signal(rustix::process::Signal::KILL);
    redis.wait(std::time::Duration::from_secs(5))?.exits(137)?;
    let port = free_port()?;
    let mut redis = serve(stage, &keeping(port, &volume), port)?;
    let length = ask(stage, port, &["llen", "list"])?;
    ensure!(length == "20", "acknowledged writes were lost: {length}");
    redis.terminate()?.exits(0)?;
    Ok(())
}

fn commands(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    let mut redis = serve(stage, &server(port), port)?;
    let script = "for i = 1, 1000 do redis.call('zadd', 'z', i, i) end return redis.call('zcard', 'z')";
    ensure!(ask(stage, port, &["eval", script, "0"])? == "1000");
    ensure!(ask(stage, port, &["set", "short", "x", "px", "30"])? == "OK");
    std::thread::sleep(std::time::Duration::from_millis(60));
    ensure!(ask(stage, port, &["exists", "short"])? == "0", "a key did not expire");
    ensure!(ask(stage, port, &["blpop", "nothing", "0.05"])?.is_empty());
    ensure!(ask(stage, port, &["config", "get", "maxclients"])?.starts_with("maxclients"));
    ensure!(ask(stage, port, &["info", "server"])?.contains("redis_version"));
    ensure!(ask(stage, port, &["unlink", "z"])? == "1", "a background thread frees this");
    let mut rude = std::net::TcpStream::connect(("127.0.0.1", port))?;
    std::io::Write::write_all(&mut rude, b"*3\r\n$3\r\nSET\r\n$3\r\n")?;
    drop(rude);
    ensure!(ask(stage, port, &["ping"])? == "PONG");
    redis.terminate()?.exits(0)?;
    Ok(())
}
