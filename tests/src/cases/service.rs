//! Servers of several processes, as Debian packages them: asked from outside, reloaded, killed, and started again.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eyot_tests::island::Run;
use eyot_tests::outcome::Outcome;
use eyot_tests::package::{CURL, NGINX, REDIS_BENCHMARK, REDIS_SERVER, SSH, SSHD, SUPERVISOR};
use eyot_tests::service::{Service, free_port};
use rustix::process::Signal;

use crate::suite::caller::Caller;
use crate::suite::case::{Case, case};
use crate::suite::stage::{Stage, text};

/// Without those who are denied user namespaces: what these servers do differs by it no more than what others do.
const FEW: &[Caller] = &[Caller::Native, Caller::Root, Caller::Ordinary];

pub const CASES: &[Case] = &[
    case("service/redis-snapshot", redis_snapshot).needs(&[REDIS_SERVER, REDIS_BENCHMARK]).callers(FEW),
    case("service/nginx-workers", nginx_workers).needs(&[NGINX, CURL]).callers(FEW),
    case("service/supervisord", supervisord).needs(&[SUPERVISOR]).callers(FEW),
    case("service/sshd", sshd).needs(&[SSHD, SSH]).callers(&[Caller::Root]),
];

const PATIENCE: Duration = Duration::from_secs(30);

/// A snapshot while twenty clients change two numbers at a time: the numbers are as many as each other in it.
fn redis_snapshot(stage: &Stage) -> Result<()> {
    let volume = stage.make_open_directory("volume")?;
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
    let load = stage.beside(&many)?;
    let number = |text: &String| text.parse().is_ok_and(|number: u64| number > 100);
    stage.until("load", || ask(&port, &["get", "a"]), number)?;
    ensure!(ask(&port, &["bgsave"])?.contains("started"), "no snapshot was begun");
    let done = |state: &String| state.contains("rdb_bgsave_in_progress:0");
    let state = stage.until("the snapshot", || ask(&port, &["info", "persistence"]), done)?;
    ensure!(state.contains("rdb_last_bgsave_status:ok"), "the snapshot failed: {state}");
    let later: u64 = ask(&port, &["get", "a"])?.parse()?;
    redis.signal(Signal::KILL);
    redis.wait(PATIENCE)?.exits(137)?;
    drop(load);
    let (mut redis, port) = start()?;
    let loaded = |answer: &String| answer == "PONG";
    stage.until("loading", || ask(&port, &["ping"]), loaded)?;
    let (a, b) = (ask(&port, &["get", "a"])?, ask(&port, &["get", "b"])?);
    ensure!(a == b && a.parse::<u64>()? <= later, "the snapshot has {a} and {b}, before there were {later}");
    ensure!(ask(&port, &["dbsize"])? == "100002" && ask(&port, &["get", "key77777"])? == "value77777");
    redis.terminate()?.exits(0)?;
    Ok(())
}

/// Three workers, other ones after a new configuration, and an orderly end.
fn nginx_workers(stage: &Stage) -> Result<()> {
    let state = stage.make_open_directory("volume")?;
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
    stage.until("the new configuration", get, |answer| answer.starts_with("second"))?;
    let second = stage.until("the end of the old workers", || workers("second"), |_| true)?;
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
    let before = id(&stage.until("the daemons' start", status, both)?)?;
    ensure!(ask(&["signal", "KILL", "first"])?.contains("signalled"), "it was not killed");
    let again = |text: &String| both(text) && id(text).is_ok_and(|now| now[0] != before[0]);
    let after = id(&stage.until("the daemon's return", status, again)?)?;
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
