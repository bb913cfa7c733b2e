//! Signals: who has sent what, who may take it, and what comes of it (signal(7)).
//!
//! Lock order: the process's pending set, then the thread's, then its mask. A sender puts the signal in
//! a pending set first and calls a thread's attention afterwards; the thread looks before it enters
//! application code and whenever a wait of it is polled, so that no signal is missed.

mod delivery;
mod frame;
mod information;
mod sending;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::lock::Mutex;

use crate::errno::{Errno, Result};
use crate::thread::Thread;
use crate::wait::WaitQueue;

pub use delivery::look_again;
pub(crate) use delivery::{Halt, deliver, unmask_after_call};
pub(crate) use frame::LOWER_HALF;
pub use frame::restore;
pub use information::{Information, is_arithmetic};
pub use sending::{force, forget, from_outside, hand_on, raise_exception, send, try_send};

pub const SIGHUP: u8 = 1;
pub const SIGINT: u8 = 2;
pub const SIGQUIT: u8 = 3;
pub const SIGILL: u8 = 4;
pub const SIGTRAP: u8 = 5;
pub const SIGBUS: u8 = 7;
pub const SIGFPE: u8 = 8;
pub const SIGKILL: u8 = 9;
pub const SIGSEGV: u8 = 11;
pub const SIGPIPE: u8 = 13;
pub const SIGALRM: u8 = 14;
pub const SIGVTALRM: u8 = 26;
pub const SIGPROF: u8 = 27;
pub const SIGCHLD: u8 = 17;
pub const SIGCONT: u8 = 18;
pub const SIGSTOP: u8 = 19;
pub const SIGTSTP: u8 = 20;
pub const SIGTTIN: u8 = 21;
pub const SIGTTOU: u8 = 22;
pub const SIGURG: u8 = 23;
pub const SIGXFSZ: u8 = 25;
pub const SIGWINCH: u8 = 28;
pub const SIGIO: u8 = 29;
pub const SIGSYS: u8 = 31;
/// Signals from here on queue, each with its value.
const FIRST_REALTIME: u8 = 32;

/// RLIMIT_SIGPENDING.
pub(crate) const PENDING_LIMIT: usize = 11;
/// Signals that may wait in one queue, each with its value.
pub(crate) const QUEUED_MOST: u64 = 4096;

const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;

/// The processor's trap flag: one instruction, then a debug exception.
pub(crate) const TRAP_FLAG: u64 = 0x100;

/// A set of signals, bit `n - 1` for signal `n`.
pub type Set = u64;

/// The set that holds one signal.
pub const fn set_of(number: u8) -> Set {
    1 << (number - 1)
}

/// Signals nobody can block, ignore or handle.
pub const UNBLOCKABLE: Set = set_of(SIGKILL) | set_of(SIGSTOP);

/// `struct sigaction` of the kernel's ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// 0: default, 1: ignore, else the handler's address.
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: Set,
}

/// Signals sent and not yet taken.
#[derive(Default)]
pub struct PendingSet {
    set: Set,
    queue: VecDeque<Information>,
}

impl PendingSet {
    /// Adds a signal. Realtime ones queue, up to `most` (RLIMIT_SIGPENDING): then kill(2) has its signal
    /// arrive without particulars, and who sends particulars along is told EAGAIN.
    fn add(&mut self, information: Information, most: usize) -> Result<()> {
        let number = information.number;
        if self.queue.iter_mut().any(|pending| pending.absorb(&information)) {
            return Ok(());
        }
        // Of those that do not queue there is room for each once.
        let queues = number >= FIRST_REALTIME;
        if !queues && self.set & set_of(number) != 0 {
            return Ok(());
        }
        let full = queues && self.queue.len() >= most;
        if full && !information.is_plain() {
            return Err(Errno::EAGAIN);
        }
        self.set |= set_of(number);
        if !full {
            self.queue.push_back(information);
        }
        Ok(())
    }

    /// Takes one signal of `wanted`: those that a fault raised first, then the lowest number.
    fn take(&mut self, wanted: Set) -> Option<Information> {
        let available = self.set & wanted;
        if available == 0 {
            return None;
        }
        let synchronous = available
            & (set_of(SIGSEGV) | set_of(SIGBUS) | set_of(SIGILL) | set_of(SIGTRAP) | set_of(SIGFPE));
        let first = if synchronous != 0 { synchronous } else { available };
        let number = first.trailing_zeros() as u8 + 1;
        let position = self.queue.iter().position(|information| information.number == number);
        let information = position.and_then(|position| self.queue.remove(position));
        let information = information.or_else(|| Some(Information::user(number, 0, 0)));
        if !self.queue.iter().any(|information| information.number == number) {
            self.set &= !set_of(number);
        }
        information
    }

    fn discard_all(&mut self, set: Set) {
        if self.set & set != 0 {
            self.queue.retain(|information| set_of(information.number) & set == 0);
            self.set &= !set;
        }
    }
}

/// `stack_t`: an alternate signal stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlternateStack {
    pub address: u64,
    pub flags: u32,
    pub size: u64,
}

/// A thread's side of signals.
#[derive(Default)]
pub struct ThreadSignals {
    pub mask: AtomicU64,
    /// The mask to return to after a call that set one for its duration (sigsuspend, ppoll).
    saved_mask: Mutex<Option<Set>>,
    pending: Mutex<PendingSet>,
    pub stack: Mutex<AlternateStack>,
    /// How an interrupted call wants to be restarted (an [`Errno`] from 512 on); 0 for none.
    restart: AtomicU16,
    /// Until when an interrupted call goes on to wait if it is begun anew (restart_syscall(2)); 0 for none.
    resume_ns: AtomicU64,
}

