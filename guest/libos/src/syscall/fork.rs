//! New threads and processes: clone(2), clone3(2), fork(2), vfork(2).

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::scheduling::RESET_ON_FORK;
use super::{Call, Finish, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Description, Slot, flag};
use crate::process::{Child, Process};
use crate::ptrace;
use crate::signal::{SIGCHLD, ThreadSignals};
use crate::thread::Thread;
use crate::user;
use crate::wait;

const VM: u64 = 0x100;
const FS: u64 = 0x200;
const FILES: u64 = 0x400;
const SIGNAL_HANDLERS: u64 = 0x800;
const PIDFD: u64 = 0x1000;
const VFORK: u64 = 0x4000;
const PARENT: u64 = 0x8000;
const THREAD: u64 = 0x1_0000;
const SET_POINTER: u64 = 0x8_0000;
const SET_PARENT_NUMBER: u64 = 0x10_0000;
const CLEAR_CHILD_NUMBER: u64 = 0x20_0000;
const SET_CHILD_NUMBER: u64 = 0x100_0000;
const CLEAR_HANDLERS: u64 = 0x1_0000_0000;
const INTO_GROUP: u64 = 0x2_0000_0000;
/// CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACES: u64 = 0x7e02_0080;

/// What is asked for.
struct New {
    flags: u64,
    exit_signal: u8,
    stack: u64,
    parent_number: u64,
    child_number: u64,
    pidfd: u64,
    pointer: u64,
}

impl New {
    /// What a tracer calls it.
    fn event(&self) -> u32 {
        match () {
            () if self.flags & VFORK != 0 => ptrace::event::VFORK,
            () if self.exit_signal == SIGCHLD => ptrace::event::FORK,
            () => ptrace::event::CLONE,
        }
    }
}

pub fn clone(call: &mut Call<'_>) -> Outcome {
    let [flags, stack, parent_number, child_number, pointer, _] = call.arguments;
    let exit_signal = flags as u8;
    if flags & PIDFD != 0 && flags & SET_PARENT_NUMBER != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let flags = flags & 0xffff_ff00;
    start(call, New { flags, exit_signal, stack, parent_number, child_number, pidfd: parent_number, pointer })
}

/// `struct clone_args`, its first and its longest version in words.
const SMALLEST: u64 = 64;
const WORDS: usize = 11;

/// clone3(2).
pub fn clone3(call: &mut Call<'_>) -> Outcome {
    let new = attempt!(read(call));
    start(call, new)
}

fn read(call: &Call<'_>) -> Result<New> {
    let [address, size, ..] = call.arguments;
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    if size < SMALLEST {
        return Err(Errno::EINVAL);
    }
    let bytes = user::read_vec(call.thread, address, size as usize)?;
    let known = bytes.len().min(WORDS * 8);
    if bytes[known..].iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let mut words = [0; WORDS];
    for (word, part) in words.iter_mut().zip(bytes[..known].chunks_exact(8)) {
        *word = u64::from_le_bytes(part.try_into().expect("invariant: eight bytes"));
    }
    let [flags, pidfd, child_number, parent_number, signal, stack, size, pointer, numbers, ..] = words;
    let half_a_stack = (stack == 0) != (size == 0);
    if flags & 0xff != 0 || signal > 64 || half_a_stack || numbers != 0 {
        return Err(Errno::EINVAL);
    }
    let stack = if stack == 0 { 0 } else { stack.wrapping_add(size) };
    Ok(New { flags, exit_signal: signal as u8, stack, parent_number, child_number, pidfd, pointer })
}

pub fn fork(call: &mut Call<'_>) -> Outcome {
    simple(call, 0)
}

pub fn vfork(call: &mut Call<'_>) -> Outcome {
    simple(call, VM | VFORK)
}

fn simple(call: &mut Call<'_>, flags: u64) -> Outcome {
    let exit_signal = SIGCHLD;
    start(call, New { flags, exit_signal, stack: 0, parent_number: 0, child_number: 0, pidfd: 0, pointer: 0 })
}

