//! Calls on signals.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::{Call, Finish, Outcome};
use crate::errno::{Errno, Result};
use crate::process::Process;
use crate::signal::{self, Action, AlternateStack, Information, SIGKILL, SIGSTOP, Set, Target, UNBLOCKABLE};
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
    signal::look_again(&thread);
    call.wait(async move {
        wait::until(&thread, &[], Patience::Forever, || None::<u64>).await.map_err(|_| Errno::ERESTARTNOHAND)
    })
}

pub fn rt_sigreturn(call: &mut Call<'_>) -> Outcome {
    let machine = call.kernel().machine.clone();
    machine.leave(call.cpu, call.context);
    match signal::restore(call.thread, call.context, &machine) {
        Ok(()) => Outcome::Now(Finish::Keep),
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

/// A process that a program names: itself, its group, or everybody it may signal.
fn addressed(call: &Call<'_>, number: i32) -> Result<Arc<Process>> {
    let process = call.process();
    let own = process.number as i32;
    match number {
        0 => Ok(process.clone()),
        number if number == own || number == -own => Ok(process.clone()),
        _ => Err(Errno::ESRCH),
    }
}

fn post(call: &Call<'_>, target: Target, number: u64, make: impl FnOnce(u8) -> Information) -> Result<u64> {
    if number == 0 {
        return Ok(0);
    }
    let number = signal::number(number)?;
    signal::send(call.process(), target, make(number));
    Ok(0)
}

pub fn kill(call: &mut Call<'_>) -> Outcome {
    attempt!(addressed(call, call.int(0)));
    let (process, user) = (call.process().number, call.process().identity.lock().real_user);
    post(call, Target::Process, call.arguments[1], |number| Information::user(number, process, user)).into()
}

fn thread_target(call: &Call<'_>, number: u32) -> Result<Target> {
    if number as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    if call.process().threads.lock().contains_key(&number) {
        Ok(Target::Thread(number))
    } else {
        Err(Errno::ESRCH)
    }
}

pub fn tkill(call: &mut Call<'_>) -> Outcome {
    let target = attempt!(thread_target(call, call.word(0)));
    let (process, user) = (call.process().number, call.process().identity.lock().real_user);
    post(call, target, call.arguments[1], |number| Information::thread(number, process, user)).into()
}

/// A thread that is named together with its process.
fn member_target(call: &Call<'_>) -> Result<Target> {
    if call.int(0) <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = thread_target(call, call.word(1))?;
    if call.word(0) == call.process().number { Ok(target) } else { Err(Errno::ESRCH) }
}

pub fn tgkill(call: &mut Call<'_>) -> Outcome {
    let target = attempt!(member_target(call));
    let (process, user) = (call.process().number, call.process().identity.lock().real_user);
    post(call, target, call.arguments[2], |number| Information::thread(number, process, user)).into()
}

pub fn rt_sigqueueinfo(call: &mut Call<'_>) -> Outcome {
    attempt!(addressed(call, call.int(0)));
    let bytes = attempt!(user::read::<128>(call.thread, call.arguments[2]));
    post(call, Target::Process, call.arguments[1], |number| Information::raw(number, &bytes)).into()
}

pub fn rt_tgsigqueueinfo(call: &mut Call<'_>) -> Outcome {
    let target = attempt!(member_target(call));
    let bytes = attempt!(user::read::<128>(call.thread, call.arguments[3]));
    post(call, target, call.arguments[2], |number| Information::raw(number, &bytes)).into()
}
