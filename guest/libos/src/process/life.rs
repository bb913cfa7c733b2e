//! How a process stops, continues and ends, and whom that is told.
//!
//! A process that ends does so thread by thread: each leaves when it next looks around, and the last one gives
//! back what the process has. What is left then is its number and how it ended, until its parent asks. Lock
//! order: the map of all processes before anything of one process.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::lock::Mutex;
use abi::exit::Exit;
use machine::Cpu;

use super::{Process, family};
use crate::job;
use crate::signal::{self, Information, SIGCHLD, SIGCONT, SIGHUP, SIGKILL, Target};
use crate::terminal;
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// What a parent has not been told yet of a child that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Stopped(u8),
    Continued,
}

/// Where a process stands between beginning and end.
#[derive(Default)]
pub struct Life {
    ending: AtomicBool,
    /// How it ends, as wait4(2) says it, with [`SAID`]; the first word counts.
    status: AtomicU32,
    /// Nothing is left but that.
    over: AtomicBool,
    /// The signal that stopped it; 0 while it runs.
    stopped: AtomicU8,
    /// How often SIGCONT came. Changes, as `stopped` does, with `news` locked.
    continued: AtomicU64,
    news: Mutex<Option<News>>,
    /// Its parent need not wait for it any more (vfork(2)).
    apart: AtomicBool,
    /// Told when it ends, and when its parent need not wait any more.
    pub(super) changes: WaitQueue,
    /// The thread that writes its core dump, while the others stand still; 0 for none.
    dumper: AtomicU32,
}

// CLD_* (sigaction(2)).
const EXITED: i32 = 1;
const KILLED: i32 = 2;
const DUMPED: i32 = 3;
const STOPPED: i32 = 5;
const CONTINUED: i32 = 6;

/// The bit of a status that tells of a core dump.
const CORE: u32 = 0x80;
/// It has been said how the process ends.
const SAID: u32 = 1 << 31;

/// What wait4(2) says of an end.
pub(super) fn status(exit: &Exit) -> u32 {
    match exit {
        Exit::Status(status) => u32::from(*status) << 8,
        Exit::Signal(signal) => u32::from(*signal),
        _ => u32::from(SIGKILL),
    }
}

/// `si_code` and `si_status` for such a status.
pub fn particulars(status: u32) -> (i32, u32) {
    match status & 0x7f {
        0 => (EXITED, status >> 8),
        signal if status & CORE != 0 => (DUMPED, signal),
        signal => (KILLED, signal),
    }
}

impl News {
    /// As wait4(2) says it.
    pub fn status(self) -> u32 {
        match self {
            Self::Stopped(signal) => u32::from(signal) << 8 | 0x7f,
            Self::Continued => 0xffff,
        }
    }

    /// `si_code` and `si_status`.
    pub fn particulars(self) -> (i32, u32) {
        match self {
            Self::Stopped(signal) => (STOPPED, u32::from(signal)),
            Self::Continued => (CONTINUED, u32::from(SIGCONT)),
        }
    }
}

