//! Programs that want out: past the library OS, over it, through it. Whatever they do, nothing of this
//! machine changes, the monitor says in one sentence how it ended, and nothing stays behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use eyot_tests::build::Toolchain;
use eyot_tests::engine::Engine;
use eyot_tests::island::{Run, bare};
use eyot_tests::outcome::Outcome;
use eyot_tests::package::{C_LIBRARY, GCC, MUSL_GCC, Need};
use eyot_tests::process;
use eyot_tests::service::Service;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::suite::caller::Caller;
use crate::suite::case::{Case, ISLANDERS, case};
use crate::suite::stage::{Stage, text};

const COMPILERS: &[Need] = &[GCC, C_LIBRARY, MUSL_GCC];

const fn hostile(name: &'static str, body: fn(&Stage) -> Result<()>) -> Case {
    case(name, body).needs(COMPILERS).callers(ISLANDERS)
}

const HOST_CALLS: &str = "a virtual machine makes no host calls";

pub const CASES: &[Case] = &[
    hostile("hostile/fresh-code", fresh_code),
    hostile("hostile/host-calls", host_calls).pico_only(HOST_CALLS),
    hostile("hostile/stretched-arguments", stretched_arguments).pico_only(HOST_CALLS),
    hostile("hostile/processes", processes).pico_only(HOST_CALLS),
    hostile("hostile/overwritten-library", overwritten_library),
    hostile("hostile/wild-jumps", wild_jumps).limit_s(180),
    hostile("hostile/memory", memory),
    hostile("hostile/exhaustion", exhaustion),
    hostile("hostile/reach", reach),
    hostile("hostile/network", network),
    hostile("hostile/channel", channel).pico_only(HOST_CALLS),
    hostile("hostile/renames", renames),
];

fn program(stage: &Stage, name: &str, words: &[&str]) -> Result<Run> {
    let run = stage.compiled(name, Toolchain::Musl)?;
    Ok(words.iter().fold(run, |run, word| run.argument(word)))
}

/// Requires that a hostile program came to its own end and got nothing: it names what it gets.
fn in_vain(outcome: Outcome, words: &[&str]) -> Result<()> {
    let expected: String = words.iter().map(|word| format!("{word}\n")).collect();
    outcome.success()?.prints(&format!("{expected}done\n")).map(drop)
}

/// Files of this machine that no island may change: what, how long, which mode, when.
#[derive(Debug, PartialEq, Eq)]
struct Bystanders(BTreeMap<PathBuf, (u64, u32, i64, i64, Vec<u8>)>);

impl Bystanders {
    fn look(directories: &[&Path]) -> Result<Self> {
        let mut found = BTreeMap::new();
        for directory in directories {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                let data = path.symlink_metadata()?;
                let content = if data.is_file() { fs::read(&path)? } else { Vec::new() };
                found.insert(path, (data.len(), data.mode(), data.mtime(), data.mtime_nsec(), content));
            }
        }
        Ok(Self(found))
    }
}

/// A directory beside the volume, with a secret.
fn outside(stage: &Stage) -> Result<PathBuf> {
    let outside = stage.make_directory("outside")?;
    fs::write(outside.join("secret"), "secret of another, hidden")?;
    Ok(outside)
}

fn fresh_code(stage: &Stage) -> Result<()> {
    let last =
        [("syscall", "syscall: 2910 calls"), ("vsyscall", "vsyscall: 3 calls"), ("long", "long: 1202 calls")];
    for (mode, line) in last {
        in_vain(stage.run(&program(stage, "hostile_calls", &[mode])?)?, &[line])?;
    }
    let other = stage.run(&program(stage, "hostile_calls", &["int80"])?)?;
    if stage.setting.caller == Caller::Confined {
        // The filter that makes this caller what it is kills for another architecture's call.
        return other.exits(159)?.one_sentence().map(drop);
    }
    in_vain(other, &["int80: 2910 calls"])
}

/// What the filter lets through from inside the image (host/monitor, `sandbox::filter`), for ever.
const ALWAYS: &[i64] =
    &[3, 9, 10, 11, 15, 25, 28, 44, 47, 48, 54, 56, 131, 202, 228, 231, 233, 234, 288, 327, 328, 441];
/// With an own view of files: getdents64, openat, newfstatat, readlinkat.
const DIRECT: &[i64] = &[217, 257, 262, 267];

