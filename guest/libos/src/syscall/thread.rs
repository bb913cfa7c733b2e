//! A thread's own number, and its end.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::exit::Exit;
use machine::Cpu;

use super::futex::{release_robust_list, wake_joiners};
use super::{Call, Finish, Outcome};
use crate::ptrace;
use crate::thread::Thread;

pub fn set_tid_address(call: &mut Call<'_>) -> Outcome {
    call.thread.clear_on_exit.store(call.arguments[0], Ordering::Relaxed);
    Ok(u64::from(call.thread.number())).into()
}

pub fn gettid(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.thread.number())).into()
}

pub fn exit(call: &mut Call<'_>) -> Outcome {
    leave(call, |_, _| ())
}

pub fn exit_group(call: &mut Call<'_>) -> Outcome {
    leave(call, |thread, status| thread.process.end(Exit::Status(status)))
}

/// Ends the calling thread, after what else is to be done; its tracer may look at it before.
fn leave(call: &mut Call<'_>, end: impl FnOnce(&Thread, u8) + Send + 'static) -> Outcome {
    let status = call.arguments[0] as u8;
    if !call.thread.is_traced() {
        end(call.thread, status);
        return Outcome::Now(Finish::Exit(status));
    }
    let thread = call.thread.clone();
    Outcome::of(call.thread, async move {
        ptrace::tell_end(&thread, u32::from(status) << 8).await;
        end(&thread, status);
        Finish::Exit(status)
    })
}

/// Takes a thread out of its process: robust futexes, the word others join on. With the last one the process
/// ends, with this status if nothing else was said. The thread's context is complete.
pub fn end_thread(thread: &Arc<Thread>, cpu: Cpu, status: u8) {
    let process = &thread.process;
    release_robust_list(thread);
    wake_joiners(thread);
    thread.meter_last();
    let mut threads = process.threads.lock();
    let is_last = threads.len() == 1 && threads.contains_key(&thread.number());
    if is_last && !process.ending() {
        drop(threads);
        process.end(Exit::Status(status));
        threads = process.threads.lock();
    }
    threads.remove(&thread.number());
    let is_last = threads.is_empty();
    drop(threads);
    if thread.is_traced() {
        let end = if is_last { process.end_status() } else { u32::from(status) << 8 };
        crate::ptrace::ended(thread, end, is_last);
    }
    if let Some(debugger) = thread.kernel().debugger_of(thread) {
        debugger.ended(thread);
    }
    if thread.number() != process.number {
        thread.kernel().numbers.give(thread.number());
    }
    if is_last {
        process.finish(cpu);
    } else if process.signals.pending_set() != 0 {
        // This thread may have been called for a signal that it did not take.
        process.alert();
    }
}
