//! The processes of an island: the first one, and those that it and its descendants have made.
//!
//! Orphans are taken over by the first process, which its name space's init does by itself and any other asks
//! for, so all are found below it while it lives. When it has ended: where it was init the kernel has ended the
//! others; elsewhere they become this process's, if it has asked for that before.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, set_child_subreaper, waitid,
};

/// Has whatever a guest leaves behind become this process's.
pub fn adopt() -> Result<(), Errno> {
    set_child_subreaper(Some(getpid()))
}

/// Ends all that was left behind: every child this process has but one that it has made itself.
pub fn end_orphans(own: Option<Pid>) {
    // Who is being ended may make others, but not as fast: each kill takes less than a fork.
    loop {
        let mut orphans = children(getpid()).unwrap_or_default();
        orphans.retain(|orphan| Some(*orphan) != own);
        if orphans.is_empty() {
            return;
        }
        for &orphan in &orphans {
            // It fails only for one that has ended.
            let _ = kill_process(orphan, Signal::KILL);
        }
        for orphan in orphans {
            let _ = waitid(WaitId::Pid(orphan), WaitIdOptions::EXITED);
        }
    }
}

/// A process and all its descendants.
pub fn members(first: Pid) -> Vec<Pid> {
    let mut found = vec![first];
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        // One that is gone has no children.
        found.extend(children(process).unwrap_or_default());
        next += 1;
    }
    found
}

/// The children of a process: as its threads list them (proc_pid_tid_children(5)), or, where a kernel keeps no such
/// lists or a thread ends meanwhile, those that name it as their parent. To ask all processes of the machine takes
/// long, so one that is gone is asked no further.
pub fn children(process: Pid) -> io::Result<Vec<Pid>> {
    listed(process).or_else(|error| match fs::exists(directory(process)) {
        Ok(false) => Ok(Vec::new()),
        // Out of descriptors it would find none either.
        _ if error.kind() == io::ErrorKind::NotFound => named(process),
        _ => Err(error),
    })
}

fn directory(process: Pid) -> String {
    format!("/proc/{}", process.as_raw_nonzero())
}

fn listed(process: Pid) -> io::Result<Vec<Pid>> {
    let threads = format!("{}/task", directory(process));
    // The directory is closed before a list is opened: there may be one descriptor left for both.
    let names = fs::read_dir(&threads)?.map(|thread| thread.map(|thread| thread.file_name()));
    let names: Vec<_> = names.collect::<io::Result<_>>()?;
    let mut found = Vec::new();
    for name in names {
        let list = fs::read_to_string(Path::new(&threads).join(name).join("children"))?;
        found.extend(list.split_whitespace().filter_map(number));
    }
    Ok(found)
}

fn named(parent: Pid) -> io::Result<Vec<Pid>> {
    let is_child = |process: &Pid| {
        let stat = fs::read_to_string(format!("{}/stat", directory(*process))).ok()?;
        // Behind the name, which may hold any character: the state, the parent (proc_pid_stat(5)).
        let named = stat.rsplit_once(')')?.1.split_whitespace().nth(1).and_then(number);
        Some(named == Some(parent))
    };
    let processes = fs::read_dir("/proc")?.flatten();
    let processes: Vec<Pid> = processes.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    Ok(processes.into_iter().filter(|process| is_child(process).unwrap_or(false)).collect())
}

fn number(word: &str) -> Option<Pid> {
    word.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        // The threads of the other tests come and go, and one that goes meanwhile spoils a list.
        let list = (0..1000).find_map(|_| listed(getpid()).ok());
        assert!(list.unwrap().contains(&pid));
        assert!(named(getpid()).unwrap().contains(&pid));
        assert!(members(getpid()).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!members(getpid()).contains(&pid));
    }
}