fn host_calls(stage: &Stage) -> Result<()> {
    // It ends by a host call of its own, exit_group, which shows that this is allowed.
    let outcome = stage.run(&program(stage, "hostile_image", &["list"])?)?.exits(125)?.one_sentence()?;
    let outcome = outcome.says("listed\n")?.complains("status 33")?;
    let output = outcome.text();
    let listed = output.lines().filter_map(|line| line.strip_prefix("allowed ")?.parse().ok());
    let found: BTreeSet<i64> = listed.chain([15, 231]).collect();
    let direct: &[i64] = if stage.setting.caller == Caller::Confined { &[] } else { DIRECT };
    let expected: BTreeSet<i64> = ALWAYS.iter().chain(direct).copied().collect();
    ensure!(found == expected, "allowed: {found:?}\nexpected: {expected:?}\n{outcome}");
    ensure!(found.len() <= 26, "{} distinct host calls", found.len());
    Ok(())
}

fn stretched_arguments(stage: &Stage) -> Result<()> {
    in_vain(stage.run(&program(stage, "hostile_image", &["clones"])?)?, &["clones refused"])?;
    in_vain(stage.run(&program(stage, "hostile_image", &["stretches"])?)?, &["stretches refused"])?;
    in_vain(stage.run(&program(stage, "hostile_image", &["view"])?)?, &["viewed"])
}

/// Processes that the program makes behind the library OS's back are bounded by the caller's limit, and end with
/// the island, whether or not it has a name space for them.
fn processes(stage: &Stage) -> Result<()> {
    /// More than any caller of the suite has beside them.
    const MOST: usize = 400;
    let island = program(stage, "hostile_image", &["bomb"])?.command(&stage.place(), &stage.directory);
    let mut command = Command::new("prlimit");
    bare(&mut command, &stage.directory);
    command.arg(format!("--nproc={MOST}:{MOST}")).arg(island.get_program()).args(island.get_args());
    let mut island = Service::start(command, &stage.directory)?;
    island.wait_for_output("started", Duration::from_secs(10))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut made = process::descendants(island.id());
    while made.len() < MOST / 2 && Instant::now() < deadline {
        sleep(Duration::from_millis(20));
        made = process::descendants(island.id());
    }
    ensure!((MOST / 2..=MOST).contains(&made.len()), "{} processes", made.len());
    // The first of them ends and leaves the others.
    island.wait(Duration::from_secs(20))?.exits(125)?.one_sentence()?.complains("status 33")?;
    for each in made {
        let left = process::read(each.id).filter(|left| left.state != 'Z' && left.command == each.command);
        ensure!(left.is_none(), "{left:?} is left");
    }
    Ok(())
}

/// A guest that broke its library OS ends, and how is said in one sentence.
fn broken(outcome: Outcome) -> Result<()> {
    let code = outcome.code();
    ensure!(code == 125 || (129..160).contains(&code), "exit status {code}\n{outcome}");
    outcome.one_sentence().map(drop)
}

fn overwritten_library(stage: &Stage) -> Result<()> {
    if stage.setting.engine != Engine::Pico {
        return overwritten_machine(stage);
    }
    for mode in ["sigreturn", "probe", "text", "state", "unmap", "everything"] {
        broken(stage.run(&program(stage, "hostile_image", &[mode])?)?).context(mode)?;
    }
    // The gate table alone is no more than a detour.
    stage.run(&program(stage, "hostile_image", &["gates"])?).map(drop)
}

/// Whoever breaks the library OS of a virtual machine has the machine, ring 0 and devices' registers included. It may
/// hang, and then it goes with its monitor.
fn overwritten_machine(stage: &Stage) -> Result<()> {
    let modes = ["text", "stacks", "controller", "devices", "registers", "memory"];
    for mode in modes.iter().chain(&["ports", "tables", "stop", "spin"]) {
        let mut island = stage.start(&program(stage, "hostile_machine", &[mode])?)?;
        let Ok(outcome) = island.wait(Duration::from_secs(4)) else { continue };
        if outcome.code() != 0 {
            broken(outcome).context(*mode)?;
        }
    }
    Ok(())
}

