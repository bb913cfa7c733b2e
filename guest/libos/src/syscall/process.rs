//! Calls on processes: execve, waiting, groups, prctl, limits, scheduling.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::{Call, Finish, Outcome};
use crate::errno::{Errno, Result};
use crate::process::UNLIMITED;
use crate::thread::Thread;
use crate::user;
use crate::wait;
use alloc::sync::Arc;

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
    execute(call, path, call.arguments[1], call.arguments[2])
}

pub fn execveat(call: &mut Call<'_>) -> Outcome {
    let mut path = attempt!(user::read_path(call.thread, call.arguments[1]));
    if path.first() != Some(&b'/') && call.int(0) != -100 {
        if path.is_empty() && call.arguments[4] & 0x1000 == 0 {
            return Err::<u64, _>(Errno::ENOENT).into();
        }
        let description = attempt!(call.process().files.any(call.arguments[0]));
        let location = attempt!(description.location.clone().ok_or(Errno::EACCES));
        let mut full = location.path();
        if !path.is_empty() {
            full.push(b'/');
            full.append(&mut path);
        }
        path = full;
    }
    execute(call, path, call.arguments[2], call.arguments[3])
}

/// The point of no return is where the other threads are told to end: before it, errors are returned;
/// after it, a failure ends the process, as on Linux.
fn execute(call: &mut Call<'_>, path: Vec<u8>, arguments: u64, environment: u64) -> Outcome {
    let mut total = 0;
    let arguments = attempt!(strings(call.thread, arguments, &mut total));
    let environment = attempt!(strings(call.thread, environment, &mut total));
    let thread = call.thread.clone();
    Outcome::of(&call.thread.clone(), async move {
        let image = match crate::loader::load(&thread, &path, arguments, environment).await {
            Ok(image) => image,
            Err(error) if error.errno == Errno::EISDIR => return Finish::Return(Err(Errno::EACCES)),
            Err(error) => return Finish::Return(Err(error.errno)),
        };
        let process = thread.process.clone();
        if process.sole_survivor.swap(thread.number, Ordering::SeqCst) != 0 {
            return Finish::Return(Err(Errno::EAGAIN));
        }
        let others: Vec<Arc<Thread>> =
            process.threads.lock().values().filter(|other| other.number != thread.number).cloned().collect();
        others.iter().for_each(|other| other.call_attention());
        while process.threads.lock().len() > 1 {
            // Each of them leaves the map on its next look; a tick is long enough to wait for it.
            let soon = process.kernel.machine.now().monotonic_ns + 1_000_000;
            let _ = wait::sleep(&thread, soon).await;
        }
        process.sole_survivor.store(0, Ordering::SeqCst);
        for slot in process.files.take_close_on_exec() {
            super::descriptor::let_go(&process, slot);
        }
        process.signals.reset_handlers();
        *thread.signals.stack.lock() = Default::default();
        process.timers.clear_posix();
        thread.clear_on_exit.store(0, Ordering::Relaxed);
        thread.robust_list.store(0, Ordering::Relaxed);
        match crate::loader::install(&thread, image).await {
            Ok(context) => Finish::Start(context),
            Err(_) => process.end(abi::exit::Exit::Signal(crate::signal::SIGSEGV)),
        }
    })
}

/// WNOHANG, and what __WNOTHREAD, __WALL and __WCLONE are.
const WAIT_ANY: u32 = 0xe000_0001;
const STOPPED: u32 = 2;
const EXITED: u32 = 4;
const CONTINUED: u32 = 8;
const NO_WAIT: u32 = 0x100_0000;

/// There are no children yet.
fn childless(good: bool) -> Outcome {
    Err::<u64, _>(if good { Errno::ECHILD } else { Errno::EINVAL }).into()
}
pub fn wait4(call: &mut Call<'_>) -> Outcome {
    childless(call.word(2) & !(WAIT_ANY | STOPPED | CONTINUED) == 0)
}
pub fn waitid(call: &mut Call<'_>) -> Outcome {
    let (kind, options) = (call.word(0), call.word(3));
    let states = STOPPED | EXITED | CONTINUED;
    childless(kind <= 3 && options & !(WAIT_ANY | NO_WAIT | states) == 0 && options & states != 0)
}

pub fn getpid(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.process().number)).into()
}
pub fn getppid(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.process().parent)).into()
}

fn is_self(call: &Call<'_>, number: u32) -> Result<()> {
    if number == 0 || number == call.process().number { Ok(()) } else { Err(Errno::ESRCH) }
}