impl Life {
    pub fn ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Says how it ends, unless that has been said.
    fn say(&self, status: u32) {
        let _ = self.status.compare_exchange(0, status | SAID, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Begins the end; whether nobody else has.
    pub fn end(&self, status: u32) -> bool {
        self.say(status);
        !self.ending.swap(true, Ordering::SeqCst)
    }
}

impl Process {
    /// Whether only its status is left.
    pub fn is_over(&self) -> bool {
        self.life.over.load(Ordering::SeqCst)
    }

    pub fn end_status(&self) -> u32 {
        self.life.status.load(Ordering::SeqCst) & !SAID
    }

    /// Told of its end, and when its parent need not wait for it any more.
    pub fn changes(&self) -> &WaitQueue {
        &self.life.changes
    }

    /// Whether its parent need not wait for it any more.
    pub fn is_apart(&self) -> bool {
        self.life.apart.load(Ordering::SeqCst)
    }

    /// Its parent need not wait for it any more: it runs a program of its own, ends, or was not to be waited for.
    pub(crate) fn part(&self) {
        self.life.apart.store(true, Ordering::SeqCst);
        self.life.changes.notify();
    }

    /// Makes all threads but one stand still until the process ends; false if another has done so.
    pub(crate) fn begin_dump(&self, thread: &Thread) -> bool {
        let begun =
            self.life.dumper.compare_exchange(0, thread.number(), Ordering::SeqCst, Ordering::SeqCst).is_ok();
        self.alert();
        begun
    }

    /// Whether a thread stands still, as all do while the process is stopped.
    pub(crate) fn is_held(&self, thread: &Thread) -> bool {
        let dumper = self.life.dumper.load(Ordering::SeqCst);
        self.is_stopped() || dumper != 0 && dumper != thread.number()
    }

    /// Ends it by a signal that has left a core dump.
    pub(crate) fn end_dumped(&self, number: u8) {
        self.life.say(u32::from(number) | CORE);
        self.end(Exit::Signal(number));
    }

    pub fn is_stopped(&self) -> bool {
        self.life.stopped.load(Ordering::SeqCst) != 0
    }

    pub(super) fn news(&self) -> &Mutex<Option<News>> {
        &self.life.news
    }

    /// How often SIGCONT came.
    pub(crate) fn continued(&self) -> u64 {
        self.life.continued.load(Ordering::SeqCst)
    }

    /// Stops all threads until SIGCONT, unless that has come since it was `continued`, before the signal was taken.
    pub(crate) fn stop(self: &Arc<Self>, number: u8, continued: u64) {
        // Nobody could make it go on.
        if self.is_main() || self.is_first() {
            return;
        }
        let mut news = self.life.news.lock();
        if self.continued() == continued && self.life.stopped.swap(number, Ordering::SeqCst) == 0 {
            *news = Some(News::Stopped(number));
            drop(news);
            self.alert();
            self.tell_parent(News::Stopped(number).particulars(), true);
        }
    }

    /// Lets the threads go on, if they are stopped.
    pub(crate) fn go_on(self: &Arc<Self>) {
        let mut news = self.life.news.lock();
        self.life.continued.fetch_add(1, Ordering::SeqCst);
        if self.life.stopped.swap(0, Ordering::SeqCst) != 0 {
            *news = Some(News::Continued);
            drop(news);
            self.alert();
            self.tell_parent(News::Continued.particulars(), true);
        }
    }

    /// Sends the parent SIGCHLD, or what it wants in its stead for an end, and wakes it if it waits.
    pub(super) fn tell_parent(self: &Arc<Self>, (code, status): (i32, u32), goes_on: bool) {
        let parent = self.parent.load(Ordering::SeqCst);
        let Some(parent) = self.kernel.processes.lock().get(&parent).cloned() else { return };
        let number = if goes_on { SIGCHLD } else { self.exit_signal.load(Ordering::SeqCst) };
        if number != 0 && !(goes_on && parent.signals.wants_no_stops()) {
            let user = self.identity.lock().real_user;
            let information = Information::child(number, code, self.number, user, status);
            signal::send(&parent, Target::Process, information);
        }
        parent.child_news.notify();
    }

    /// Gives back what the process has, its last thread being gone. The CPU's context is complete.
    pub(crate) fn finish(self: &Arc<Self>, cpu: Cpu) {
        let kernel = &self.kernel;
        self.timers.clear();
        for slot in self.files.take_all() {
            crate::syscall::let_go(self, slot);
        }
        for ((set, index), change) in core::mem::take(&mut *self.undo.lock()) {
            if let Ok(entry) = kernel.ipc.semaphores.find(set) {
                entry.thing.undo(index, change, self.number);
            }
        }
        self.program.lock().place = None;
        self.memory().leave(&*kernel.machine, cpu);
        self.part();
        kernel.ipc.settle(kernel);
        crate::ptrace::abandon(self);
        let terminal = self.terminal.lock().clone();
        if let Some(terminal) = terminal.filter(|_| self.session.load(Ordering::SeqCst) == self.number) {
            let _ = terminal.release(self);
        }
        let abandoned = job::abandoned_by(self);
        let orphans = family::bequeath(self);
        self.life.over.store(true, Ordering::SeqCst);
        self.life.changes.notify();
        if !family::is_missed(self) {
            family::bury(self);
        }
        self.tell_parent(particulars(self.end_status()), false);
        for group in abandoned {
            terminal::to_group(kernel, group, SIGHUP);
            terminal::to_group(kernel, group, SIGCONT);
        }
        for orphan in orphans {
            orphan.orphaned();
        }
    }

    /// Its parent has ended, and another process has taken it in.
    fn orphaned(self: &Arc<Self>) {
        let wanted = self.parent_death.load(Ordering::Relaxed);
        if wanted != 0 {
            signal::send(self, Target::Process, Information::user(wanted, 0, 0));
        }
        if self.is_over() {
            if family::is_missed(self) {
                self.tell_parent(particulars(self.end_status()), false);
            } else {
                family::bury(self);
            }
        }
    }
}