/// Jumps all over the image. A guest that hangs then is like any other that does: its monitor can be killed,
/// and it goes with it.
fn wild_jumps(stage: &Stage) -> Result<()> {
    let name = match stage.setting.engine {
        Engine::Pico => "hostile_image",
        Engine::Kvm | Engine::Qemu => "hostile_machine",
    };
    for number in 0..60 {
        let run = program(stage, name, &["jump", &(number * 1009 + 7).to_string()])?;
        let mut island = stage.start(&run)?;
        let Ok(outcome) = island.wait(Duration::from_secs(2)) else { continue };
        let lines = outcome.error_text().lines().count();
        ensure!(lines <= 1 && (outcome.code() == 0 || lines == 1), "jump {number}: {outcome}");
    }
    Ok(())
}

fn memory(stage: &Stage) -> Result<()> {
    let pico = stage.setting.engine == Engine::Pico;
    // What a program does by host calls of its own, there.
    for mode in if pico { &["memory", "hidden", "grow", "state"][..] } else { &["memory"] } {
        let run = program(stage, "hostile_exhaust", &[mode])?.option(&["--memory", "64m"]);
        let outcome = stage.run(&run)?;
        // Without a control group a program can meet its process's own bound, and end, before the monitor looks.
        if outcome.code() == 0 && stage.setting.caller != Caller::Root {
            outcome.says("ENOMEM")?;
            continue;
        }
        outcome.exits(137)?.one_sentence()?.complains("reached its memory limit of 64 MiB")?;
    }
    if !pico {
        return Ok(());
    }
    // Files of the library OS whose pages the host cannot give are the end of memory, too.
    let bus = stage.run(&program(stage, "hostile_exhaust", &["bus"])?)?.exits(137)?.one_sentence()?;
    bus.complains("the memory of this machine")?;
    let run = program(stage, "hostile_channel", &["forgotten"])?.option(&["--memory", "64m", "--cpus", "1"]);
    stage.run(&run)?.exits(125)?.prints("forgotten\n")?.one_sentence()?;
    Ok(())
}

fn exhaustion(stage: &Stage) -> Result<()> {
    let run = |mode| stage.run(&program(stage, "hostile_exhaust", &[mode])?.option(&["--memory", "256m"]));
    in_vain(run("descriptors")?, &["EMFILE after many descriptors", "EMFILE after many files"])?;
    let threads = run("threads")?;
    match threads.code() {
        137 => drop(threads.one_sentence()?.complains("memory limit")?),
        _ => in_vain(threads, &["EAGAIN after many threads"])?,
    }
    in_vain(run("memory-files")?, &["ENOSPC after 128 MiB"])?;
    let overlay = run("overlay")?.success()?.says("ENOSPC after writing much\n")?;
    overlay.says("after many files\ndone\n").map(drop)
}

fn reach(stage: &Stage) -> Result<()> {
    let outside = outside(stage)?;
    let secret = text(&outside.join("secret"));
    let volume = stage.make_directory("volume")?;
    fs::create_dir(volume.join("directory"))?;
    fs::write(volume.join("file"), "file")?;
    symlink(&secret, volume.join("planted"))?;
    symlink("../outside/secret", volume.join("planted-up"))?;
    symlink("../outside", volume.join("planted-directory"))?;
    let system = [Path::new("/usr/bin/env"), Path::new("/etc/passwd")];
    let times = || system.map(|path| fs::metadata(path).map(|data| (data.len(), data.mtime())).ok());
    let (before, system_before) = (Bystanders::look(&[&outside])?, times());
    let own = std::process::id().to_string();
    let run = program(stage, "hostile_reach", &[&own, &text(&volume), &secret])?.volume(&volume);
    in_vain(stage.run(&run)?, &[])?;
    ensure!(before == Bystanders::look(&[&outside])?, "something beside the volume changed");
    ensure!(system_before == times(), "the machine's own files changed");
    for made in ["file", "made", "made-directory"] {
        let mode = fs::metadata(volume.join(made))?.permissions().mode();
        ensure!(mode & 0o4000 == 0, "{made} lends its owner's rights: {mode:o}");
    }
    // The same volume for reading only stays as it is.
    let before = Bystanders::look(&[&volume, &outside])?;
    let run = program(stage, "hostile_reach", &[&own, &text(&volume), &secret])?.readable(&volume);
    stage.run(&run)?;
    ensure!(before == Bystanders::look(&[&volume, &outside])?, "a volume for reading changed");
    Ok(())
}

