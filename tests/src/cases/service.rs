//! Servers of several processes, as Debian packages them: asked from outside, reloaded, killed, and started again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eyot_tests::island::{Place, Run};
use eyot_tests::outcome::Outcome;
use eyot_tests::package::{
    CURL, MARIADB, MARIADB_CLIENT, NGINX, POSTGRESQL, REDIS_BENCHMARK, REDIS_SERVER, SSH, SSHD, SUPERVISOR,
};
use eyot_tests::service::{Service, free_port};
use rustix::process::Signal;

use crate::suite::caller::Caller;
use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

/// Without those who are denied user namespaces: what these servers do differs by it no more than what others do.
const FEW: &[Caller] = &[Caller::Native, Caller::Root, Caller::Ordinary];
/// For servers that want users by their names, which only an island gives everybody.
const NAMED: &[Caller] = &[Caller::Root, Caller::Ordinary];

pub const CASES: &[Case] = &[
    case("service/postgresql-killed", postgresql_killed).needs(&[POSTGRESQL]).callers(NAMED).limit_s(120),
    case("service/mariadb", mariadb).needs(&[MARIADB, MARIADB_CLIENT]).callers(FEW).limit_s(120),
    case("service/redis-snapshot", redis_snapshot).needs(&[REDIS_SERVER, REDIS_BENCHMARK]).callers(FEW),
    case("service/nginx-workers", nginx_workers).needs(&[NGINX, CURL]).callers(FEW),
    case("service/supervisord", supervisord).needs(&[SUPERVISOR]).callers(FEW),
    case("service/sshd", sshd).needs(&[SSHD, SSH]).callers(&[Caller::Root]),
];

const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until the answer is as wanted, as long as it may take the setting.
fn until<Answer>(
    stage: &Stage,
    what: &str,
    mut ask: impl FnMut() -> Result<Answer>,
    wanted: impl Fn(&Answer) -> bool,
) -> Result<Answer> {
    let deadline = Instant::now() + PATIENCE * stage.setting.engine.patience();
    loop {
        let answer = ask();
        if answer.as_ref().is_ok_and(&wanted) {
            return answer;
        }
        if Instant::now() > deadline {
            answer?;
            anyhow::bail!("{what} takes for ever");
        }
        sleep(Duration::from_millis(50));
    }
}

/// A directory that whichever user a server becomes may write to.
fn volume(stage: &Stage) -> Result<PathBuf> {
    let volume = stage.make_directory("volume")?;
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o777))?;
    Ok(volume)
}

/// Starts a client outside, which goes on beside the test.
fn beside(stage: &Stage, words: &[&str]) -> Result<Service> {
    Service::start(Run::new(words).command(&Place::Native, &stage.directory), &stage.directory)
}

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
    until(stage, "the start", || query(stage, port, "select 1"), |answer| answer == "1")?;
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
    let volume = volume(stage)?;
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
    let mut writers = beside(stage, &words)?;
    let enough = |count: &String| count.parse().is_ok_and(|count: u64| count > 200);
    until(stage, "writing", || query(stage, port, "select count(*) from noted"), enough)?;
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
    let volume = volume(stage)?;
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

