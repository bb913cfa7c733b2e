//! `eyot do`: turns the command line into a [`Spec`] and this process into its monitor.
//!
//! Only the form of words is judged here; whether a volume exists or a port is free is the monitor's to
//! find out, which opens and binds them in the same breath.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use abi::boot::Limit;
use abi::network::Protocol;
use anyhow::{Context, Result};
use api::spec::{Allowance, Publication, Spec, Trace, User, Volume};
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::net::SocketAddr;

use crate::Monitor;
use crate::parse;

/// Runs a program of this machine on an island.
///
/// The program sees this machine's files read-only, as an unprivileged user without groups would, with a
/// private overlay for writes that dies with it. /home, /root, /run and /tmp are empty and writable. The
/// current directory is visible read-only, unless it is / or a home or contains one. There is no network
/// but what -p and --allow grant. Of the environment only PATH, HOME, TERM and LANG are passed on.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Publish a port: HOSTPORT on this machine leads to PORT on the island. It listens once the program
    /// does, on all IPv4 addresses unless HOSTADDR names one; [::] is all of IPv6.
    #[arg(short = 'p', long = "publish", value_name = "[HOSTADDR:]HOSTPORT:PORT[/udp]",
          value_parser = parse::publication)]
    publish: Vec<Publication>,
    /// Show a file or directory of this machine inside; read-only with :ro.
    #[arg(short = 'v', long = "volume", value_name = "SRC:DST[:ro]", value_parser = parse::volume)]
    volume: Vec<Volume>,
    /// Let the program connect to HOST:PORT (a name or an address), or to anything with `any`, except this
    /// machine's own loopback interface, which is granted as localhost:PORT.
    #[arg(long, value_name = "HOST:PORT|any", value_parser = parse::allowance)]
    allow: Vec<Allowance>,
    /// Set an environment variable; -e NAME alone passes the caller's on.
    #[arg(short = 'e', long = "env", value_name = "NAME=VALUE", value_parser = parse::word)]
    environment: Vec<parse::Word>,
    /// Read environment variables from a file, one NAME=VALUE or NAME a line.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory inside the island.
    #[arg(short = 'w', long = "workdir", value_name = "DIR")]
    directory: Option<OsString>,
    /// Directory to be seen as / instead of this machine's own.
    #[arg(long, value_name = "DIR")]
    root: Option<OsString>,
    /// Memory limit: bytes, or with a unit as in 512k, 64m, 1g.
    #[arg(short = 'm', long, value_name = "SIZE", value_parser = parse::size, allow_hyphen_values = true)]
    memory: Option<u64>,
    /// Limit of the program (getrlimit(2)), as in nofile=1024:4096 or core=-1; -1 is no limit.
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse::limit)]
    ulimit: Vec<Limit>,
    /// Number of virtual CPUs; all of the machine's by default.
    #[arg(long, value_name = "N", value_parser = parse::cpus, allow_hyphen_values = true)]
    cpus: Option<u16>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Give the program a terminal of its own.
    #[arg(short = 't', long = "tty")]
    terminal: bool,
    /// Have another process before the program that takes in orphans and waits for them.
    #[arg(long)]
    init: bool,
    /// Name of the island.
    #[arg(long, value_name = "NAME", value_parser = parse::name)]
    name: Option<String>,
    /// Host name inside; the island's name by default, or `eyot`.
    #[arg(long, value_name = "NAME", value_parser = parse::name)]
    hostname: Option<String>,
    /// Print every system call as strace does, on standard error or to a file.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    trace: Option<OsString>,
    /// Wait for gdb on this port, of 127.0.0.1 unless ADDRESS says otherwise, before the program's first
    /// instruction. Whoever can connect there controls the program.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = parse::debugger)]
    gdb: Option<SocketAddr>,
    /// What the island runs on.
    #[arg(long, value_name = "ENGINE", default_value = "auto")]
    engine: Engine,
    /// User and group inside, by name or number.
    #[arg(short = 'u', long, value_name = "USER[:GROUP]", value_parser = parse::user)]
    user: Option<User>,
    /// Say nothing but errors.
    #[arg(short = 'q', long)]
    quiet: bool,
    /// The program and its arguments.
    #[arg(required = true, value_name = "PROGRAM [ARGS]", trailing_var_arg = true)]
    program: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// KVM where the processor virtualises, else a confined process.
    Auto,
    /// A confined process of this machine.
    Pico,
    /// A virtual machine by KVM.
    Kvm,
    /// A virtual machine in QEMU, which emulates the processor: slow, and anywhere.
    Qemu,
}

impl From<Engine> for api::spec::Engine {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Auto => Self::Auto,
            Engine::Pico => Self::Pico,
            Engine::Kvm => Self::Kvm,
            Engine::Qemu => Self::Qemu,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  eyot do busybox uname -a
  eyot do -it bash
  eyot do -p 6379:6379 -v ./data:/data -w /data redis-server --save '' --appendonly yes
  eyot do -p 127.0.0.1:8080:80 -v ./site:/srv:ro python3 -m http.server -d /srv 80
  eyot do --allow example.com:443 curl -sS https://example.com/
  eyot do --memory 256m --cpus 1 node server.js
  eyot do --trace=calls.txt sqlite3 :memory: 'select 1'
  eyot do --gdb 1234 ./server                    then: gdb ./server -ex 'target remote :1234'

Exit status: the program's own; 128+signal; 125 our error, 126 cannot run, 127 not found.";

/// Becomes the monitor of the wanted island; returns only with an error.
pub fn perform(arguments: Arguments, monitor: &Monitor) -> Result<ExitCode> {
    let spec = wanted(arguments)?;
    Err((monitor.become_monitor)(&spec)).context("cannot start the monitor")
}

fn wanted(arguments: Arguments) -> Result<Spec> {
    let mut environment = Vec::new();
    for file in &arguments.env_file {
        environment.extend(parse::environment_file(file)?);
    }
    environment.extend(arguments.environment.into_iter().filter_map(parse::Word::resolve));
    let mut words = arguments.program.into_iter().map(OsString::into_vec);
    Ok(Spec {
        engine: arguments.engine.into(),
        program: words.next().unwrap_or_default(),
        arguments: words.collect(),
        environment,
        directory: arguments.directory.map(OsString::into_vec),
        root: arguments.root.map(OsString::into_vec),
        volumes: arguments.volume,
        published: arguments.publish,
        allowed: arguments.allow,
        memory: arguments.memory,
        limits: arguments.ulimit,
        cpus: arguments.cpus,
        interactive: arguments.interactive,
        terminal: arguments.terminal,
        init: arguments.init,
        name: arguments.name,
        hostname: arguments.hostname,
        trace: arguments.trace.map(|file| match file.into_vec() {
            empty if empty.is_empty() => Trace::StandardError,
            file => Trace::File(file),
        }),
        trial: None,
        debugger: arguments.gdb,
        user: arguments.user,
        quiet: arguments.quiet,
    })
}

/// How a protocol is written after a port.
pub(crate) fn protocol(word: &str) -> Option<Protocol> {
    match word {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}
