//! Signals: who has sent what, who may take it, and what comes of it (signal(7)).
//!
//! Lock order: the process's pending set, then the thread's, then its mask. A sender puts the signal in
//! a pending set first and calls a thread's attention afterwards; the thread looks before it enters
//! application code and whenever a wait of it is polled, so that no signal is missed.

mod frame;
mod information;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::lock::Mutex;
use abi::exit::Exit;
use machine::{Context, Cpu, Exception, Machine};

use crate::core_dump;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::process::Process;
use crate::ptrace::Delivery;
use crate::thread::{Body, Thread};
use crate::wait::WaitQueue;

pub use frame::restore;
pub use information::{Information, is_arithmetic};

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
    fn add(&mut self, information: Information) {
        let number = information.number;
        if self.queue.iter_mut().any(|pending| pending.absorb(&information)) {
            return;
        }
        if number < FIRST_REALTIME && self.set & set_of(number) != 0 || self.queue.len() > 4096 {
            return;
        }
        self.set |= set_of(number);
        self.queue.push_back(information);
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

    /// Leaves a signal for the thread, whatever it makes of it.
    pub(crate) fn leave(&self, information: Information) {
        self.pending.lock().add(information);
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

    /// Puts the mask back that was in force before [`ThreadSignals::mask_for_call`]; whether there was one.
    pub fn unmask_after_call(&self) -> bool {
        let saved = self.saved_mask.lock().take();
        saved.inspect(|mask| self.mask.store(*mask, Ordering::SeqCst)).is_some()
    }
}

/// A process's side of signals.
pub struct ProcessSignals {
    actions: Mutex<[Action; 64]>,
    pub(crate) pending: Mutex<PendingSet>,
    /// Told of every new signal, for signalfd and sigtimedwait.
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

/// What a signal does whatever becomes of it: stops and SIGCONT cancel each other.
fn prepare(process: &Arc<Process>, number: u8) {
    let discarded = match number {
        SIGCONT => STOPS,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => set_of(SIGCONT),
        _ => 0,
    };
    if discarded != 0 {
        let threads: alloc::vec::Vec<Arc<Thread>> = process.threads.lock().values().cloned().collect();
        process.signals.pending.lock().discard_all(discarded);
        threads.iter().for_each(|thread| thread.signals.pending.lock().discard_all(discarded));
    }
    if number == SIGCONT {
        process.go_on();
    }
}

/// Sends a signal. One that is ignored and blocked by nobody is dropped at once.
pub fn send(process: &Arc<Process>, target: Target, information: Information) {
    let number = information.number;
    if process.is_first() && !process.is_main() {
        // It has nobody who could do anything about it.
        return;
    }
    if number == SIGKILL {
        // Nothing may come between this one and its effect, a stop least of all.
        return process.end(Exit::Signal(number));
    }
    prepare(process, number);
    let threads: alloc::vec::Vec<Arc<Thread>> = process.threads.lock().values().cloned().collect();
    let addressed = match target {
        Target::Process => None,
        Target::Thread(wanted) => match threads.iter().find(|thread| thread.number() == wanted) {
            Some(thread) => Some(thread),
            None => return,
        },
    };
    let admits = |thread: &Arc<Thread>| thread.signals.mask.load(Ordering::SeqCst) & set_of(number) == 0;
    let open = addressed.or_else(|| threads.iter().find(|thread| admits(thread)));
    if process.signals.ignores(number) && open.is_some_and(admits) {
        return;
    }
    match addressed {
        Some(thread) => thread.signals.pending.lock().add(information),
        None => process.signals.pending.lock().add(information),
    }
    // Looked for again: who has opened his mask meanwhile has not seen the signal yet.
    let called = match addressed {
        Some(thread) => Some(thread).filter(|thread| admits(thread)),
        None => threads.iter().find(|thread| admits(thread)),
    };
    if let Some(thread) = called {
        thread.call_attention();
    }
    process.signals.arrival.notify();
}

/// A signal that the monitor passes on: what keys stand for is for the group in the foreground of the user's
/// terminal, or else for the first process's, everything else for the first process.
pub fn from_outside(kernel: &Kernel, number: u8) {
    let keyed = matches!(number, SIGINT | SIGQUIT | SIGTSTP | SIGWINCH);
    if keyed && kernel.console.get().is_some_and(|console| console.signal(kernel, number)) {
        return;
    }
    let first = kernel.processes.lock().get(&kernel.main()).cloned();
    let Some(first) = first.filter(|_| (1..=64).contains(&number)) else { return };
    let group = first.group.load(Ordering::SeqCst);
    let _births = kernel.births.lock();
    let others = if keyed { crate::job::members(kernel, group) } else { alloc::vec![first] };
    for process in others {
        // The user interrupts his own service: default actions apply to the first process as well.
        send(&process, Target::Process, Information::user(number, 0, 0));
    }
}

/// Raises the signal that stands for a processor exception at an instruction. If it is blocked or ignored, the program
/// ends, as force_sig does.
pub fn raise_exception(thread: &Arc<Thread>, exception: Exception, context: &Context) {
    let memory = thread.process.memory();
    let memory = memory.lock();
    let mapped = memory.mappings.containing(exception.address).is_some();
    drop(memory);
    force(thread, Information::exception(exception, context, mapped));
}

/// Sends a signal that cannot be held back.
pub fn force(thread: &Arc<Thread>, information: Information) {
    let signals = &thread.process.signals;
    let bit = set_of(information.number);
    let blocked = thread.signals.mask.load(Ordering::SeqCst) & bit != 0;
    let mut action = signals.action(information.number);
    if blocked || action.handler == 1 {
        action.handler = 0;
        signals.set_action(information.number, action);
        thread.signals.mask.fetch_and(!bit, Ordering::SeqCst);
    }
    thread.signals.pending.lock().add(information);
    thread.keep_attention();
}

/// Takes a pending signal of `wanted`, for signalfd and sigtimedwait.
pub fn take(thread: &Arc<Thread>, wanted: Set) -> Option<Information> {
    let own = thread.signals.pending.lock().take(wanted);
    let information = own.or_else(|| thread.process.signals.pending.lock().take(wanted))?;
    if let Some((timer, overruns)) = information.timer_expiry() {
        thread.process.timers.delivered(timer, overruns);
    }
    Some(information)
}

/// Drops what is pending of a signal that has come to be ignored.
pub fn forget(process: &Process, number: u8) {
    if process.signals.ignores(number) {
        process.signals.pending.lock().discard_all(set_of(number));
        for thread in process.threads.lock().values() {
            thread.signals.pending.lock().discard_all(set_of(number));
        }
    }
}

/// Why a thread does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    Ended,
    /// The debugger holds it, or its process is stopped.
    Held,
    /// It stands for its tracer, in a call of its own.
    Stands,
}

/// Delivers what is pending, before application code goes on, unless the thread is not to.
pub(crate) fn deliver(
    thread: &Arc<Thread>,
    body: &mut Body,
    machine: &Arc<dyn Machine>,
    cpu: Cpu,
) -> ControlFlow<Halt> {
    let debugger = thread.kernel().debugger_of(thread);
    loop {
        if thread.process.must_end(thread) {
            machine.leave(cpu, &mut body.context);
            crate::syscall_end(thread, cpu, 0);
            return ControlFlow::Break(Halt::Ended);
        }
        if thread.process.is_held(thread) {
            machine.leave(cpu, &mut body.context);
            thread.keep_attention();
            return ControlFlow::Break(Halt::Held);
        }
        let mask = thread.signals.mask.load(Ordering::SeqCst);
        let continued = thread.process.continued();
        let next = match debugger {
            None if thread.is_traced() => match thread.trace_delivery(|| take(thread, !mask)) {
                Delivery::Go(next) => next,
                Delivery::Stand(pending) => {
                    machine.leave(cpu, &mut body.context);
                    body.pending = Some(pending);
                    thread.keep_attention();
                    return ControlFlow::Break(Halt::Stands);
                }
            },
            None => take(thread, !mask),
            Some(debugger) => match debugger.next_signal(thread, body, mask) {
                ControlFlow::Continue(next) => next,
                ControlFlow::Break(()) => {
                    machine.leave(cpu, &mut body.context);
                    return ControlFlow::Break(Halt::Held);
                }
            },
        };
        let Some(information) = next else { break };
        let number = information.number;
        let action = thread.process.signals.action(number);
        match action.handler {
            0 if thread.process.signals.ignores(number) => {}
            0 if STOPS & set_of(number) != 0 && thread.is_traced() => {
                machine.leave(cpu, &mut body.context);
                body.pending = Some(thread.stop_traced(number));
                thread.keep_attention();
                return ControlFlow::Break(Halt::Stands);
            }
            0 if number == SIGSTOP => thread.process.stop(number, continued),
            0 if STOPS & set_of(number) != 0 => {
                if !crate::job::is_orphaned(&thread.process) {
                    thread.process.stop(number, continued);
                }
            }
            0 if thread.is_traced() || core_dump::is_wanted(&thread.process, number) => {
                machine.leave(cpu, &mut body.context);
                body.pending = Some(core_dump::end_by(thread, information, &body.context));
                thread.keep_attention();
                return ControlFlow::Break(Halt::Stands);
            }
            0 => thread.process.end(Exit::Signal(number)),
            1 => {}
            _ => {
                machine.leave(cpu, &mut body.context);
                settle_restart(thread, body, Some(action));
                let saved = thread.signals.saved_mask.lock().take().unwrap_or(mask);
                if action.flags & SA_RESETHAND != 0 {
                    thread.process.signals.set_action(number, Action { handler: 0, ..action });
                }
                if frame::push(thread, &mut body.context, machine, information, action, saved).is_err() {
                    thread.process.end(Exit::Signal(SIGSEGV));
                }
                let own = if action.flags & SA_NODEFER == 0 { set_of(number) } else { 0 };
                let during = (mask | action.mask | own) & !UNBLOCKABLE;
                thread.signals.mask.store(during, Ordering::SeqCst);
                if let Some(debugger) = debugger {
                    debugger.handling(thread);
                }
            }
        }
    }
    settle_restart(thread, body, None);
    if thread.steps() {
        body.context.registers.rflags |= TRAP_FLAG;
    }
    if thread.signals.unmask_after_call() && thread.signals.deliverable(&thread.process.signals) {
        // The call's mask held it back.
        return deliver(thread, body, machine, cpu);
    }
    if let Some(debugger) = debugger {
        debugger.enters(thread, &mut body.context);
    }
    ControlFlow::Continue(())
}

/// Decides what becomes of an interrupted call: restarted, or ended with EINTR.
fn settle_restart(thread: &Arc<Thread>, body: &mut Body, handler: Option<Action>) {
    let how = thread.signals.take_restart();
    let restart = match (how, handler) {
        (Errno(0), _) => return,
        (_, None) | (Errno::ERESTARTNOINTR, _) => true,
        (Errno::ERESTARTSYS, Some(action)) => action.flags & SA_RESTART != 0,
        _ => false,
    };
    let registers = &mut body.context.registers;
    if restart {
        registers.rip -= 2;
    } else {
        registers.rax = (-i64::from(Errno::EINTR.0)) as u64;
    }
    body.context.divert();
}

/// Looks at pending signals again, after the mask has changed.
pub fn look_again(thread: &Arc<Thread>) {
    if thread.signals.deliverable(&thread.process.signals) {
        thread.keep_attention();
    }
}

/// Checks a signal number argument.
pub fn number(argument: u64) -> Result<u8> {
    if (1..=64).contains(&argument) { Ok(argument as u8) } else { Err(Errno::EINVAL) }
}
