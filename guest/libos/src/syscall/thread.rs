//! Threads: clone(2) with shared memory, their end, and futexes.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::exit::Exit;

use super::{Call, Finish, Outcome};
use crate::errno::{Errno, Result};
use crate::signal::ThreadSignals;
use crate::thread::Thread;
use crate::user;
use crate::wait::Patience;

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
    if new.flags & CLONE_CHILD_CLEARTID != 0 {
        thread.clear_on_exit.store(new.child_number, Ordering::Relaxed);
    }
    process.threads.lock().insert(number, thread.clone());
    thread.make_runnable();
    Ok(u64::from(number))
}

pub fn set_tid_address(call: &mut Call<'_>) -> Outcome {
    call.thread.clear_on_exit.store(call.arguments[0], Ordering::Relaxed);
    Ok(u64::from(call.thread.number)).into()
}

pub fn set_robust_list(call: &mut Call<'_>) -> Outcome {
    if call.arguments[1] != 24 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    call.thread.robust_list.store(call.arguments[0], Ordering::Relaxed);
    Ok(0).into()
}

pub fn get_robust_list(call: &mut Call<'_>) -> Outcome {
    let head = call.thread.robust_list.load(Ordering::Relaxed);
    let write = user::write_words(call.thread, call.arguments[1], &[head]);
    write.and_then(|()| user::write_words(call.thread, call.arguments[2], &[24])).into()
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
    let kernel = thread.kernel();
    let address = thread.clear_on_exit.swap(0, Ordering::SeqCst);
    if address != 0 && user::write(thread, address, &[0; 4]).is_ok() {
        kernel.futexes.wake((thread.process.space, address), 1, u32::MAX);
    }
    thread.process.threads.lock().remove(&thread.number);
}

const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;
const NUMBER: u32 = 0x3fff_ffff;

/// Marks the futexes that a dying thread holds (get_robust_list(2)).
fn release_robust_list(thread: &Arc<Thread>) {
    let head = thread.robust_list.swap(0, Ordering::Relaxed);
    if head == 0 {
        return;
    }
    let Ok([first, offset, pending]) = user::read_words::<3>(thread, head) else { return };
    let mut at = first & !1;
    for _ in 0..2048 {
        if at == head || at == 0 {
            break;
        }
        let Ok(next) = user::read_u64(thread, at) else { return };
        if at != pending & !1 {
            mark_dead(thread, at.wrapping_add(offset));
        }
        at = next & !1;
    }
    if pending & !1 != 0 {
        mark_dead(thread, (pending & !1).wrapping_add(offset));
    }
}

fn mark_dead(thread: &Arc<Thread>, address: u64) {
    let kernel = thread.kernel();
    let space = thread.process.space;
    let Ok(mut word) = kernel.machine.compare_exchange(space, address, 0, 0) else { return };
    while word & NUMBER == thread.number {
        let new = word & WAITERS | OWNER_DIED;
        match kernel.machine.compare_exchange(space, address, word, new) {
            Ok(before) if before == word => {
                if word & WAITERS != 0 {
                    kernel.futexes.wake((space, address), 1, u32::MAX);
                }
                return;
            }
            Ok(before) => word = before,
            Err(_) => return,
        }
    }
}

pub fn futex(call: &mut Call<'_>) -> Outcome {
    let [address, operation, value, fourth, second, sixth] = call.arguments;
    let kernel = call.kernel().clone();
    let key = (call.space(), address);
    if address % 4 != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    match operation & 0x7f {
        0 | 9 => {
            let bits = if operation & 0x7f == 9 { sixth as u32 } else { u32::MAX };
            let patience = match patience(call, operation, fourth) {
                Ok(patience) if bits != 0 => patience,
                Ok(_) => return Err::<u64, _>(Errno::EINVAL).into(),
                Err(errno) => return Err::<u64, _>(errno).into(),
            };
            // The common miss, without a future.
            match kernel.machine.compare_exchange(key.0, address, value as u32, value as u32) {
                Ok(word) if word != value as u32 => return Err::<u64, _>(Errno::EAGAIN).into(),
                Ok(_) => {}
                Err(_) => return Err::<u64, _>(Errno::EFAULT).into(),
            }
            let thread = call.thread.clone();
            call.wait(
                async move { kernel.futexes.wait(&thread, address, value as u32, bits, patience).await },
            )
        }
        1 => Ok(kernel.futexes.wake(key, value as u32 as u64, u32::MAX)).into(),
        10 if sixth as u32 != 0 => Ok(kernel.futexes.wake(key, value as u32 as u64, sixth as u32)).into(),
        10 => Err::<u64, _>(Errno::EINVAL).into(),
        3 => {
            Ok(kernel.futexes.requeue(key, (key.0, second), value as u32 as u64, fourth as u32 as u64)).into()
        }
        4 => match kernel.machine.compare_exchange(key.0, address, sixth as u32, sixth as u32) {
            Ok(word) if word != sixth as u32 => Err::<u64, _>(Errno::EAGAIN).into(),
            Ok(_) => {
                Ok(kernel.futexes.requeue(key, (key.0, second), value as u32 as u64, fourth as u32 as u64))
                    .into()
            }
            Err(_) => Err::<u64, _>(Errno::EFAULT).into(),
        },
        5 => wake_and_operate(call).into(),
        _ => Err::<u64, _>(Errno::ENOSYS).into(),
    }
}

/// The end of a futex wait: relative for FUTEX_WAIT, absolute for the bitset form, by either clock.
fn patience(call: &Call<'_>, operation: u64, address: u64) -> Result<Patience> {
    if address == 0 {
        return Ok(Patience::Forever);
    }
    let time_ns = user::read_time(call.thread, address)?;
    let now = call.kernel().machine.now();
    Ok(Patience::Until(if operation & 0x7f == 0 {
        now.monotonic_ns.saturating_add(time_ns)
    } else if operation & 256 != 0 {
        now.monotonic_ns.saturating_add(time_ns.saturating_sub(now.realtime_ns))
    } else {
        time_ns
    }))
}

/// FUTEX_WAKE_OP.
fn wake_and_operate(call: &Call<'_>) -> Result<u64> {
    let [address, _, count, second_count, second, encoded] = call.arguments;
    let kernel = call.kernel();
    let space = call.space();
    let encoded = encoded as u32;
    let mut operand = encoded >> 12 & 0xfff;
    let compared = encoded & 0xfff;
    if encoded >> 31 != 0 {
        operand = 1 << (operand & 31);
    }
    let mut word = kernel.machine.compare_exchange(space, second, 0, 0)?;
    loop {
        let new = match encoded >> 28 & 7 {
            0 => operand,
            1 => word.wrapping_add(operand),
            2 => word | operand,
            3 => word & !operand,
            4 => word ^ operand,
            _ => return Err(Errno::ENOSYS),
        };
        match kernel.machine.compare_exchange(space, second, word, new)? {
            before if before == word => break,
            before => word = before,
        }
    }
    let holds = match encoded >> 24 & 15 {
        0 => word == compared,
        1 => word != compared,
        2 => (word as i32) < compared as i32,
        3 => word as i32 <= compared as i32,
        4 => word as i32 > compared as i32,
        5 => word as i32 >= compared as i32,
        _ => return Err(Errno::ENOSYS),
    };
    let mut woken = kernel.futexes.wake((space, address), count as u32 as u64, u32::MAX);
    if holds {
        woken += kernel.futexes.wake((space, second), second_count as u32 as u64, u32::MAX);
    }
    Ok(woken)
}