/// A snapshot while twenty clients change two numbers at a time: the numbers are as many as each other in it.
fn redis_snapshot(stage: &Stage) -> Result<()> {
    let volume = volume(stage)?;
    let start = || -> Result<(Service, String)> {
        let port = free_port()?;
        let words = ["redis-server", "--port", &port.to_string(), "--save", "", "--dir", &text(&volume)];
        Ok((stage.serve(&Run::new(words).volume(&volume).publish(port), port)?, port.to_string()))
    };
    let ask = |port: &str, words: &[&str]| -> Result<String> {
        let command = ["redis-cli", "-p", port].into_iter().chain(words.iter().copied());
        Ok(stage.outside(command)?.success()?.text().trim().to_string())
    };
    let (mut redis, port) = start()?;
    let fill = "for i = 1, 100000 do redis.call('set', 'key' .. i, 'value' .. i) end";
    ask(&port, &["eval", fill, "0"])?;
    let both = "redis.call('incr', 'a') redis.call('incr', 'b')";
    let many = ["redis-benchmark", "-p", &port, "-c", "20", "-n", "100000000", "-q", "eval", both, "0"];
    let load = beside(stage, &many)?;
    let number = |text: &String| text.parse().is_ok_and(|number: u64| number > 100);
    until(stage, "load", || ask(&port, &["get", "a"]), number)?;
    ensure!(ask(&port, &["bgsave"])?.contains("started"), "no snapshot was begun");
    let done = |state: &String| state.contains("rdb_bgsave_in_progress:0");
    let state = until(stage, "the snapshot", || ask(&port, &["info", "persistence"]), done)?;
    ensure!(state.contains("rdb_last_bgsave_status:ok"), "the snapshot failed: {state}");
    let later: u64 = ask(&port, &["get", "a"])?.parse()?;
    redis.signal(Signal::KILL);
    redis.wait(PATIENCE)?.exits(137)?;
    drop(load);
    let (mut redis, port) = start()?;
    let loaded = |answer: &String| answer == "PONG";
    until(stage, "loading", || ask(&port, &["ping"]), loaded)?;
    let (a, b) = (ask(&port, &["get", "a"])?, ask(&port, &["get", "b"])?);
    ensure!(a == b && a.parse::<u64>()? <= later, "the snapshot has {a} and {b}, before there were {later}");
    ensure!(ask(&port, &["dbsize"])? == "100002" && ask(&port, &["get", "key77777"])? == "value77777");
    redis.terminate()?.exits(0)?;
    Ok(())
}

/// Three workers, other ones after a new configuration, and an orderly end.
fn nginx_workers(stage: &Stage) -> Result<()> {
    let state = volume(stage)?;
    let state_text = text(&state);
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {state_text}/{name}; "))
        .concat();
    let port = free_port()?;
    let configure = |answer: &str| {
        let configuration = format!(
            "worker_processes 3; pid {state_text}/pid; error_log stderr notice; events {{}}\nhttp {{ {places}\n\
             access_log off; server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"{answer} $pid\"; }} }} }}\n"
        );
        fs::write(state.join("nginx.conf"), configuration)
    };
    configure("first")?;
    let words =
        ["nginx", "-c", &format!("{state_text}/nginx.conf"), "-e", "stderr", "-g", "daemon off; user root;"];
    let mut nginx = stage.serve(&Run::new(words).volume(&state).publish(port), port)?;
    let address = format!("http://127.0.0.1:{port}/");
    let get = || Ok(stage.outside(["curl", "-sSf", &address])?.success()?.text());
    let workers = |answer: &str| -> Result<BTreeSet<String>> {
        let answers = (0..30).map(|_| get()).collect::<Result<BTreeSet<String>>>()?;
        ensure!(answers.iter().all(|each| each.starts_with(answer)), "not all are {answer}: {answers:?}");
        Ok(answers)
    };
    let first = workers("first")?;
    configure("second")?;
    nginx.signal(Signal::HUP);
    until(stage, "the new configuration", get, |answer| answer.starts_with("second"))?;
    let mut second = BTreeSet::new();
    until(
        stage,
        "the end of the old workers",
        || {
            second = workers("second")?;
            Ok(())
        },
        |()| true,
    )?;
    let id = |answer: &String| answer.split(' ').nth(1).map(str::to_string);
    let (first, second): (BTreeSet<_>, BTreeSet<_>) =
        (first.iter().map(id).collect(), second.iter().map(id).collect());
    ensure!(first.is_disjoint(&second) && first.len() <= 3, "workers {first:?}, then {second:?}");
    nginx.signal(Signal::QUIT);
    let said = nginx.wait(PATIENCE)?.exits(0)?.error_text();
    let count = |what: &str| said.matches(what).count();
    let counts = (count("start worker process "), count("exited with code 0"));
    ensure!(counts == (6, 6), "not six workers in all: {counts:?}\n{said}");
    Ok(())
}

