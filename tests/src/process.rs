//! Processes of this machine, as /proc tells of them: families, and ending one's own.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// A process at one moment.
#[derive(Clone, Debug)]
pub struct Process {
    pub id: u32,
    pub parent: u32,
    pub state: char,
    pub command: String,
}

/// All processes that can be seen.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// One process, if it exists.
pub fn read(id: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name is in parentheses and may hold any character, so what follows is counted from its end.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&words).replace('\0', " ").trim().to_string();
    Some(Process { id, parent, state, command })
}

/// The living descendants of a process, children before grandchildren. Zombies are not alive.
pub fn descendants(ancestor: u32) -> Vec<Process> {
    let all = all();
    let mut family: Vec<Process> = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent) {
            parents.push(child.id);
            if child.state != 'Z' {
                family.push(child.clone());
            }
        }
    }
    family
}

/// Waits until a process has no living descendant, for at most this long; answers those that remain.
pub fn wait_childless(ancestor: u32, limit: Duration) -> Vec<Process> {
    let deadline = Instant::now() + limit;
    loop {
        let family = descendants(ancestor);
        if family.is_empty() || Instant::now() > deadline {
            return family;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Kills every descendant of a process of ours, one by one by its number, until none is left.
pub fn kill_descendants(ancestor: u32) {
    for _ in 0..50 {
        let family = descendants(ancestor);
        if family.is_empty() {
            return;
        }
        for process in family {
            signal(process.id, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal to one process; that it is gone already is no error.
pub fn signal(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(id, signal);
    }
}

/// The memory of a process and its descendants in bytes, what they share with others in proportion (the
/// kernel's PSS).
pub fn proportional_bytes(id: u32) -> Result<u64> {
    sum_of(id, &["Pss:"])
}

/// The same without pages of files: what would be free if they were not there.
pub fn own_bytes(id: u32) -> Result<u64> {
    sum_of(id, &["Pss_Anon:", "Pss_Shmem:"])
}

fn sum_of(id: u32, names: &[&str]) -> Result<u64> {
    let mut sum = 0;
    for process in read(id).into_iter().chain(descendants(id)) {
        let path = format!("/proc/{}/smaps_rollup", process.id);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        for name in names {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next());
            sum += kib.with_context(|| format!("no {name} in {path}"))?.parse::<u64>()? << 10;
        }
    }
    Ok(sum)
}

/// Processor time that a process has taken, all its threads together.
pub fn processor_time(id: u32) -> Result<Duration> {
    /// Milliseconds of what /proc counts in (USER_HZ, which is the same on every machine).
    const TICK: u64 = 10;
    /// Of the fields behind the name: time in user mode; the next one is the kernel's.
    const USER: usize = 11;
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("a process has a name")?;
    let ticks: Vec<u64> = rest.split_whitespace().skip(USER).take(2).flat_map(str::parse).collect();
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * TICK))
}

/// What a process and its descendants are doing, one line each, for the message about a hang.
pub fn describe(id: u32) -> String {
    let mut text = String::new();
    for process in read(id).into_iter().chain(descendants(id)) {
        let threads = fs::read_dir(format!("/proc/{}/task", process.id)).map_or(0, Iterator::count);
        let waits = fs::read_to_string(format!("/proc/{}/wchan", process.id)).unwrap_or_default();
        let Process { id, state, command, .. } = process;
        text.push_str(&format!("  process {id} {state}, {threads} threads, in {waits}: {command}\n"));
    }
    text
}