fn start(call: &mut Call<'_>, new: New) -> Outcome {
    attempt!(check(call, &new));
    let (number, child) = if new.flags & THREAD != 0 {
        (attempt!(start_thread(call, &new)), None)
    } else {
        let child = attempt!(start_process(call, &new));
        (child.number, Some(child).filter(|_| new.flags & VFORK != 0))
    };
    if child.is_none() && !call.thread.is_traced() {
        return Ok(u64::from(number)).into();
    }
    let (thread, event) = (call.thread.clone(), new.event());
    call.wait(async move {
        if thread.is_traced() {
            ptrace::tell_made(&thread, event, number).await;
        }
        // Nothing but the end of the caller ends this wait: the child uses its memory, and perhaps its stack.
        if let Some(child) = child {
            wait::while_alive(&thread, child.changes(), || child.is_apart().then_some(())).await;
        }
        Ok(u64::from(number))
    })
}

fn check(call: &Call<'_>, new: &New) -> Result<()> {
    let has = |flag| new.flags & flag != 0;
    let senseless = has(THREAD) && !has(SIGNAL_HANDLERS)
        || has(SIGNAL_HANDLERS) && (!has(VM) || has(CLEAR_HANDLERS))
        || has(THREAD) && has(PIDFD)
        || new.exit_signal > 64;
    // As arch_prctl(2).
    if has(SET_POINTER) && new.pointer >= call.kernel().machine.user_end() {
        return Err(Errno::EPERM);
    }
    if senseless {
        return Err(Errno::EINVAL);
    }
    if new.flags & NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    // Handlers that change in both, and control groups.
    if has(SIGNAL_HANDLERS) && !has(THREAD) || has(INTO_GROUP) {
        return Err(Errno::EINVAL);
    }
    let kernel = call.kernel();
    if kernel.numbers.used() >= kernel.tasks_most().min(call.process().limit(6) as usize) {
        return Err(Errno::EAGAIN);
    }
    Ok(())
}

/// The caller's context as the new one's, returning 0.
fn context(call: &mut Call<'_>, new: &New) -> Box<machine::Context> {
    call.kernel().machine.clone().leave(call.cpu, call.context);
    let mut context = Box::new(call.context.clone());
    context.registers.rax = 0;
    if new.stack != 0 {
        context.registers.rsp = new.stack;
    }
    if new.flags & SET_POINTER != 0 {
        context.registers.fs_base = new.pointer;
    }
    context
}

/// A thread that goes on where the caller does, with the caller's name, mask and CPUs.
fn thread(
    call: &Call<'_>,
    new: &New,
    number: u32,
    process: &Arc<Process>,
    context: Box<machine::Context>,
) -> Arc<Thread> {
    let own = &call.thread.signals;
    let mut signals = ThreadSignals::with_mask(own.mask.load(Ordering::SeqCst));
    if new.flags & (VM | VFORK) != VM {
        *signals.stack.get_mut() = *own.stack.lock();
    }
    let places = call.thread.file_system();
    let places = if new.flags & FS != 0 { places } else { places.copied() };
    let thread = Thread::new(number, process.clone(), context, signals, places);
    *thread.name.lock() = *call.thread.name.lock();
    let policy = call.thread.policy.load(Ordering::Relaxed);
    let resets = policy & RESET_ON_FORK != 0;
    thread.policy.store(if resets { 0 } else { policy }, Ordering::Relaxed);
    let all = u64::MAX;
    thread.restrict(call.thread.affinity(all), all);
    if new.flags & CLEAR_CHILD_NUMBER != 0 {
        thread.clear_on_exit.store(new.child_number, Ordering::Relaxed);
    }
    thread
}

fn start_thread(call: &mut Call<'_>, new: &New) -> Result<u32> {
    let process = call.process().clone();
    let kernel = process.kernel.clone();
    let context = context(call, new);
    let number = kernel.numbers.take().ok_or(Errno::EAGAIN)?;
    let written = [(SET_PARENT_NUMBER, new.parent_number), (SET_CHILD_NUMBER, new.child_number)]
        .into_iter()
        .filter(|(flag, _)| new.flags & flag != 0)
        .try_for_each(|(_, address)| user::write(call.thread, address, &number.to_le_bytes()));
    if let Err(errno) = written {
        kernel.numbers.give(number);
        return Err(errno);
    }
    let thread = thread(call, new, number, &process, context);
    process.threads.lock().insert(number, thread.clone());
    if kernel.debugger.is_some() || process.must_end(&thread) || process.is_held(&thread) {
        // It may have to stand before its first instruction.
        thread.keep_attention();
    }
    if call.thread.is_traced() {
        ptrace::inherit(call.thread, &thread, ptrace::event::CLONE);
    }
    thread.make_runnable();
    Ok(number)
}

