//! Calls on a process's own settings: prctl(2), limits, scheduling.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::process::Process;
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
/// What Linux lets descriptor numbers grow to (/proc/sys/fs/nr_open).
const DESCRIPTORS_MOST: u64 = 1 << 20;

fn set_limit(call: &Call<'_>, process: &Process, resource: u64, address: u64) -> Result<u64> {
    let [soft, hard] = user::read_words::<2>(call.thread, address)?;
    if resource >= 16 || soft > hard {
        return Err(Errno::EINVAL);
    }
    let privileged = call.process().identity.lock().privileged();
    let mut limits = process.limits.lock();
    let entry = &mut limits[resource as usize];
    if hard > entry.1 && !privileged || resource == 7 && hard > DESCRIPTORS_MOST {
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
        let (own, other) = (call.process().who(), process.who());
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

/// The thread with a number, whose process it may be.
pub(super) fn thread(call: &Call<'_>, number: u32) -> Result<Arc<Thread>> {
    if let Some(thread) = call.process().threads.lock().get(&number) {
        return Ok(thread.clone());
    }
    let processes: alloc::vec::Vec<Arc<Process>> = call.kernel().processes.lock().values().cloned().collect();
    let found = processes.iter().find_map(|process| process.threads.lock().get(&number).cloned());
    found.ok_or(Errno::ESRCH)
}

/// personality(2): Linux's own, with flags; of those ADDR_NO_RANDOMIZE counts.
pub fn personality(call: &mut Call<'_>) -> Outcome {
    const ASK: u32 = u32::MAX;
    const DOMAIN: u32 = 0xff;
    let (wanted, personality) = (call.word(0), &call.process().personality);
    let before = match wanted {
        ASK => personality.load(Ordering::Relaxed),
        _ if wanted & DOMAIN != 0 => return Err::<u64, _>(Errno::EINVAL).into(),
        _ => personality.swap(wanted, Ordering::Relaxed),
    };
    Ok(u64::from(before)).into()
}
