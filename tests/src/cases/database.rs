//! Databases, as Debian packages them: made on a volume, asked from outside, killed, and started again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyot_tests::island::Run;
use eyot_tests::outcome::Outcome;
use eyot_tests::package::{MARIADB, MARIADB_CLIENT, POSTGRESQL};
use eyot_tests::service::{Service, free_port};
use rustix::process::Signal;

use crate::suite::caller::Caller;
use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

pub const CASES: &[Case] = &[
    // It wants a user by his name, whom only an island gives everybody.
    case("database/postgresql-killed", postgresql_killed)
        .needs(&[POSTGRESQL])
        .callers(&[Caller::Root, Caller::Ordinary])
        .limit_s(120),
    case("database/mariadb", mariadb)
        .needs(&[MARIADB, MARIADB_CLIENT])
        .callers(&[Caller::Native, Caller::Root, Caller::Ordinary])
        .limit_s(120),
];

const PATIENCE: Duration = Duration::from_secs(30);

const POSTGRESQL_PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// Clients at a time.
const CLIENTS: usize = 20;

fn postgresql(program: &str) -> String {
    format!("{POSTGRESQL_PROGRAMS}/{program}")
}

fn postgresql_server(volume: &Path, port: u16) -> Run {
    let data = text(&volume.join("data"));
    let words = [&postgresql("postgres"), "-D", &data, "-p", &port.to_string(), "-k", "/tmp"];
    let run = Run::new(words.into_iter().chain(["-c", "listen_addresses=127.0.0.1"]));
    run.option(&["-u", "postgres"]).volume(volume).publish(port)
}

/// Starts a server and waits until it has recovered.
fn postgresql_serve(stage: &Stage, volume: &Path, port: u16) -> Result<Service> {
    let server = stage.start(&postgresql_server(volume, port))?;
    stage.until("the start", || query(stage, port, "select 1"), |answer| answer == "1")?;
    Ok(server)
}

fn query(stage: &Stage, port: u16, statement: &str) -> Result<String> {
    let client = [&postgresql("psql"), "-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres"];
    let options = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement];
    Ok(stage.outside(client.into_iter().chain(options))?.success()?.text().trim().to_string())
}

/// The whole island is killed while twenty clients write; a new one, with the same volume, has every transaction
/// that a client was told of, and none of them by half.
fn postgresql_killed(stage: &Stage) -> Result<()> {
    let volume = stage.make_open_directory("volume")?;
    let words = [&postgresql("initdb"), "-D", &text(&volume.join("data")), "-A", "trust", "--no-sync"];
    stage.run(&Run::new(words).option(&["-u", "postgres"]).volume(&volume))?.success()?;
    let port = free_port()?;
    let mut server = postgresql_serve(stage, &volume, port)?;
    query(stage, port, "create table noted (client int)")?;
    let bench = [&postgresql("pgbench"), "-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres"];
    let made = stage.outside(bench.into_iter().chain(["-i", "-q", "-s", "1", "postgres"]))?;
    made.success()?;
    let reads = ["-S", "-c", "20", "-t", "20", "postgres"];
    stage.outside(bench.into_iter().chain(reads))?.success()?.says("processed: 400/400")?;
    let script = text(&stage.write("noted.sql", "insert into noted values (:client_id);\n")?);
    let clients = CLIENTS.to_string();
    let writes = ["-n", "-c", &clients, "-T", "600", "-l", "-b", "tpcb-like@1", "-f"];
    let words: Vec<&str> = bench.into_iter().chain(writes).chain([&script[..], "postgres"]).collect();
    let mut writers = stage.beside(&words)?;
    let enough = |count: &String| count.parse().is_ok_and(|count: u64| count > 200);
    stage.until("writing", || query(stage, port, "select count(*) from noted"), enough)?;
    server.signal(Signal::KILL);
    server.wait(PATIENCE)?.exits(137)?;
    let ended = writers.wait(PATIENCE)?;
    ensure!(ended.code() == 2, "the clients did not notice\n{ended}");
    let told = acknowledged(&stage.work())?;
    let port = free_port()?;
    let mut server = postgresql_serve(stage, &volume, port)?;
    for (client, told) in told.noted.iter().enumerate() {
        let count = query(stage, port, &format!("select count(*) from noted where client = {client}"))?;
        let there: u64 = count.parse()?;
        ensure!(
            (*told..=told + 1).contains(&there),
            "client {client} was told of {told} rows, {there} are there"
        );
    }
    let there: u64 = query(stage, port, "select count(*) from pgbench_history")?.parse()?;
    let possible = told.transfers..=told.transfers + CLIENTS as u64;
    ensure!(possible.contains(&there), "{} transfers were told of, {there} are there", told.transfers);
    let sum = |column: &str| query(stage, port, &format!("select coalesce(sum({column}"));
    let sums = [
        sum("abalance), 0) from pgbench_accounts")?,
        sum("tbalance), 0) from pgbench_tellers")?,
        sum("bbalance), 0) from pgbench_branches")?,
        sum("delta), 0) from pgbench_history")?,
    ];
    ensure!(sums.iter().all(|sum| *sum == sums[0]), "a transfer is there by half: {sums:?}");
    server.signal(Signal::INT);
    server.wait(PATIENCE)?.exits(0)?.complains("database system is shut down")?;
    Ok(())
}

