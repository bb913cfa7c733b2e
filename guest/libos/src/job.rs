//! Process groups and sessions (setpgid(2), setsid(2), credentials(7)).
//!
//! A group or session is the processes that name it; it has no state of its own. All of it is read and changed
//! under the lock of `Kernel::processes`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::errno::{Errno, Result};
use crate::kernel::{Kernel, Processes};
use crate::process::Process;

/// The processes of a group, those among them that have ended and were not waited for yet.
pub fn members(kernel: &Kernel, group: u32) -> Vec<Arc<Process>> {
    let processes = kernel.processes.lock();
    processes.values().filter(|process| group_of(process) == group).cloned().collect()
}

/// Counts what concerns all of these, as a signal for a group: one that is making a child begins again, so that the child is
/// not left out.
/// With `Kernel::births` locked.
pub fn address(processes: &[Arc<Process>]) {
    for process in processes {
        process.addressed.fetch_add(1, Ordering::SeqCst);
    }
}

fn group_of(process: &Process) -> u32 {
    process.group.load(Ordering::SeqCst)
}

fn session_of(process: &Process) -> u32 {
    process.session.load(Ordering::SeqCst)
}

/// Whether a process's group is orphaned: no member has a parent in another group of the session, who could
/// make it continue.
pub fn is_orphaned(process: &Process) -> bool {
    let processes = process.kernel.processes.lock();
    is_group_orphaned(&processes, group_of(process), None)
}

fn is_group_orphaned(processes: &Processes, group: u32, without: Option<u32>) -> bool {
    !processes.values().any(|member| {
        let counts = group_of(member) == group && !member.is_over() && Some(member.number) != without;
        let parent = processes.get(&member.parent.load(Ordering::SeqCst)).filter(|_| counts);
        let parent = parent.filter(|parent| Some(parent.number) != without);
        parent.is_some_and(|parent| group_of(parent) != group && session_of(parent) == session_of(member))
    })
}

/// The groups that the end of a process orphans while a member is stopped: each gets SIGHUP and SIGCONT.
pub fn abandoned_by(process: &Process) -> Vec<u32> {
    let processes = process.kernel.processes.lock();
    let parent = processes.get(&process.parent.load(Ordering::SeqCst));
    let children = processes.values().filter(|child| child.parent.load(Ordering::SeqCst) == process.number);
    // It holds the groups of its children, and is what its own is held by, if its parent holds it.
    let held = children.map(|child| (process, &**child)).chain(parent.map(|parent| (&**parent, process)));
    let holds =
        |(by, of): &(&Process, &Process)| group_of(by) != group_of(of) && session_of(by) == session_of(of);
    let mut groups: Vec<u32> = held.filter(holds).map(|(_, of)| group_of(of)).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.retain(|group| {
        let stopped = |member: &Arc<Process>| {
            group_of(member) == *group && member.number != process.number && member.is_stopped()
        };
        processes.values().any(stopped) && is_group_orphaned(&processes, *group, Some(process.number))
    });
    groups
}

/// setpgid(2).
pub fn set_group(caller: &Arc<Process>, number: u32, group: u32) -> Result<()> {
    let processes = caller.kernel.processes.lock();
    let number = if number == 0 { caller.number } else { number };
    let group = if group == 0 { number } else { group };
    let process = processes.get(&number).ok_or(Errno::ESRCH)?;
    let is_child = process.parent.load(Ordering::SeqCst) == caller.number;
    if !Arc::ptr_eq(process, caller) {
        if !is_child {
            return Err(Errno::ESRCH);
        }
        if session_of(process) != session_of(caller) {
            return Err(Errno::EPERM);
        }
        if process.executed.load(Ordering::SeqCst) {
            return Err(Errno::EACCES);
        }
    }
    if session_of(process) == process.number {
        return Err(Errno::EPERM);
    }
    let exists =
        |member: &Arc<Process>| group_of(member) == group && session_of(member) == session_of(caller);
    if group != number && !processes.values().any(exists) {
        return Err(Errno::EPERM);
    }
    process.group.store(group, Ordering::SeqCst);
    Ok(())
}

/// setsid(2).
pub fn begin_session(process: &Arc<Process>) -> Result<u32> {
    let processes = process.kernel.processes.lock();
    let number = process.number;
    if processes.values().any(|other| group_of(other) == number) {
        return Err(Errno::EPERM);
    }
    process.group.store(number, Ordering::SeqCst);
    process.session.store(number, Ordering::SeqCst);
    *process.terminal.lock() = None;
    Ok(number)
}
