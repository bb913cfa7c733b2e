//! A thread's own number, and its end.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::exit::Exit;
use machine::Cpu;

use super::futex::{release_robust_list, wake_joiners};
use super::{Call, Finish, Outcome};
use crate::thread::Thread;

pub fn set_tid_address(call: &mut Call<'_>) -> Outcome {
    call.thread.clear_on_exit.store(call.arguments[0], Ordering::Relaxed);
    Ok(u64::from(call.thread.number())).into()
}

pub fn gettid(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.thread.number())).into()
}

pub fn exit(call: &mut Call<'_>) -> Outcome {
    leave(call, call.arguments[0] as u8)
}

pub fn exit_group(call: &mut Call<'_>) -> Outcome {
    let status = call.arguments[0] as u8;
    call.process().end(Exit::Status(status));
    leave(call, status)
}

fn leave(call: &mut Call<'_>, status: u8) -> Outcome {
    call.kernel().machine.clone().leave(call.cpu, call.context);
    end_thread(call.thread, call.cpu, status);
    Outcome::Now(Finish::End)
}

/// Takes a thread out of its process: robust futexes, the word others join on. With the last one the process
/// ends, with this status if nothing else was said. The thread's context is complete.
pub fn end_thread(thread: &Arc<Thread>, cpu: Cpu, status: u8) {
    let process = &thread.process;
    release_robust_list(thread);
    wake_joiners(thread);
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
    }
}