pub fn getpgid(call: &mut Call<'_>) -> Outcome {
    attempt!(is_self(call, call.word(0)));
    getpgrp(call)
}
pub fn getpgrp(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.process().group.load(Ordering::Relaxed))).into()
}
pub fn setpgid(call: &mut Call<'_>) -> Outcome {
    attempt!(is_self(call, call.word(0)));
    // The first process leads its session, which no group change may leave.
    if call.word(1) == 0 || call.word(1) == call.process().number {
        Ok(0).into()
    } else {
        Err::<u64, _>(Errno::EPERM).into()
    }
}
pub fn getsid(call: &mut Call<'_>) -> Outcome {
    attempt!(is_self(call, call.word(0)));
    Ok(u64::from(call.process().session.load(Ordering::Relaxed))).into()
}
pub fn setsid(_call: &mut Call<'_>) -> Outcome {
    Err::<u64, _>(Errno::EPERM).into()
}

/// CAP_CHECKPOINT_RESTORE (capabilities(7)).
const LAST_CAPABILITY: u64 = 40;

/// prctl(2), as far as one process can mean it.
pub fn prctl(call: &mut Call<'_>) -> Outcome {
    let [option, argument, ..] = call.arguments;
    match option {
        15 => {
            let mut name = [0; 16];
            for (index, byte) in name.iter_mut().take(15).enumerate() {
                *byte = attempt!(user::read::<1>(call.thread, argument + index as u64))[0];
                if *byte == 0 {
                    break;
                }
            }
            *call.thread.name.lock() = name;
            Ok(0).into()
        }
        16 => {
            let name = *call.thread.name.lock();
            user::write(call.thread, argument, &name).into()
        }
        // PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_SET_TIMERSLACK,
        // PR_SET_CHILD_SUBREAPER, PR_SET_THP_DISABLE, PR_SET_PTRACER, PR_SET_SECUREBITS
        1 | 4 | 8 | 29 | 36 | 38 | 41 | 0x5961_6d61 | 28 => Ok(0).into(),
        2 => user::write(call.thread, argument, &[0; 4]).into(),
        3 => Ok(1).into(),
        7 | 27 | 42 => Ok(0).into(),
        30 => Ok(50_000).into(),
        39 => Ok(1).into(),
        // PR_CAPBSET_READ, PR_CAPBSET_DROP
        23 | 24 if argument > LAST_CAPABILITY => Err::<u64, _>(Errno::EINVAL).into(),
        23 => Ok(u64::from(call.process().identity.lock().privileged())).into(),
        24 => Ok(0).into(),
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}

/// arch_prctl(2). GS is the library OS's.
pub fn arch_prctl(call: &mut Call<'_>) -> Outcome {
    let [code, address, ..] = call.arguments;
    match code {
        0x1002 => {
            if address >= call.kernel().machine.user_end() {
                return Err::<u64, _>(Errno::EPERM).into();
            }
            let machine = call.kernel().machine.clone();
            machine.leave(call.cpu, call.context);
            call.context.registers.fs_base = address;
            Ok(0).into()
        }
        0x1003 => {
            let machine = call.kernel().machine.clone();
            machine.leave(call.cpu, call.context);
            let base = call.context.registers.fs_base;
            user::write_words(call.thread, address, &[base]).into()
        }
        0x1001 => Err::<u64, _>(Errno::EPERM).into(),
        0x1004 => user::write_words(call.thread, address, &[0]).into(),
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}

pub fn getrlimit(call: &mut Call<'_>) -> Outcome {
    if call.arguments[0] >= 16 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let (soft, hard) = call.process().limits.lock()[call.arguments[0] as usize];
    user::write_words(call.thread, call.arguments[1], &[soft, hard]).into()
}
pub fn setrlimit(call: &mut Call<'_>) -> Outcome {
    set_limit(call, call.arguments[0], call.arguments[1]).into()
}
fn set_limit(call: &Call<'_>, resource: u64, address: u64) -> Result<u64> {
    let [soft, hard] = user::read_words::<2>(call.thread, address)?;
    if resource >= 16 || soft > hard {
        return Err(Errno::EINVAL);
    }
    let privileged = call.process().identity.lock().privileged();
    let mut limits = call.process().limits.lock();
    let entry = &mut limits[resource as usize];
    if hard > entry.1 && !privileged || resource == 7 && hard != UNLIMITED && hard > 1 << 20 {
        return Err(Errno::EPERM);
    }
    *entry = (soft, hard);
    Ok(0)
}
pub fn prlimit64(call: &mut Call<'_>) -> Outcome {
    let [number, resource, new, old, ..] = call.arguments;
    attempt!(is_self(call, number as u32));
    if resource >= 16 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let before = call.process().limits.lock()[resource as usize];
    if new != 0 {
        attempt!(set_limit(call, resource, new));
    }
    if old != 0 {
        attempt!(user::write_words(call.thread, old, &[before.0, before.1]));
    }
    Ok(0).into()
}

/// All CPUs of the island, as a set.
fn all_cpus(call: &Call<'_>) -> u64 {
    match call.kernel().boot.cpus {
        cpus @ 0..64 => (1 << cpus) - 1,
        _ => u64::MAX,
    }
}
/// The thread that a call on scheduling names.
fn scheduled(call: &Call<'_>) -> Result<Arc<Thread>> {
    match call.word(0) {
        0 => Ok(call.thread.clone()),
        number => call.process().threads.lock().get(&number).cloned().ok_or(Errno::ESRCH),
    }
}
pub fn sched_getaffinity(call: &mut Call<'_>) -> Outcome {
    if call.arguments[1] < 8 || !call.arguments[1].is_multiple_of(8) {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let cpus = attempt!(scheduled(call)).affinity(all_cpus(call));
    attempt!(user::write_words(call.thread, call.arguments[2], &[cpus]));
    Ok(8).into()
}
pub fn sched_setaffinity(call: &mut Call<'_>) -> Outcome {
    let length = (call.arguments[1] as usize).min(8);
    let bytes = attempt!(user::read_vec(call.thread, call.arguments[2], length));
    let mut word = [0; 8];
    word[..length].copy_from_slice(&bytes);
    let (cpus, all) = (u64::from_le_bytes(word), all_cpus(call));
    let thread = attempt!(scheduled(call));
    if cpus & all == 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    thread.restrict(cpus, all);
    // Another thread moves when it is queued next.
    let moves = Arc::ptr_eq(&thread, call.thread) && !thread.may_run_on(call.cpu);
    Outcome::Now(if moves { Finish::Yield } else { Finish::Return(Ok(0)) })
}
pub fn sched_yield(call: &mut Call<'_>) -> Outcome {
    Outcome::Now(if call.kernel().scheduler.contended() { Finish::Yield } else { Finish::Return(Ok(0)) })
}
pub fn sched_getparam(call: &mut Call<'_>) -> Outcome {
    user::write(call.thread, call.arguments[1], &[0; 4]).into()
}
pub fn sched_setscheduler(call: &mut Call<'_>) -> Outcome {
    if matches!(call.arguments[1], 0 | 3 | 5) { Ok(0).into() } else { Err::<u64, _>(Errno::EPERM).into() }
}
pub fn sched_priority_max(call: &mut Call<'_>) -> Outcome {
    match call.arguments[0] {
        0 | 3 | 5 => Ok(0).into(),
        1 | 2 => Ok(99).into(),
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}
pub fn sched_priority_min(call: &mut Call<'_>) -> Outcome {
    match call.arguments[0] {
        0 | 3 | 5 => Ok(0).into(),
        1 | 2 => Ok(1).into(),
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}
pub fn getcpu(call: &mut Call<'_>) -> Outcome {
    for (address, value) in [(call.arguments[0], u32::from(call.cpu.0)), (call.arguments[1], 0)] {
        if address != 0 {
            attempt!(user::write(call.thread, address, &value.to_le_bytes()));
        }
    }
    Ok(0).into()
}
/// Whose priority it is: the process itself, its group or its user.
fn has_priority(call: &Call<'_>) -> Result<()> {
    let process = call.process();
    let own = match call.word(0) {
        0 => process.threads.lock().contains_key(&call.word(1)),
        1 => process.group.load(Ordering::Relaxed) == call.word(1),
        2 => process.identity.lock().real_user == call.word(1),
        _ => return Err(Errno::EINVAL),
    };
    if own || call.word(1) == 0 { Ok(()) } else { Err(Errno::ESRCH) }
}
pub fn getpriority(call: &mut Call<'_>) -> Outcome {
    attempt!(has_priority(call));
    // From 40 (-20) down to 1 (19), so that no value looks like an error.
    Ok((20 - call.process().nice.load(Ordering::Relaxed)) as u64).into()
}
pub fn setpriority(call: &mut Call<'_>) -> Outcome {
    attempt!(has_priority(call));
    let wanted = call.int(2).clamp(-20, 19);
    let process = call.process();
    if wanted < process.nice.load(Ordering::Relaxed) && !process.identity.lock().privileged() {
        return Err::<u64, _>(Errno::EACCES).into();
    }
    process.nice.store(wanted, Ordering::Relaxed);
    Ok(0).into()
}
/// personality(2): only the one there is.
pub fn personality(_call: &mut Call<'_>) -> Outcome {
    Ok(0).into()
}
