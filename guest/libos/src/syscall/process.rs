//! Calls on a process's own settings: prctl(2), limits, scheduling.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::{Call, Finish, Outcome};
use crate::errno::{Errno, Result};
use crate::job;
use crate::process::{Process, UNLIMITED};
use crate::thread::Thread;
use crate::user;

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
        // PR_SET_PDEATHSIG, PR_GET_PDEATHSIG
        1 if argument > 64 => Err::<u64, _>(Errno::EINVAL).into(),
        1 => {
            call.process().parent_death.store(argument as u8, Ordering::Relaxed);
            Ok(0).into()
        }
        2 => {
            let number = u32::from(call.process().parent_death.load(Ordering::Relaxed));
            user::write(call.thread, argument, &number.to_le_bytes()).into()
        }
        // PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER
        36 => {
            call.process().reaps.store(argument != 0, Ordering::Relaxed);
            Ok(0).into()
        }
        37 => {
            let reaps = u32::from(call.process().reaps.load(Ordering::Relaxed));
            user::write(call.thread, argument, &reaps.to_le_bytes()).into()
        }
        // PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_SECUREBITS, PR_SET_TIMERSLACK, PR_SET_NO_NEW_PRIVS,
        // PR_SET_THP_DISABLE, PR_SET_PTRACER
        4 | 8 | 28 | 29 | 38 | 41 | 0x5961_6d61 => Ok(0).into(),
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
    set_limit(call, call.process(), call.arguments[0], call.arguments[1]).into()
}
fn set_limit(call: &Call<'_>, process: &Process, resource: u64, address: u64) -> Result<u64> {
    let [soft, hard] = user::read_words::<2>(call.thread, address)?;
    if resource >= 16 || soft > hard {
        return Err(Errno::EINVAL);
    }
    let privileged = call.process().identity.lock().privileged();
    let mut limits = process.limits.lock();
    let entry = &mut limits[resource as usize];
    if hard > entry.1 && !privileged || resource == 7 && hard != UNLIMITED && hard > 1 << 20 {
        return Err(Errno::EPERM);
    }
    *entry = (soft, hard);
    Ok(0)
}
pub fn prlimit64(call: &mut Call<'_>) -> Outcome {
    let [number, resource, new, old, ..] = call.arguments;
    let process = attempt!(super::group::process(call, number as u32));
    if resource >= 16 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    if !Arc::ptr_eq(&process, call.process()) {
        let (own, other) = (call.process().identity.lock().clone(), process.identity.lock().clone());
        let same = own.real_user == other.real_user && own.real_user == other.saved_user;
        if !own.privileged() && !same {
            return Err::<u64, _>(Errno::EPERM).into();
        }
    }
    let before = process.limits.lock()[resource as usize];
    if new != 0 {
        attempt!(set_limit(call, &process, resource, new));
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
/// The thread with a number, whose process it may be.
pub(super) fn thread(call: &Call<'_>, number: u32) -> Result<Arc<Thread>> {
    if let Some(thread) = call.process().threads.lock().get(&number) {
        return Ok(thread.clone());
    }
    let processes: alloc::vec::Vec<Arc<Process>> = call.kernel().processes.lock().values().cloned().collect();
    let found = processes.iter().find_map(|process| process.threads.lock().get(&number).cloned());
    found.ok_or(Errno::ESRCH)
}

/// The thread that a call on scheduling names.
fn scheduled(call: &Call<'_>) -> Result<Arc<Thread>> {
    match call.word(0) {
        0 => Ok(call.thread.clone()),
        number => thread(call, number),
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
/// Whose priorities are named: a process's, its group's or its user's.
fn prioritised(call: &Call<'_>) -> Result<alloc::vec::Vec<Arc<Process>>> {
    let own = call.process();
    let wanted = |own: u32| if call.word(1) == 0 { own } else { call.word(1) };
    let found = match call.word(0) {
        0 if call.word(1) == 0 => alloc::vec![own.clone()],
        0 => alloc::vec![thread(call, call.word(1))?.process.clone()],
        1 => job::members(call.kernel(), wanted(own.group.load(Ordering::Relaxed))),
        2 => {
            let user = wanted(own.identity.lock().real_user);
            let processes: alloc::vec::Vec<Arc<Process>> =
                call.kernel().processes.lock().values().cloned().collect();
            processes.into_iter().filter(|process| process.identity.lock().real_user == user).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if found.is_empty() { Err(Errno::ESRCH) } else { Ok(found) }
}
pub fn getpriority(call: &mut Call<'_>) -> Outcome {
    let found = attempt!(prioritised(call));
    let nice = found.iter().map(|process| process.nice.load(Ordering::Relaxed)).min().unwrap_or(0);
    // From 40 (-20) down to 1 (19), so that no value looks like an error.
    Ok((20 - nice) as u64).into()
}
pub fn setpriority(call: &mut Call<'_>) -> Outcome {
    let wanted = call.int(2).clamp(-20, 19);
    let own = call.process().identity.lock().clone();
    for process in attempt!(prioritised(call)) {
        let owner = process.identity.lock().user;
        if !own.privileged() && own.user != owner && own.real_user != owner {
            return Err::<u64, _>(Errno::EPERM).into();
        }
        if wanted < process.nice.load(Ordering::Relaxed) && !own.privileged() {
            return Err::<u64, _>(Errno::EACCES).into();
        }
        process.nice.store(wanted, Ordering::Relaxed);
    }
    Ok(0).into()
}
/// personality(2): only the one there is.
pub fn personality(_call: &mut Call<'_>) -> Outcome {
    Ok(0).into()
}
