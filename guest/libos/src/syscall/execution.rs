//! Running another program: execve(2), execveat(2).

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::exit::Exit;

use super::file::attempt;
use super::path::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, follow_unless, only};
use super::{Call, Finish, Outcome};
use crate::errno::{Errno, Result};
use crate::loader::Executable;
use crate::signal::SIGCHLD;
use crate::thread::Thread;
use crate::user;
use crate::wait;

/// Bytes of arguments and environment together (ARG_MAX as Linux has it for an 8 MiB stack).
const ARGUMENTS_MAX: usize = 2 << 20;

/// A NUL-ended array of string pointers.
fn strings(thread: &Arc<Thread>, address: u64, total: &mut usize) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    if address == 0 {
        return Ok(strings);
    }
    for index in 0.. {
        let pointer = user::read_u64(thread, address.wrapping_add(index * 8))?;
        if pointer == 0 {
            break;
        }
        let string = user::read_string(thread, pointer, 128 * 1024)
            .map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::E2BIG } else { errno })?;
        *total += string.len() + 9;
        if *total > ARGUMENTS_MAX {
            return Err(Errno::E2BIG);
        }
        strings.push(string);
    }
    Ok(strings)
}

pub fn execve(call: &mut Call<'_>) -> Outcome {
    let path = attempt!(user::read_path(call.thread, call.arguments[0]));
    execute(call, Executable::at(call.thread, &path), call.arguments[1], call.arguments[2])
}

pub fn execveat(call: &mut Call<'_>) -> Outcome {
    let (number, flags) = (call.int(0), call.word(4));
    attempt!(only(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
    let path = attempt!(user::read_path(call.thread, call.arguments[1]));
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err::<u64, _>(Errno::ENOENT).into();
    }
    let mut program = Executable::at(call.thread, &path);
    program.follow = follow_unless(flags, AT_SYMLINK_NOFOLLOW);
    if path.first() != Some(&b'/') && number != AT_FDCWD {
        let description = attempt!(call.process().files.any(number as u32 as u64));
        program.start = attempt!(description.location.clone().ok_or(Errno::EACCES));
        let below: &[u8] = if path.is_empty() { b"" } else { b"/" };
        program.name = [format!("/dev/fd/{number}").as_bytes(), below, &path].concat();
    }
    execute(call, program, call.arguments[2], call.arguments[3])
}

/// Makes a thread that is the only one its process's first, whichever it was (execve(2)).
fn lead(thread: &Arc<Thread>) {
    let (process, number) = (&thread.process, thread.number());
    if number == process.number {
        return;
    }
    let mut threads = process.threads.lock();
    threads.remove(&number);
    thread.set_number(process.number);
    threads.insert(process.number, thread.clone());
    drop(threads);
    process.kernel.numbers.give(number);
}

/// The point of no return is where the other threads are told to end: before it, errors are returned;
/// after it, a failure ends the process, as on Linux.
fn execute(call: &mut Call<'_>, program: Executable, arguments: u64, environment: u64) -> Outcome {
    let mut total = 0;
    let arguments = attempt!(strings(call.thread, arguments, &mut total));
    let environment = attempt!(strings(call.thread, environment, &mut total));
    // The program's end leaves the CPU in another address space.
    call.kernel().machine.clone().leave(call.cpu, call.context);
    let thread = call.thread.clone();
    Outcome::of(&call.thread.clone(), async move {
        let image = match crate::loader::load(&thread, program, arguments, environment).await {
            Ok(image) => image,
            Err(error) if error.errno == Errno::EISDIR => return Finish::Return(Err(Errno::EACCES)),
            Err(error) => return Finish::Return(Err(error.errno)),
        };
        let process = thread.process.clone();
        let (number, order) = (thread.number(), Ordering::SeqCst);
        if process.sole_survivor.compare_exchange(0, number, order, order).is_err() {
            return Finish::Return(Err(Errno::EAGAIN));
        }
        let others: Vec<Arc<Thread>> = process
            .threads
            .lock()
            .values()
            .filter(|other| other.number() != thread.number())
            .cloned()
            .collect();
        others.iter().for_each(|other| other.call_attention());
        while process.threads.lock().len() > 1 {
            // Each of them leaves the map on its next look; a tick is long enough to wait for it.
            let soon = process.kernel.machine.now().monotonic_ns + 1_000_000;
            wait::pass(&thread, soon).await;
        }
        process.sole_survivor.store(0, Ordering::SeqCst);
        if process.ending() {
            return Finish::Keep;
        }
        lead(&thread);
        process.files.part();
        for slot in process.files.take_close_on_exec() {
            super::descriptor::let_go(&process, slot);
        }
        process.signals.reset_handlers();
        *thread.signals.stack.lock() = Default::default();
        process.timers.clear_posix();
        super::futex::release_robust_list(&thread);
        thread.clear_on_exit.store(0, Ordering::Relaxed);
        process.exit_signal.store(SIGCHLD, Ordering::SeqCst);
        match crate::loader::install(&thread, image).await {
            Ok(context) => {
                process.executed.store(true, Ordering::SeqCst);
                // A parent that waits for this (vfork(2)) finds all of the new program in /proc and in use.
                process.part();
                Finish::Start(context)
            }
            Err(_) => {
                process.end(Exit::Signal(crate::signal::SIGKILL));
                Finish::Keep
            }
        }
    })
}