fn start_process(call: &mut Call<'_>, new: &New) -> Result<Arc<Process>> {
    let parent = call.process().clone();
    let kernel = parent.kernel.clone();
    // What is for several from here on is for the child, too; what came before comes first.
    let addressed = parent.addressed.load(Ordering::SeqCst);
    if call.thread.must_look() {
        return Err(Errno::ERESTARTNOINTR);
    }
    let context = context(call, new);
    let number = kernel.numbers.take().ok_or(Errno::EAGAIN)?;
    let memory = if new.flags & VM != 0 {
        Ok(parent.memory().share())
    } else {
        parent.memory().copied(&*kernel.machine, call.cpu)
    };
    let memory = memory.inspect_err(|_| kernel.numbers.give(number))?;
    let child = Child {
        memory,
        shares_files: new.flags & FILES != 0,
        exit_signal: new.exit_signal,
        is_sibling: new.flags & PARENT != 0,
    };
    let births = kernel.births.lock();
    if parent.must_end(call.thread) || parent.addressed.load(Ordering::SeqCst) != addressed {
        // As if the call came after the signal: a child would get away.
        drop(births);
        child.memory.leave(&*kernel.machine, call.cpu);
        kernel.numbers.give(number);
        return Err(Errno::ERESTARTNOINTR);
    }
    let process = parent.child(number, child);
    drop(births);
    if new.flags & CLEAR_HANDLERS != 0 {
        process.signals.reset_handlers();
    }
    if new.flags & (VM | VFORK) == 0 {
        process.part();
    }
    // From here on failing would need to undo a process that others can see; what can fail is told by its
    // absence, as on Linux.
    if new.flags & PIDFD != 0 {
        let file = crate::file::ProcessFile::new(&process);
        let slot = Slot { description: Description::new(file, flag::RDWR, None), close_on_exec: true };
        let descriptor = parent.files.add(slot, 0, parent.limit(7)).unwrap_or(u64::MAX);
        let _ = user::write(call.thread, new.pidfd, &(descriptor as u32).to_le_bytes());
    } else if new.flags & SET_PARENT_NUMBER != 0 {
        let _ = user::write(call.thread, new.parent_number, &number.to_le_bytes());
    }
    let thread = thread(call, new, number, &process, context);
    if call.thread.is_traced() {
        ptrace::inherit(call.thread, &thread, new.event());
    }
    let writes = new.flags & SET_CHILD_NUMBER != 0;
    let excepts = new.flags & VM == 0 && !process.memory().lock().mappings.exceptions().is_empty();
    let debugger = kernel.debugger_of(call.thread).filter(|_| new.flags & VM == 0).cloned();
    let (address, first) = (new.child_number, thread.clone());
    if writes || excepts || debugger.is_some() {
        // Its own memory, which is active where it runs.
        thread.put_before(Box::pin(async move {
            if let Some(debugger) = debugger {
                debugger.spare(&first.process);
            }
            if excepts {
                let (memory, machine) = (first.process.memory(), &first.kernel().machine);
                memory.lock().except(&**machine, memory.space);
            }
            if writes {
                let _ = user::write(&first, address, &number.to_le_bytes());
            }
            Finish::Return(Ok(0))
        }));
    }
    // Signals may have come for the process already, and found nobody.
    thread.keep_attention();
    process.threads.lock().insert(number, thread.clone());
    thread.make_runnable();
    Ok(process)
}

/// unshare(2): what is a process's own anyway, or can be made so.
pub fn unshare(call: &mut Call<'_>) -> Outcome {
    let flags = call.arguments[0];
    if flags & NAMESPACES != 0 {
        return Err::<u64, _>(Errno::EPERM).into();
    }
    if flags & !(FS | FILES | VM | SIGNAL_HANDLERS | THREAD | 0x4_0000) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let alone = call.process().threads.lock().len() == 1;
    if flags & (VM | SIGNAL_HANDLERS | THREAD | FILES) != 0 && !alone {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    if flags & FILES != 0 {
        call.process().files.part();
    }
    if flags & FS != 0 {
        call.thread.part_file_system();
    }
    Ok(0).into()
}
