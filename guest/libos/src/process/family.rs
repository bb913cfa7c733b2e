//! Who is whose child, and what a parent learns of its children (wait4(2)).
//!
//! All of it changes under the lock of `Kernel::processes` alone. A child whose parent ends is taken in by the
//! nearest ancestor that asked for it (PR_SET_CHILD_SUBREAPER), or by the first process.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::life::particulars;
use super::{News, Process};
use crate::errno::{Errno, Result};
use crate::kernel::Processes;
use crate::signal::SIGCHLD;

/// Which children are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    Any,
    Number(u32),
    Group(u32),
}

/// Which changes of theirs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    pub ended: bool,
    pub stopped: bool,
    pub continued: bool,
    /// What is learnt can be learnt again (WNOWAIT).
    pub keep: bool,
    /// Which exit signals: SIGCHLD, others (__WCLONE), or any (__WALL).
    pub clones: Option<bool>,
}

/// What there is to learn of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub process: u32,
    pub user: u32,
    /// As wait4(2) has it.
    pub status: u32,
    /// `si_code` and `si_status`.
    pub code: i32,
    pub value: u32,
    pub time_ns: u64,
}

/// Makes a new process known as a child, or a sibling, of another one.
pub(super) fn adopt(maker: &Arc<Process>, process: &Arc<Process>, is_sibling: bool) {
    let mut processes = maker.kernel.processes.lock();
    let number = maker.parent.load(Ordering::SeqCst);
    let grandparent = processes.get(&number).filter(|_| is_sibling);
    let parent = grandparent.unwrap_or(maker);
    process.parent.store(parent.number, Ordering::SeqCst);
    parent.children.lock().insert(process.number);
    processes.insert(process.number, process.clone());
}

/// Who takes in the children of a process that ends.
fn heir(processes: &Processes, process: &Process) -> Option<Arc<Process>> {
    let mut number = process.parent.load(Ordering::SeqCst);
    loop {
        let ancestor = processes.get(&number)?;
        if ancestor.is_first() || ancestor.reaps.load(Ordering::Relaxed) && !ancestor.ending() {
            return Some(ancestor.clone());
        }
        number = ancestor.parent.load(Ordering::SeqCst);
    }
}

/// Gives a process's children to its heir; who they are.
pub(super) fn bequeath(process: &Arc<Process>) -> Vec<Arc<Process>> {
    let processes = process.kernel.processes.lock();
    let children = core::mem::take(&mut *process.children.lock());
    let Some(heir) = heir(&processes, process) else { return Vec::new() };
    let children: Vec<_> = children.iter().filter_map(|number| processes.get(number).cloned()).collect();
    for child in &children {
        child.parent.store(heir.number, Ordering::SeqCst);
        // Whatever it was made with: the heir knows of no other way to ask.
        child.exit_signal.store(SIGCHLD, Ordering::SeqCst);
        heir.children.lock().insert(child.number);
    }
    children
}

/// Whether anybody is to ask how a process ended.
pub(super) fn is_missed(process: &Process) -> bool {
    let processes = process.kernel.processes.lock();
    let parent = processes.get(&process.parent.load(Ordering::SeqCst));
    parent.is_some_and(|parent| !parent.signals.wants_no_zombies() || !tells_as_usual(process))
}

/// Takes a process that is over off the list.
pub(super) fn bury(process: &Process) {
    let mut processes = process.kernel.processes.lock();
    remove(&mut processes, process);
}

fn remove(processes: &mut Processes, process: &Process) {
    if let Some(parent) = processes.get(&process.parent.load(Ordering::SeqCst)) {
        parent.children.lock().remove(&process.number);
    }
    processes.remove(&process.number);
    process.kernel.numbers.give(process.number);
}

fn tells_as_usual(process: &Process) -> bool {
    process.exit_signal.load(Ordering::SeqCst) == SIGCHLD
}

impl Select {
    fn admits(self, process: &Process) -> bool {
        match self {
            Self::Any => true,
            Self::Number(number) => process.number == number,
            Self::Group(group) => process.group.load(Ordering::Relaxed) == group,
        }
    }
}

impl States {
    fn admits(self, process: &Process) -> bool {
        self.clones.is_none_or(|clones| clones != tells_as_usual(process))
    }
}

impl Process {
    /// What there is to learn of the children asked for: nothing yet, or ECHILD if there are none.
    pub fn learn(&self, select: Select, states: States) -> Result<Option<Report>> {
        let traced = |number, group: Option<u32>| match select {
            Select::Any => true,
            Select::Number(wanted) => number == wanted,
            Select::Group(wanted) => group.is_none_or(|group| group == wanted),
        };
        let (mut any, learnt) = crate::ptrace::learn(self, traced, states.keep);
        if learnt.is_some() {
            return Ok(learnt);
        }
        let mut processes = self.kernel.processes.lock();
        let numbers: Vec<u32> = match select {
            Select::Number(number) => Vec::from_iter(self.children.lock().get(&number).copied()),
            _ => self.children.lock().iter().copied().collect(),
        };
        for number in numbers {
            let Some(child) = processes.get(&number).cloned() else { continue };
            if !select.admits(&child) || !states.admits(&child) {
                continue;
            }
            any = true;
            if child.is_over() {
                if states.ended {
                    let (status, time_ns) = (child.end_status(), child.total_time_ns());
                    if !states.keep {
                        self.children_time_ns.fetch_add(time_ns, Ordering::Relaxed);
                        remove(&mut processes, &child);
                    }
                    return Ok(Some(report(&child, status, particulars(status))));
                }
                continue;
            }
            let mut news = child.news().lock();
            let wanted = match *news {
                Some(News::Stopped(_)) => states.stopped,
                Some(News::Continued) => states.continued,
                None => false,
            };
            if let Some(told) = news.filter(|_| wanted) {
                if !states.keep {
                    *news = None;
                }
                return Ok(Some(report(&child, told.status(), told.particulars())));
            }
        }
        if any { Ok(None) } else { Err(Errno::ECHILD) }
    }

    /// Its time on CPUs, and that of the children it has waited for.
    pub fn total_time_ns(&self) -> u64 {
        self.cpu_time_ns.load(Ordering::Relaxed) + self.children_time_ns.load(Ordering::Relaxed)
    }

    pub fn has_children(&self) -> bool {
        !self.children.lock().is_empty()
    }
}

fn report(child: &Process, status: u32, (code, value): (i32, u32)) -> Report {
    let user = child.identity.lock().real_user;
    Report { process: child.number, user, status, code, value, time_ns: child.total_time_ns() }
}