/// An address of this machine that is not the loopback, found by asking where a packet would leave; none is
/// sent. An island's 127.0.0.1 is the island first.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

/// A stream and a datagram socket at one port.
fn ears(host: IpAddr) -> Result<(TcpListener, UdpSocket, String)> {
    let listener = TcpListener::bind((host, 0))?;
    let datagrams = UdpSocket::bind(listener.local_addr()?)?;
    listener.set_nonblocking(true)?;
    datagrams.set_nonblocking(true)?;
    let port = listener.local_addr()?.port().to_string();
    Ok((listener, datagrams, port))
}

fn network(stage: &Stage) -> Result<()> {
    let loopback = IpAddr::from([127, 0, 0, 1]);
    for host in [Some(loopback), own_address()].into_iter().flatten() {
        let (granted, granted_datagrams, granted_port) = ears(host)?;
        let (other, other_datagrams, other_port) = ears(host)?;
        let words = [&granted_port[..], &other_port, &host.to_string()];
        let run = || program(stage, "hostile_network", &words);
        in_vain(stage.run(&run()?.option(&["--allow", &format!("{host}:{granted_port}")]))?, &[])?;
        ensure!(granted.accept().is_ok(), "the granted port was not connected to");
        let heard = granted_datagrams.recv(&mut [0; 64]).is_ok();
        ensure!(heard || host == loopback, "no datagram came to the granted port");
        // Without a grant, and with one for anything but the loopback.
        let refused = stage.run(&run()?)?.success()?;
        refused.says(if host == loopback {
            "not connected: ECONNREFUSED\n"
        } else {
            "not connected: ENETUNREACH\n"
        })?;
        if host == loopback {
            let outcome = stage.run(&run()?.option(&["--allow", "any"]))?.success()?;
            outcome.says("not connected: ECONNREFUSED\n")?;
        }
        ensure!(granted.accept().is_err(), "a port was connected to without a grant");
        ensure!(other.accept().is_err(), "a port that was not granted was connected to");
        ensure!(
            other_datagrams.recv(&mut [0; 64]).is_err(),
            "a datagram came to a port that was not granted"
        );
    }
    Ok(())
}

fn channel(stage: &Stage) -> Result<()> {
    let volume = stage.make_directory("volume")?;
    let outside = outside(stage)?;
    fs::create_dir(volume.join("directory"))?;
    fs::write(volume.join("file"), "file")?;
    symlink(outside.join("secret"), volume.join("planted"))?;
    symlink("../outside/secret", volume.join("planted-up"))?;
    symlink("../outside", volume.join("planted-directory"))?;
    let run = |mode| -> Result<Outcome> {
        let run = program(stage, "hostile_channel", &[mode])?.option(&["--cpus", "1"]).volume(&volume);
        stage.run(&run)?.exits(125)?.one_sentence()
    };
    for mode in ["garbage", "long"] {
        run(mode)?.complains("the island was closed: it sent")?.complains("no message")?;
    }
    for mode in ["empty", "close", "shut"] {
        // Another thread of the library OS may end it before the monitor gives up.
        let by_itself = "the island shut itself down without a last word";
        run(mode)?.complains_somehow(&["cut its own connection to the monitor", by_itself])?;
    }
    run("paths")?.prints("asked\n")?;
    run("flood")?.prints("flooded\n")?;
    run("talk")?.prints("flooded\n")?;
    Ok(())
}

/// Renames against look-ups, on both sides of the wall.
fn renames(stage: &Stage) -> Result<()> {
    let outside = outside(stage)?;
    let volume = stage.make_directory("volume")?;
    fs::create_dir(volume.join("swapped"))?;
    fs::write(volume.join("swapped/secret"), "inside")?;
    symlink(&outside, volume.join("swapped-link"))?;
    let before = Bystanders::look(&[&outside])?;
    let over = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (volume.join("swapped"), volume.join("swapped-link"));
            while !over.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
            }
        });
        let run = program(stage, "hostile_race", &[&text(&volume)]);
        let outcome = run.and_then(|run| stage.run(&run.volume(&volume)));
        over.store(true, Ordering::Relaxed);
        outcome
    })?;
    in_vain(outcome, &[])?;
    ensure!(before == Bystanders::look(&[&outside])?, "something beside the volume changed");
    Ok(())
}
