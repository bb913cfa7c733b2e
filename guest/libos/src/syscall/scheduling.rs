//! Calls on scheduling: sched(7), nice(2).
//!
//! Threads of an island take turns and no policy changes that, so what a program chooses is remembered and told,
//! and those that would put a thread before others are refused (EPERM), as without CAP_SYS_NICE.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::process::thread;
use super::{Call, Finish, Outcome};
use crate::errno::{Errno, Result};
use crate::job;
use crate::process::Process;
use crate::thread::Thread;
use crate::user;

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
        number if number as i32 <= 0 => Err(Errno::EINVAL),
        number => thread(call, number),
    }
}

/// The thread whose processors a call names; who is named by no number is nobody (sched_setaffinity(2)).
fn bound(call: &Call<'_>) -> Result<Arc<Thread>> {
    scheduled(call).map_err(|_| Errno::ESRCH)
}

pub fn sched_getaffinity(call: &mut Call<'_>) -> Outcome {
    if call.arguments[1] < 8 || !call.arguments[1].is_multiple_of(8) {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let cpus = attempt!(bound(call)).affinity(all_cpus(call));
    attempt!(user::write_words(call.thread, call.arguments[2], &[cpus]));
    Ok(8).into()
}
pub fn sched_setaffinity(call: &mut Call<'_>) -> Outcome {
    let length = (call.arguments[1] as usize).min(8);
    let bytes = attempt!(user::read_vec(call.thread, call.arguments[2], length));
    let mut word = [0; 8];
    word[..length].copy_from_slice(&bytes);
    let (cpus, all) = (u64::from_le_bytes(word), all_cpus(call));
    let thread = attempt!(bound(call));
    if cpus & all == 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    thread.restrict(cpus, all);
    let own = Arc::ptr_eq(&thread, call.thread);
    if !own {
        // It moves when it is queued next; if it is, one of its CPUs may have to come for it.
        call.kernel().scheduler.kick_one_of(cpus & all);
    }
    let moves = own && !thread.may_run_on(call.cpu);
    Outcome::Now(if moves { Finish::Yield } else { Finish::Return(Ok(0)) })
}
pub fn sched_yield(call: &mut Call<'_>) -> Outcome {
    Outcome::Now(if call.kernel().scheduler.contended() { Finish::Yield } else { Finish::Return(Ok(0)) })
}

/// SCHED_OTHER, SCHED_BATCH, SCHED_IDLE; and those with priorities, SCHED_FIFO and SCHED_RR.
const ORDINARY: [u32; 3] = [0, 3, 5];
const FIRST_COME: u32 = 1;
const ROUND_ROBIN: u32 = 2;
const DEADLINE: u32 = 6;
/// SCHED_RESET_ON_FORK.
pub(super) const RESET_ON_FORK: u32 = 0x4000_0000;

fn choose(thread: &Thread, policy: u32, priority: u32) -> Result<u64> {
    match policy & !RESET_ON_FORK {
        kind if ORDINARY.contains(&kind) && priority == 0 => {
            thread.policy.store(policy, Ordering::Relaxed);
            Ok(0)
        }
        FIRST_COME | ROUND_ROBIN if (1..=99).contains(&priority) => Err(Errno::EPERM),
        DEADLINE => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_getscheduler(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(attempt!(scheduled(call)).policy.load(Ordering::Relaxed))).into()
}
pub fn sched_setscheduler(call: &mut Call<'_>) -> Outcome {
    let priority = attempt!(user::read_u32(call.thread, call.arguments[2]));
    let thread = attempt!(scheduled(call));
    choose(&thread, call.word(1), priority).into()
}
pub fn sched_getparam(call: &mut Call<'_>) -> Outcome {
    attempt!(scheduled(call));
    user::write(call.thread, call.arguments[1], &[0; 4]).into()
}
pub fn sched_setparam(call: &mut Call<'_>) -> Outcome {
    let priority = attempt!(user::read_u32(call.thread, call.arguments[1]));
    let thread = attempt!(scheduled(call));
    choose(&thread, thread.policy.load(Ordering::Relaxed), priority).into()
}

/// `struct sched_attr`, its first version.
const ATTRIBUTES: usize = 48;

pub fn sched_setattr(call: &mut Call<'_>) -> Outcome {
    let bytes = attempt!(user::read::<ATTRIBUTES>(call.thread, call.arguments[1]));
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let thread = attempt!(scheduled(call));
    let chosen = choose(&thread, word(4), word(20));
    if chosen.is_ok() {
        thread.process.nice.store((word(16) as i32).clamp(-20, 19), Ordering::Relaxed);
    }
    chosen.into()
}
pub fn sched_getattr(call: &mut Call<'_>) -> Outcome {
    if call.word(2) < ATTRIBUTES as u32 || call.word(3) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let thread = attempt!(scheduled(call));
    let mut bytes = [0; ATTRIBUTES];
    let nice = thread.process.nice.load(Ordering::Relaxed) as u32;
    let words = [(0, ATTRIBUTES as u32), (4, thread.policy.load(Ordering::Relaxed)), (16, nice)];
    for (at, word) in words {
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    user::write(call.thread, call.arguments[1], &bytes).into()
}
pub fn sched_rr_get_interval(call: &mut Call<'_>) -> Outcome {
    /// What a thread has when others wait.
    const SLICE_NS: u64 = 4_000_000;
    attempt!(scheduled(call));
    user::write_time(call.thread, call.arguments[1], SLICE_NS).into()
}
pub fn sched_priority_max(call: &mut Call<'_>) -> Outcome {
    match call.word(0) {
        FIRST_COME | ROUND_ROBIN => Ok(99).into(),
        kind if kind == DEADLINE || ORDINARY.contains(&kind) => Ok(0).into(),
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}
pub fn sched_priority_min(call: &mut Call<'_>) -> Outcome {
    match call.word(0) {
        FIRST_COME | ROUND_ROBIN => Ok(1).into(),
        kind if kind == DEADLINE || ORDINARY.contains(&kind) => Ok(0).into(),
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
fn prioritised(call: &Call<'_>) -> Result<Vec<Arc<Process>>> {
    let own = call.process();
    let wanted = |own: u32| if call.word(1) == 0 { own } else { call.word(1) };
    let found = match call.word(0) {
        0 if call.word(1) == 0 => alloc::vec![own.clone()],
        0 => alloc::vec![thread(call, call.word(1))?.process.clone()],
        1 => job::members(call.kernel(), wanted(own.group.load(Ordering::Relaxed))),
        2 => {
            let user = wanted(own.identity.lock().real_user);
            let processes: Vec<Arc<Process>> = call.kernel().processes.lock().values().cloned().collect();
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
    let own = call.process().who();
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