/// What pgbench's clients were told of.
struct Acknowledged {
    /// Rows, by client.
    noted: [u64; CLIENTS],
    transfers: u64,
}

/// Reads pgbench's log: a line for each transaction that was acknowledged, which begins with client, number, time
/// taken, and script.
fn acknowledged(directory: &Path) -> Result<Acknowledged> {
    let mut told = Acknowledged { noted: [0; CLIENTS], transfers: 0 };
    for entry in fs::read_dir(directory)?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("pgbench_log") {
            continue;
        }
        for line in fs::read_to_string(entry.path())?.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.get(3) {
                Some(&"0") => told.transfers += 1,
                _ => *told.noted.get_mut(words[0].parse::<usize>()?).context("no such client")? += 1,
            }
        }
    }
    ensure!(told.transfers > 0 && told.noted.iter().sum::<u64>() > 0, "nobody was told of anything");
    Ok(told)
}

fn mariadb(stage: &Stage) -> Result<()> {
    let volume = stage.make_open_directory("volume")?;
    let data = format!("--datadir={}", text(&volume.join("data")));
    let root: &[&str] = if stage.setting.caller == Caller::Root { &["--user=root"] } else { &[] };
    let install = ["mariadb-install-db", "--no-defaults", &data, "--skip-test-db", "--skip-name-resolve"];
    let normal = ["--auth-root-authentication-method=normal"];
    let words = install.iter().chain(&normal).chain(root);
    stage.run(&Run::new(words).volume(&volume))?.success()?;
    let port = free_port()?;
    let socket = format!("--socket={}", text(&volume.join("socket")));
    let port_word = format!("--port={port}");
    let server = ["mariadbd", "--no-defaults", &data, &socket, &port_word, "--bind-address=127.0.0.1"];
    let sizes = ["--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M"];
    let words = server.iter().chain(&sizes).chain(root);
    let mut server = stage.serve(&Run::new(words).volume(&volume).publish(port), port)?;
    let ask = |statement: &str| -> Result<Outcome> {
        let client = ["mariadb", "--no-defaults", "-h127.0.0.1", &port_word, "-uroot", "-N", "-e", statement];
        stage.outside(client)?.success()
    };
    ask("create database d; create table d.t (n int primary key, s varchar(20)) engine = innodb")?;
    ask("use d; insert into t select seq, concat('row ', seq) from seq_1_to_10000")?;
    ask("start transaction; delete from d.t; rollback; update d.t set s = 'last' where n = 10000")?;
    ask("select count(*), sum(n), min(s), max(s) from d.t")?.prints("10000\t50005000\tlast\trow 9999\n")?;
    server.terminate()?.exits(0)?.complains("Shutdown complete")?;
    Ok(())
}
