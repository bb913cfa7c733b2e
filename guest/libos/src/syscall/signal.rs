//! Calls on signals.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::{Call, Finish, Outcome};
use crate::errno::{Errno, Result};
use crate::file::ProcessFile;
use crate::job;
use crate::process::Process;
use crate::signal::{
    self, Action, AlternateStack, Information, SIGCONT, SIGKILL, SIGSTOP, Set, Target, UNBLOCKABLE,
};
use crate::user;
use crate::wait::{self, Patience};

pub fn rt_sigaction(call: &mut Call<'_>) -> Outcome {
    let [number, new, old, size, ..] = call.arguments;
    let number = attempt!(signal::number(number));
    if size != 8 || new != 0 && (number == SIGKILL || number == SIGSTOP) {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let signals = &call.process().signals;
    let before = signals.action(number);
    if new != 0 {
        let [handler, flags, restorer, mask] = attempt!(user::read_words::<4>(call.thread, new));
        signals.set_action(number, Action { handler, flags, restorer, mask: mask & !UNBLOCKABLE });
        signal::forget(call.process(), number);
    }
    if old != 0 {
        let words = [before.handler, before.flags, before.restorer, before.mask];
        attempt!(user::write_words(call.thread, old, &words));
    }
    Ok(0).into()
}

pub fn rt_sigprocmask(call: &mut Call<'_>) -> Outcome {
    let [how, new, old, size, ..] = call.arguments;
    if size != 8 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let mask = &call.thread.signals.mask;
    let before = mask.load(Ordering::Relaxed);
    if new != 0 {
        let set = attempt!(user::read_u64(call.thread, new));
        let after = match how as u32 {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err::<u64, _>(Errno::EINVAL).into(),
        };
        mask.store(after & !UNBLOCKABLE, Ordering::SeqCst);
        signal::look_again(call.thread);
        signal::hand_on(call.process(), after & !before);
    }
    if old != 0 {
        attempt!(user::write_words(call.thread, old, &[before]));
    }
    Ok(0).into()
}

pub fn rt_sigpending(call: &mut Call<'_>) -> Outcome {
    let signals = &call.thread.signals;
    let pending =
        (signals.pending() | call.process().signals.pending_set()) & signals.mask.load(Ordering::SeqCst);
    user::write_words(call.thread, call.arguments[0], &[pending]).into()
}

pub fn rt_sigsuspend(call: &mut Call<'_>) -> Outcome {
    if call.arguments[1] != 8 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let set = attempt!(user::read_u64(call.thread, call.arguments[0]));
    let thread = call.thread.clone();
    thread.signals.mask_for_call(set);
    signal::hand_on(&thread.process, set);
    signal::look_again(&thread);
    call.wait(async move {
        wait::until(&thread, &[], Patience::Forever, || None::<u64>).await.map_err(|_| Errno::ERESTARTNOHAND)
    })
}

pub fn rt_sigreturn(call: &mut Call<'_>) -> Outcome {
    let machine = call.kernel().machine.clone();
    machine.leave(call.cpu, call.context);
    let mask = &call.thread.signals.mask;
    let before = mask.load(Ordering::SeqCst);
    match signal::restore(call.thread, call.context, &machine) {
        Ok(()) => {
            signal::hand_on(call.process(), mask.load(Ordering::SeqCst) & !before);
            Outcome::Now(Finish::Keep)
        }
        Err(_) => {
            signal::force(call.thread, Information::kernel(signal::SIGSEGV));
            Outcome::Now(Finish::Keep)
        }
    }
}

pub fn rt_sigtimedwait(call: &mut Call<'_>) -> Outcome {
    let [set, to, timeout, size, ..] = call.arguments;
    if size != 8 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let set: Set = attempt!(user::read_u64(call.thread, set)) & !UNBLOCKABLE;
    let patience = if timeout == 0 {
        Patience::Forever
    } else {
        let length_ns = attempt!(user::read_time(call.thread, timeout));
        Patience::Until(call.kernel().machine.now().monotonic_ns.saturating_add(length_ns))
    };
    let thread = call.thread.clone();
    call.wait(async move {
        let queue = &thread.process.signals.arrival;
        let taken = wait::until(&thread, &[queue], patience, || signal::take(&thread, set)).await;
        let information = taken.map_err(|errno| match errno {
            Errno::ETIMEDOUT => Errno::EAGAIN,
            _ => Errno::EINTR,
        })?;
        if to != 0 {
            user::write(&thread, to, &information.encode())?;
        }
        Ok(u64::from(information.number))
    })
}

pub fn sigaltstack(call: &mut Call<'_>) -> Outcome {
    let [new, old, ..] = call.arguments;
    let rsp = call.context.registers.rsp;
    let mut stack = call.thread.signals.stack.lock();
    let inside = stack.size != 0 && rsp > stack.address && rsp - stack.address <= stack.size;
    let state: u64 = if stack.size == 0 { 2 } else { u64::from(inside) };
    let before = [stack.address, state | u64::from(stack.flags), stack.size];
    if new != 0 {
        let [address, flags, size] = attempt!(user::read_words::<3>(call.thread, new));
        let flags = flags as u32;
        if inside {
            return Err::<u64, _>(Errno::EPERM).into();
        }
        *stack = match flags & 0x7fff_ffff {
            2 => AlternateStack::default(),
            0 | 1 if size < 2048 => return Err::<u64, _>(Errno::ENOMEM).into(),
            0 | 1 => AlternateStack { address, flags: flags & 0x8000_0000, size },
            _ => return Err::<u64, _>(Errno::EINVAL).into(),
        };
    }
    drop(stack);
    if old != 0 {
        attempt!(user::write_words(call.thread, old, &before));
    }
    Ok(0).into()
}

/// Sends a signal to a process, if the caller may (kill(2)); 0 only asks whether.
fn post(
    call: &Call<'_>,
    process: &Arc<Process>,
    target: Target,
    information: Option<Information>,
) -> Result<()> {
    let own = call.process();
    let continues = information.is_some_and(|information| information.number == SIGCONT)
        && own.session.load(Ordering::Relaxed) == process.session.load(Ordering::Relaxed);
    if !Arc::ptr_eq(own, process) && !continues {
        let (own, other) = (own.who(), process.who());
        if !own.may_signal(&other) {
            return Err(Errno::EPERM);
        }
    }
    information.map_or(Ok(()), |information| signal::try_send(process, target, information))
}

/// The signal an argument names, with what comes along; none for 0.
fn named(argument: u64, make: impl FnOnce(u8) -> Information) -> Result<Option<Information>> {
    if argument == 0 { Ok(None) } else { signal::number(argument).map(|number| Some(make(number))) }
}

fn all(call: &Call<'_>) -> Vec<Arc<Process>> {
    call.kernel().processes.lock().values().cloned().collect()
}

pub fn kill(call: &mut Call<'_>) -> Outcome {
    let (process, user) = (call.process().number, call.process().identity.lock().real_user);
    let own = call.process().group.load(Ordering::Relaxed);
    let kernel = call.kernel().clone();
    let _births = kernel.births.lock();
    let processes = match call.int(0) {
        i32::MIN => return Err::<u64, _>(Errno::ESRCH).into(),
        0 => job::members(call.kernel(), own),
        -1 => all(call).into_iter().filter(|other| !other.is_first() && other.number != process).collect(),
        group if group < 0 => job::members(call.kernel(), group.unsigned_abs()),
        number => vec![attempt!(super::group::process(call, number as u32))],
    };
    if processes.is_empty() {
        return Err::<u64, _>(Errno::ESRCH).into();
    }
    if call.int(0) <= 0 {
        job::address(&processes);
    }
    let information = attempt!(named(call.arguments[1], |number| Information::user(number, process, user)));
    // One that may be signalled is enough, but an error of all counts.
    let mut outcome = Err(Errno::ESRCH);
    for process in processes {
        let posted = post(call, &process, Target::Process, information);
        if outcome.is_err() {
            outcome = posted;
        }
    }
    outcome.into()
}

/// The process of a thread that is named by its number.
fn owner(call: &Call<'_>, number: i32) -> Result<Arc<Process>> {
    if number <= 0 {
        return Err(Errno::EINVAL);
    }
    super::process::thread(call, number as u32).map(|thread| thread.process.clone())
}

pub fn tkill(call: &mut Call<'_>) -> Outcome {
    let (process, user) = (call.process().number, call.process().identity.lock().real_user);
    let owner = attempt!(owner(call, call.int(0)));
    let information = attempt!(named(call.arguments[1], |number| Information::thread(number, process, user)));
    post(call, &owner, Target::Thread(call.word(0)), information).into()
}

/// A thread that is named together with its process.
fn member(call: &Call<'_>) -> Result<(Arc<Process>, Target)> {
    if call.int(0) <= 0 || call.int(1) <= 0 {
        return Err(Errno::EINVAL);
    }
    let process = super::group::process(call, call.word(0))?;
    let has = process.threads.lock().contains_key(&call.word(1));
    if has { Ok((process, Target::Thread(call.word(1)))) } else { Err(Errno::ESRCH) }
}

pub fn tgkill(call: &mut Call<'_>) -> Outcome {
    let (process, target) = attempt!(member(call));
    let (own, user) = (call.process().number, call.process().identity.lock().real_user);
    let information = attempt!(named(call.arguments[2], |number| Information::thread(number, own, user)));
    post(call, &process, target, information).into()
}

/// What a program composed, for itself or another process: that it is from the kernel, nobody else may be told.
fn composed(
    call: &Call<'_>,
    process: &Arc<Process>,
    number: u64,
    address: u64,
) -> Result<Option<Information>> {
    let bytes = user::read::<128>(call.thread, address)?;
    let information = named(number, |number| Information::raw(number, &bytes))?;
    let pretends =
        information.is_some_and(|information| information.code >= 0 || information.code == SI_TKILL);
    if pretends && !Arc::ptr_eq(call.process(), process) { Err(Errno::EPERM) } else { Ok(information) }
}

/// `si_code` of tgkill(2).
const SI_TKILL: i32 = -6;

pub fn rt_sigqueueinfo(call: &mut Call<'_>) -> Outcome {
    if call.int(0) <= 0 {
        return Err::<u64, _>(Errno::ESRCH).into();
    }
    let process = attempt!(super::group::process(call, call.word(0)));
    let information = attempt!(composed(call, &process, call.arguments[1], call.arguments[2]));
    post(call, &process, Target::Process, information).into()
}

pub fn rt_tgsigqueueinfo(call: &mut Call<'_>) -> Outcome {
    let (process, target) = attempt!(member(call));
    let information = attempt!(composed(call, &process, call.arguments[2], call.arguments[3]));
    post(call, &process, target, information).into()
}

pub fn pidfd_send_signal(call: &mut Call<'_>) -> Outcome {
    let [descriptor, number, address, flags, ..] = call.arguments;
    if flags != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let description = attempt!(call.process().files.get(descriptor));
    let process = attempt!(ProcessFile::or_directory(&description, call.kernel()));
    let known = call.kernel().processes.lock().get(&process.number).cloned();
    if !known.is_some_and(|known| Arc::ptr_eq(&known, &process)) {
        // It has been waited for.
        return Err::<u64, _>(Errno::ESRCH).into();
    }
    let (own, user) = (call.process().number, call.process().identity.lock().real_user);
    let information = attempt!(match address {
        0 => named(number, |number| Information::user(number, own, user)),
        address => composed(call, &process, number, address),
    });
    post(call, &process, Target::Process, information).into()
}
