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

/// The children that a process's threads have (proc_pid_tid_children(5)).
fn children(process: Pid) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()))? {
        let list = fs::read_to_string(thread?.path().join("children"))?;
        found
            .extend(list.split_whitespace().filter_map(|number| number.parse().ok().and_then(Pid::from_raw)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(children(getpid()).unwrap().contains(&pid));
        assert!(members(getpid()).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!members(getpid()).contains(&pid));
    }
}
