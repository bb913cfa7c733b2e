//! Threads: clone(2) with shared memory, and their end.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::exit::Exit;

use super::futex::{release_robust_list, wake_joiners};
use super::{Call, Finish, Outcome};
use crate::errno::{Errno, Result};
use crate::signal::ThreadSignals;
use crate::thread::Thread;
use crate::user;

const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_THREAD: u64 = 0x1_0000;
const CLONE_SETTLS: u64 = 0x8_0000;
const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CHILD_CLEARTID: u64 = 0x20_0000;
const CLONE_CHILD_SETTID: u64 = 0x100_0000;
const THREAD: u64 = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;

/// More threads than any service has; beyond it, EAGAIN.
const THREADS_MAX: usize = 32_768;

struct New {
    flags: u64,
    stack: u64,
    parent_number: u64,
    child_number: u64,
    pointer: u64,
}

pub fn clone(call: &mut Call<'_>) -> Outcome {
    let [flags, stack, parent_number, child_number, pointer, _] = call.arguments;
    start(call, New { flags, stack, parent_number, child_number, pointer }).into()
}

/// clone3(2), its first 64 bytes.
pub fn clone3(call: &mut Call<'_>) -> Outcome {
    let [address, size, ..] = call.arguments;
    let start_it = |call: &mut Call<'_>| {
        if size < 64 {
            return Err(Errno::EINVAL);
        }
        let words = user::read_words::<8>(call.thread, address)?;
        let [flags, _pidfd, child_number, parent_number, _signal, stack, stack_size, pointer] = words;
        let stack = if stack == 0 { 0 } else { stack.wrapping_add(stack_size) };
        start(call, New { flags, stack, parent_number, child_number, pointer })
    };
    start_it(call).into()
}

pub fn fork(call: &mut Call<'_>) -> Outcome {
    refuse_process(call).into()
}

/// Processes come with a later version: said once, then EAGAIN, which programs know how to handle.
fn refuse_process(call: &Call<'_>) -> Result<u64> {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        call.kernel().say("the program tried to start another process; an island runs one process for now (fork answers EAGAIN)");
    }
    Err(Errno::EAGAIN)
}

fn start(call: &mut Call<'_>, new: New) -> Result<u64> {
    if new.flags & THREAD != THREAD {
        return refuse_process(call);
    }
    let process = call.process().clone();
    let kernel = process.kernel.clone();
    if process.threads.lock().len() >= THREADS_MAX {
        return Err(Errno::EAGAIN);
    }
    kernel.machine.leave(call.cpu, call.context);
    let mut context = Box::new(call.context.clone());
    context.registers.rax = 0;
    if new.stack != 0 {
        context.registers.rsp = new.stack;
    }
    if new.flags & CLONE_SETTLS != 0 {
        context.registers.fs_base = new.pointer;
    }
    let number = kernel.next_number();
    if new.flags & CLONE_PARENT_SETTID != 0 {
        user::write(call.thread, new.parent_number, &number.to_le_bytes())?;
    }
    if new.flags & CLONE_CHILD_SETTID != 0 {
        user::write(call.thread, new.child_number, &number.to_le_bytes())?;
    }
    let signals = ThreadSignals::with_mask(call.thread.signals.mask.load(Ordering::SeqCst));
    let thread = Thread::new(number, process.clone(), context, signals);
    *thread.name.lock() = *call.thread.name.lock();
    let all = u64::MAX;
    thread.restrict(call.thread.affinity(all), all);
    if new.flags & CLONE_CHILD_CLEARTID != 0 {
        thread.clear_on_exit.store(new.child_number, Ordering::Relaxed);
    }
    process.threads.lock().insert(number, thread.clone());
    if kernel.debugger.is_some() {
        // It may have to stand before its first instruction.
        thread.keep_attention();
    }
    thread.make_runnable();
    Ok(u64::from(number))
}

pub fn set_tid_address(call: &mut Call<'_>) -> Outcome {
    call.thread.clear_on_exit.store(call.arguments[0], Ordering::Relaxed);
    Ok(u64::from(call.thread.number)).into()
}

pub fn gettid(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.thread.number)).into()
}

pub fn exit(call: &mut Call<'_>) -> Outcome {
    let status = call.arguments[0] as u8;
    if call.process().threads.lock().len() == 1 {
        call.process().end(Exit::Status(status));
    }
    end_thread(call.thread);
    Outcome::Now(Finish::End)
}

pub fn exit_group(call: &mut Call<'_>) -> Outcome {
    call.process().end(Exit::Status(call.arguments[0] as u8))
}

/// Takes a thread out of its process: robust futexes, the word others join on.
pub fn end_thread(thread: &Arc<Thread>) {
    release_robust_list(thread);
    wake_joiners(thread);
    thread.process.threads.lock().remove(&thread.number);
    if let Some(debugger) = &thread.kernel().debugger {
        debugger.ended(thread);
    }
}
