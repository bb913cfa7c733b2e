//! The processes of an island: the first one, and those that it and its descendants have made.
//!
//! Orphans are taken over by the first process, which its name space's init does by itself and any other asks
//! for, so all are found below it while it lives. When it has ended: where it was init the kernel has ended the
//! others; elsewhere they become this process's, if it has asked for that before.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, set_child_subreaper, waitid,
};

/// Has whatever a guest leaves behind become this process's.
pub fn adopt() -> Result<(), Errno> {
    set_child_subreaper(Some(getpid()))
}

/// Ends all that was left behind: every child this process has.
pub fn end_orphans() {
    // Who is being ended may make others, but not as fast: each kill takes less than a fork.
    loop {
        let orphans = children(getpid()).unwrap_or_default();
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
/// lists or a thread ends meanwhile, those that name it as their parent.
fn children(process: Pid) -> io::Result<Vec<Pid>> {
    listed(process).or_else(|_| named(process))
}

fn listed(process: Pid) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()))? {
        let list = fs::read_to_string(thread?.path().join("children"))?;
        found.extend(list.split_whitespace().filter_map(number));
    }
    Ok(found)
}

fn named(parent: Pid) -> io::Result<Vec<Pid>> {
    let is_child = |process: &Pid| {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
        // Behind the name, which may hold any character: the state, the parent (proc_pid_stat(5)).
        let named = stat.rsplit_once(')')?.1.split_whitespace().nth(1).and_then(number);
        Some(named == Some(parent))
    };
    let processes = fs::read_dir("/proc")?.flatten();
    let processes = processes.filter_map(|entry| number(entry.file_name().to_str()?));
    Ok(processes.filter(|process| is_child(process).unwrap_or(false)).collect())
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