/// Two daemons are kept: one that is killed comes back.
fn supervisord(stage: &Stage) -> Result<()> {
    let port = free_port()?;
    // The default is files that stay.
    let silent = "stdout_logfile=NONE\nstderr_logfile=NONE\n";
    let configuration = format!(
        "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=none\n\
         [inet_http_server]\nport=127.0.0.1:{port}\n\
         [supervisorctl]\nserverurl=http://127.0.0.1:{port}\n[rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\
         [program:first]\ncommand=sleep 1000\n{silent}\
         [program:second]\ncommand=bash -c \"while :; do sleep 1; done\"\nstopasgroup=true\n{silent}"
    );
    let configuration = text(&stage.write("supervisord.conf", configuration)?);
    let run = Run::new(["supervisord", "-c", &configuration]).publish(port);
    let mut supervisor = stage.serve(&run, port)?;
    let ask = |words: &[&str]| {
        let command = ["supervisorctl", "-c", &configuration].into_iter().chain(words.iter().copied());
        // The status says by a number of its own that something does not run.
        Ok(stage.outside(command)?.text())
    };
    let status = || -> Result<String> { ask(&["status"]) };
    let both = |text: &String| text.matches("RUNNING").count() == 2;
    let id = |text: &str| -> Result<Vec<String>> {
        let ids = text.lines().map(|line| line.split_whitespace().nth(3).map(str::to_string));
        ids.collect::<Option<_>>().context("no process id")
    };
    let before = id(&until(stage, "the daemons' start", status, both)?)?;
    ensure!(ask(&["signal", "KILL", "first"])?.contains("signalled"), "it was not killed");
    let again = |text: &String| both(text) && id(text).is_ok_and(|now| now[0] != before[0]);
    let after = id(&until(stage, "the daemon's return", status, again)?)?;
    ensure!(after[1] == before[1], "the other was not left alone: {before:?}, then {after:?}");
    ask(&["shutdown"])?;
    supervisor.wait(PATIENCE)?.exits(0)?;
    Ok(())
}

/// A login with a key, with and without a terminal.
fn sshd(stage: &Stage) -> Result<()> {
    let keys = stage.make_directory("keys")?;
    let key = |name: &str| -> Result<String> {
        let path = text(&keys.join(name));
        stage.outside(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &path])?.success()?;
        Ok(path)
    };
    let (host, user) = (key("host")?, key("user")?);
    let port = free_port()?.to_string();
    // This machine's shadow file is not shown to an island, and accounts without one are locked.
    let server = format!(
        "echo root:*::::::: > /tmp/shadow && mv /tmp/shadow /etc && mkdir /run/sshd && cp {host} {user}.pub /tmp && chmod 600 /tmp/host && exec /usr/sbin/sshd -D -e -p {port} \
         -h /tmp/host -o AuthorizedKeysFile=/tmp/user.pub -o StrictModes=no -o UsePAM=no -o PidFile=none"
    );
    let run = Run::new(["bash", "-c", &server]).readable(&keys).publish(port.parse()?);
    let mut server = stage.serve(&run, port.parse()?)?;
    let options =
        ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    let login = |more: &[&str], command: &str| -> Result<Outcome> {
        let words = ["ssh", "-F", "none", "-p", &port, "-i", &user].into_iter().chain(options);
        stage.outside(words.chain(more.iter().copied()).chain(["root@127.0.0.1", command]))
    };
    let said = login(&[], "echo $((6 * 7)) for $(whoami) on $(hostname); tty; exit 3")?;
    said.exits(3)?.prints("42 for root on eyot\nnot a tty\n")?;
    let said = login(&["-tt"], "tty; kill -TERM $$")?;
    said.says("/dev/pts/")?;
    let wrong = key("wrong")?;
    let words = ["ssh", "-F", "none", "-p", &port, "-i", &wrong, "-o", "BatchMode=yes"].into_iter();
    let refused = stage.outside(words.chain(options).chain(["root@127.0.0.1", "true"]))?;
    refused.exits(255)?.complains("permission denied")?;
    server.terminate()?.complains("Accepted publickey for root")?;
    Ok(())
}