impl ThreadSignals {
    pub fn with_mask(mask: Set) -> Self {
        Self { mask: AtomicU64::new(mask), ..Self::default() }
    }

    pub fn pending(&self) -> Set {
        self.pending.lock().set
    }

    /// Whether a signal is pending that the mask lets through.
    pub fn deliverable(&self, process: &ProcessSignals) -> bool {
        let pending = self.pending() | process.pending_set();
        pending & !self.mask.load(Ordering::SeqCst) != 0
    }

    pub(crate) fn restart_later(&self, how: Errno) {
        self.restart.store(how.0, Ordering::Relaxed);
    }

    /// What an interrupted wait ends with that is not to become longer by being begun anew.
    pub(crate) fn resume_until(&self, until_ns: u64) -> Errno {
        self.resume_ns.store(until_ns, Ordering::Relaxed);
        Errno::ERESTART_RESTARTBLOCK
    }

    /// Until when a call waits that is begun anew; `None` for one that begins.
    pub(crate) fn resumed(&self) -> Option<u64> {
        Some(self.resume_ns.swap(0, Ordering::Relaxed)).filter(|until_ns| *until_ns != 0)
    }

    /// Leaves a signal for the thread, whatever it makes of it.
    pub(crate) fn leave(&self, information: Information) {
        let _ = self.pending.lock().add(information, usize::MAX);
    }

    /// What is to be decided about a restart, which is forgotten.
    pub(crate) fn take_restart(&self) -> Errno {
        Errno(self.restart.swap(0, Ordering::Relaxed))
    }

    /// Sets the mask for the duration of one call.
    pub fn mask_for_call(&self, mask: Set) {
        let before = self.mask.swap(mask & !UNBLOCKABLE, Ordering::SeqCst);
        self.saved_mask.lock().get_or_insert(before);
    }

    /// Puts the mask back that was in force before [`ThreadSignals::mask_for_call`], if there was one; says what
    /// was let through meanwhile and is not any more.
    fn unmask(&self) -> Option<Set> {
        let saved = self.saved_mask.lock().take()?;
        Some(saved & !self.mask.swap(saved, Ordering::SeqCst))
    }
}

/// A process's side of signals.
pub struct ProcessSignals {
    actions: Mutex<[Action; 64]>,
    pub(crate) pending: Mutex<PendingSet>,
    /// Told of every new signal, for sigtimedwait.
    pub arrival: WaitQueue,
}

impl Default for ProcessSignals {
    fn default() -> Self {
        let actions = Mutex::new([Action::default(); 64]);
        Self { actions, pending: Mutex::default(), arrival: WaitQueue::new() }
    }
}

/// SA_NOCLDSTOP and SA_NOCLDWAIT.
const NO_STOPS: u64 = 1;
const NO_ZOMBIES: u64 = 2;

impl ProcessSignals {
    /// What a new process has of them: how they are handled, but nothing pending.
    pub fn inherited(&self) -> Self {
        Self { actions: Mutex::new(*self.actions.lock()), ..Self::default() }
    }

    /// Whether the process does not want to hear that children stop and continue.
    pub fn wants_no_stops(&self) -> bool {
        self.action(SIGCHLD).flags & NO_STOPS != 0
    }

    /// Whether the process never asks how its children ended.
    pub fn wants_no_zombies(&self) -> bool {
        let action = self.action(SIGCHLD);
        action.handler == 1 || action.flags & NO_ZOMBIES != 0
    }

    pub fn action(&self, number: u8) -> Action {
        self.actions.lock()[usize::from(number) - 1]
    }

    pub fn set_action(&self, number: u8, action: Action) -> Action {
        core::mem::replace(&mut self.actions.lock()[usize::from(number) - 1], action)
    }

    /// Handlers go back to the default for a new program; what is ignored stays so.
    pub fn reset_handlers(&self) {
        for action in self.actions.lock().iter_mut() {
            *action = Action { handler: u64::from(action.handler == 1), ..Action::default() };
        }
    }

    pub fn pending_set(&self) -> Set {
        self.pending.lock().set
    }

    /// Whether a signal would have no effect at all.
    fn ignores(&self, number: u8) -> bool {
        match self.action(number).handler {
            0 => matches!(number, SIGCHLD | SIGCONT | SIGURG | SIGWINCH),
            1 => number != SIGKILL && number != SIGSTOP,
            _ => false,
        }
    }
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Process,
    Thread(u32),
}

/// Signals that stop a process by default: STOP, TSTP, TTIN, TTOU.
const STOPS: Set = set_of(SIGSTOP) | set_of(SIGTSTP) | set_of(SIGTTIN) | set_of(SIGTTOU);

/// Takes a pending signal of `wanted`, for signalfd and sigtimedwait.
pub fn take(thread: &Arc<Thread>, wanted: Set) -> Option<Information> {
    let own = thread.signals.pending.lock().take(wanted);
    let information = own.or_else(|| thread.process.signals.pending.lock().take(wanted))?;
    if let Some((timer, overruns)) = information.timer_expiry() {
        thread.process.timers.delivered(timer, overruns);
    }
    Some(information)
}

/// Checks a signal number argument.
pub fn number(argument: u64) -> Result<u8> {
    if (1..=64).contains(&argument) { Ok(argument as u8) } else { Err(Errno::EINVAL) }
}
