//! The processes of an island when one of them is killed, or their monitor: all end, and nothing hangs.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;

/// The spaces that the image makes when it is asked for this.
pub const PROGRAM: &str = "family";
/// Processes there are then: the first, the empty one, a spare one, and the spaces'.
const MEMBERS: usize = 203;
/// How long an end may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    First,
    /// In which a virtual CPU is.
    Active,
    Parked,
    Monitor,
}

/// Kills one after the other, with name spaces and (root only can choose) without.
pub fn test(image: &Path) -> Outcome {
    for confined in [false, true] {
        if confined && !(rustix::process::geteuid().is_root() && works("setpriv")) {
            return Outcome::Passed;
        }
        for victim in [Victim::First, Victim::Active, Victim::Parked, Victim::Monitor] {
            if let Err(why) = kill(image, victim, confined) {
                return Outcome::Failed(format!("{victim:?}, confined {confined}: {why}"));
            }
        }
    }
    Outcome::Passed
}

fn works(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
}

fn kill(image: &Path, victim: Victim, confined: bool) -> Result<(), String> {
    let own = std::env::current_exe().expect("this program has a name");
    let mut command = if confined {
        // Who may not make name spaces.
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]).arg(own);
        command
    } else {
        Command::new(own)
    };
    command.args(["--island", "pico"]).arg(image).arg(PROGRAM).stderr(Stdio::piped());
    let mut monitor = command.spawn().map_err(|error| error.to_string())?;
    let members = grown(&monitor)?;
    // Processes are numbered as they are made.
    let process = match victim {
        Victim::First => members[0],
        Victim::Active => active(&members)?,
        Victim::Parked => members[members.len() / 2],
        Victim::Monitor => Pid::from_child(&monitor),
    };
    kill_process(process, Signal::KILL).map_err(|error| format!("kill: {error}"))?;
    let deadline = Instant::now() + PATIENCE;
    until(deadline, "the monitor", || monitor.try_wait().is_ok_and(|status| status.is_some()))?;
    for member in members {
        until(deadline, "a process of the island", || !lives(member))?;
    }
    let output = monitor.wait_with_output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let said = match victim {
        Victim::First => text.contains("the island was killed from outside"),
        Victim::Active | Victim::Parked => text.contains("a host process of the island was killed"),
        Victim::Monitor => text.is_empty(),
    };
    if said { Ok(()) } else { Err(format!("it says {text:?}")) }
}

fn until(deadline: Instant, who: &str, ended: impl FnMut() -> bool) -> Result<(), String> {
    let mut ended = ended;
    while !ended() {
        if Instant::now() > deadline {
            return Err(format!("{who} goes on"));
        }
        sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// The island's processes, once there are as many as there will be, in the order of their making.
fn grown(monitor: &Child) -> Result<Vec<Pid>, String> {
    let deadline = Instant::now() + PATIENCE;
    let mut members = Vec::new();
    until(deadline, "the island's growth", || {
        members = below(Pid::from_child(monitor));
        members.len() >= MEMBERS
    })
    .map_err(|_| format!("{} processes after {PATIENCE:?}", members.len()))?;
    members.sort_by_key(|process| process.as_raw_nonzero());
    Ok(members)
}

/// The process that has the virtual CPU, and much memory.
fn active(members: &[Pid]) -> Result<Pid, String> {
    let kilobytes = |process: &Pid| {
        let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let large =
        || members.iter().find(|process| kilobytes(process).is_some_and(|size| size >= 8 << 10)).copied();
    let mut found = None;
    until(Instant::now() + PATIENCE, "the space without memory", || {
        found = large();
        found.is_some()
    })?;
    found.ok_or_else(|| "nothing".into())
}

/// All descendants of a process, children before their children.
fn below(process: Pid) -> Vec<Pid> {
    let mut found = vec![process];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        let threads = fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()));
        let lists = threads.into_iter().flatten().flatten();
        let lists = lists.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
        let children: Vec<_> =
            lists.flat_map(|list| list.split(' ').filter_map(number).collect::<Vec<_>>()).collect();
        found.extend(children);
        next += 1;
    }
    found.split_off(1)
}

fn number(word: &str) -> Option<Pid> {
    word.parse().ok().and_then(Pid::from_raw)
}

/// Whether a process is there, and is not only still listed.
fn lives(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.is_ok_and(|stat| {
        !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
    })
}
