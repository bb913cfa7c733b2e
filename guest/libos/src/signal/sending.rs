//! Sending signals: to a process or a thread, from outside, and those that stand for what a thread did.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::exit::Exit;
use machine::{Context, Exception};

use super::{
    Information, PENDING_LIMIT, QUEUED_MOST, SIGCONT, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGWINCH, STOPS, Set, Target, set_of,
};
use crate::errno::Result;
use crate::kernel::Kernel;
use crate::process::Process;
use crate::thread::Thread;

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

/// Sends a signal that may be lost if too many are queued.
pub fn send(process: &Arc<Process>, target: Target, information: Information) {
    let _ = try_send(process, target, information);
}

/// Sends a signal. One that is ignored and blocked by nobody is dropped at once; EAGAIN if too many are queued.
pub fn try_send(process: &Arc<Process>, target: Target, information: Information) -> Result<()> {
    let number = information.number;
    if process.is_first() && !process.is_main() {
        // It has nobody who could do anything about it.
        return Ok(());
    }
    if number == SIGKILL {
        // Nothing may come between this one and its effect, a stop least of all.
        process.end(Exit::Signal(number));
        return Ok(());
    }
    prepare(process, number);
    let threads: alloc::vec::Vec<Arc<Thread>> = process.threads.lock().values().cloned().collect();
    let addressed = match target {
        Target::Process => None,
        Target::Thread(wanted) => match threads.iter().find(|thread| thread.number() == wanted) {
            Some(thread) => Some(thread),
            None => return Ok(()),
        },
    };
    let admits = |thread: &Arc<Thread>| thread.signals.mask.load(Ordering::SeqCst) & set_of(number) == 0;
    let open = addressed.or_else(|| threads.iter().find(|thread| admits(thread)));
    if process.signals.ignores(number) && open.is_some_and(admits) {
        return Ok(());
    }
    if open.is_some_and(admits) && ends(process, &threads, number) {
        // No thread needs to look for it first: it may be one that looks at nothing but its end (vfork(2)).
        process.end(Exit::Signal(number));
        return Ok(());
    }
    let pending = addressed.map_or(&process.signals.pending, |thread| &thread.signals.pending);
    pending.lock().add(information, queued_most(process))?;
    // Looked for again: who has opened his mask meanwhile has not seen the signal yet.
    let called = match addressed {
        Some(thread) => Some(thread).filter(|thread| admits(thread)),
        None => threads.iter().find(|thread| admits(thread)),
    };
    if let Some(thread) = called {
        thread.call_attention();
    }
    process.signals.arrival.notify();
    process.kernel.signal_files.notify();
    Ok(())
}

/// Whether a signal that is let through does nothing but end the process.
fn ends(process: &Process, threads: &[Arc<Thread>], number: u8) -> bool {
    let default = process.signals.action(number).handler == 0 && !process.signals.ignores(number);
    let watched = process.kernel.debugger.is_some() || threads.iter().any(|thread| thread.is_traced());
    let stops = STOPS & set_of(number) != 0 || process.is_stopped();
    default && !process.ending() && !watched && !stops && !crate::core_dump::is_wanted(process, number)
}

/// RLIMIT_SIGPENDING, as far as there is room.
fn queued_most(process: &Process) -> usize {
    process.limit(PENDING_LIMIT).min(QUEUED_MOST) as usize
}

/// A thread takes signals of `closed` no more: it may have been called for one that waits.
pub fn hand_on(process: &Process, closed: Set) {
    if closed & process.signals.pending_set() != 0 {
        process.alert();
    }
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
    crate::job::address(&others);
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
    // It is none of those that queue.
    let _ = thread.signals.pending.lock().add(information, 0);
    thread.keep_attention();
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
