//! Clocks, sleeping and interval timers.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::{Call, Outcome};
use crate::clock::Clock;
use crate::errno::{Errno, Result};
use crate::interval::{FIRST_POSIX, IntervalTimer, Notice};
use crate::signal::{self, SIGALRM, SIGPROF, SIGVTALRM};
use crate::user;
use crate::wait;

const SECOND: u64 = 1_000_000_000;

/// A clock by its number (clock_getres(2) lists them).
fn clock(call: &Call<'_>, clock: u64) -> Result<Clock> {
    match clock as u32 as i32 {
        0 | 5 | 8 | 11 => Ok(Clock::Realtime),
        1 | 4 | 6 | 7 | 9 => Ok(Clock::Monotonic),
        2 => Ok(Clock::Process(Arc::downgrade(call.process()))),
        3 => Ok(Clock::Thread(Arc::downgrade(call.thread))),
        negative if negative < 0 => processor_clock(call, negative),
        _ => Err(Errno::EINVAL),
    }
}

/// A clock of a process or thread by its number, as clock_getcpuclockid(3) composes it.
fn processor_clock(call: &Call<'_>, clock: i32) -> Result<Clock> {
    const OF_THREAD: i32 = 4;
    let process = call.process();
    let number = !(clock >> 3) as u32;
    match (clock & OF_THREAD != 0, clock & 3) {
        (_, 3) => Err(Errno::EINVAL),
        (false, _) if number == 0 => Ok(Clock::Process(Arc::downgrade(process))),
        (true, _) if number == 0 => Ok(Clock::Thread(Arc::downgrade(call.thread))),
        (true, _) => {
            let threads = process.threads.lock();
            Ok(Clock::Thread(Arc::downgrade(threads.get(&number).ok_or(Errno::EINVAL)?)))
        }
        (false, _) => {
            let processes = call.kernel().processes.lock();
            Ok(Clock::Process(Arc::downgrade(processes.get(&number).ok_or(Errno::EINVAL)?)))
        }
    }
}

pub fn clock_gettime(call: &mut Call<'_>) -> Outcome {
    let time_ns = attempt!(clock(call, call.arguments[0])).time_ns(call.kernel().machine.now());
    user::write_time(call.thread, call.arguments[1], time_ns).into()
}
pub fn clock_getres(call: &mut Call<'_>) -> Outcome {
    attempt!(clock(call, call.arguments[0]));
    let coarse = matches!(call.arguments[0], 5 | 6);
    if call.arguments[1] == 0 {
        return Ok(0).into();
    }
    user::write_time(call.thread, call.arguments[1], if coarse { 4_000_000 } else { 1 }).into()
}
pub fn clock_settime(_call: &mut Call<'_>) -> Outcome {
    Err::<u64, _>(Errno::EPERM).into()
}
pub fn gettimeofday(call: &mut Call<'_>) -> Outcome {
    let now_ns = call.kernel().machine.now().realtime_ns;
    if call.arguments[0] != 0 {
        let words = [now_ns / SECOND, now_ns % SECOND / 1000];
        attempt!(user::write_words(call.thread, call.arguments[0], &words));
    }
    if call.arguments[1] != 0 {
        attempt!(user::write(call.thread, call.arguments[1], &[0; 8]));
    }
    Ok(0).into()
}
pub fn time(call: &mut Call<'_>) -> Outcome {
    let seconds = call.kernel().machine.now().realtime_ns / SECOND;
    if call.arguments[0] != 0 {
        attempt!(user::write_words(call.thread, call.arguments[0], &[seconds]));
    }
    Ok(seconds).into()
}
pub fn times(call: &mut Call<'_>) -> Outcome {
    let now_ns = call.kernel().machine.now().monotonic_ns;
    let ticks = call.process().processor_time_ns() / 10_000_000;
    if call.arguments[0] != 0 {
        let children = call.process().children_time_ns.load(Ordering::Relaxed) / 10_000_000;
        attempt!(user::write_words(call.thread, call.arguments[0], &[ticks, 0, children, 0]));
    }
    Ok(now_ns / 10_000_000).into()
}
pub fn getrusage(call: &mut Call<'_>) -> Outcome {
    let mut words = [0; 18];
    let used_ns = match call.int(0) {
        0 => call.process().processor_time_ns(),
        1 => call.thread.processor_time_ns(),
        -1 => call.process().children_time_ns.load(Ordering::Relaxed),
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    words[0] = used_ns / SECOND;
    words[1] = used_ns % SECOND / 1000;
    if call.int(0) == -1 {
        return user::write_words(call.thread, call.arguments[1], &words).into();
    }
    let (thread, place) = (call.thread.clone(), call.arguments[1]);
    call.wait(async move {
        words[4] = thread.kernel().measure_memory().await.peak / 1024;
        user::write_words(&thread, place, &words).map(|()| 0)
    })
}

/// Sleeps until a time on the monotonic clock; the rest is written to `remaining` if interrupted.
fn sleep(call: &Call<'_>, until_ns: u64, remaining: u64) -> Outcome {
    let thread = call.thread.clone();
    let until_ns = thread.signals.resumed().unwrap_or(until_ns);
    call.wait(async move {
        if wait::sleep(&thread, until_ns).await.is_ok() {
            return Ok(0);
        }
        if remaining != 0 {
            let now_ns = thread.kernel().machine.now().monotonic_ns;
            user::write_time(&thread, remaining, until_ns.saturating_sub(now_ns))?;
        }
        Err(thread.signals.resume_until(until_ns))
    })
}
pub fn nanosleep(call: &mut Call<'_>) -> Outcome {
    let length_ns = attempt!(user::read_time(call.thread, call.arguments[0]));
    let until_ns = call.kernel().machine.now().monotonic_ns.saturating_add(length_ns);
    sleep(call, until_ns, call.arguments[1])
}
pub fn clock_nanosleep(call: &mut Call<'_>) -> Outcome {
    let [number, flags, request, remaining, ..] = call.arguments;
    let time_ns = attempt!(user::read_time(call.thread, request));
    let clock = attempt!(clock(call, number));
    let now = call.kernel().machine.now();
    let (clock_ns, now_ns) = (clock.time_ns(now), now.monotonic_ns);
    if flags & 1 == 0 {
        return sleep(call, now_ns.saturating_add(time_ns), remaining);
    }
    sleep(call, now_ns.saturating_add(time_ns.saturating_sub(clock_ns)), 0)
}
pub fn pause(call: &mut Call<'_>) -> Outcome {
    let thread = call.thread.clone();
    call.wait(async move {
        wait::until(&thread, &[], wait::Patience::Forever, || None::<u64>)
            .await
            .map_err(|_| Errno::ERESTARTNOHAND)
    })
}

/// setitimer's timer of a kind. What a process does itself and what is done for it is not told apart, so
/// ITIMER_VIRTUAL is ITIMER_PROF with another signal.
fn old_timer(call: &Call<'_>, which: u64) -> Result<Arc<IntervalTimer>> {
    let process = call.process();
    let (number, clock) = match which {
        0 => (SIGALRM, Clock::Monotonic),
        1 => (SIGVTALRM, Clock::Process(Arc::downgrade(process))),
        2 => (SIGPROF, Clock::Process(Arc::downgrade(process))),
        _ => return Err(Errno::EINVAL),
    };
    let notice = Notice::Signal { number, value: 0, thread: None };
    Ok(process.timers.get_or_add(which as u32, || IntervalTimer::new(process, which as u32, clock, notice)))
}

/// `struct itimerval` of remaining time and interval.
fn microseconds(remaining: (u64, u64)) -> [u64; 4] {
    let (next_ns, interval_ns) = remaining;
    [
        interval_ns / SECOND,
        interval_ns % SECOND / 1000,
        next_ns / SECOND,
        (next_ns % SECOND / 1000).max(u64::from(next_ns > 0 && next_ns < 1000)),
    ]
}
pub fn getitimer(call: &mut Call<'_>) -> Outcome {
    let timer = attempt!(old_timer(call, call.arguments[0]));
    user::write_words(call.thread, call.arguments[1], &microseconds(timer.remaining())).into()
}
pub fn setitimer(call: &mut Call<'_>) -> Outcome {
    let [which, new, old, ..] = call.arguments;
    let timer = attempt!(old_timer(call, which));
    let before = microseconds(timer.remaining());
    if new != 0 {
        let [a, b, c, d] = attempt!(user::read_words::<4>(call.thread, new));
        let negative = (a as i64) < 0 || (c as i64) < 0;
        if negative || b >= 1_000_000 || d >= 1_000_000 {
            return Err::<u64, _>(Errno::EINVAL).into();
        }
        let ns = |seconds: u64, microseconds: u64| {
            seconds.saturating_mul(SECOND).saturating_add(microseconds * 1000)
        };
        timer.arm(ns(c, d), ns(a, b));
    }
    if old != 0 {
        attempt!(user::write_words(call.thread, old, &before));
    }
    Ok(0).into()
}
pub fn alarm(call: &mut Call<'_>) -> Outcome {
    let timer = attempt!(old_timer(call, 0));
    let (before_ns, _) = timer.remaining();
    timer.arm(u64::from(call.word(0)) * SECOND, 0);
    Ok(before_ns.div_ceil(SECOND)).into()
}

pub fn timer_create(call: &mut Call<'_>) -> Outcome {
    let [number, event, to, ..] = call.arguments;
    let clock = attempt!(clock(call, number));
    let process = call.process().clone();
    let wanted = if event == 0 {
        None
    } else {
        let bytes = attempt!(user::read::<24>(call.thread, event));
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let value = u64::from(word(0)) | u64::from(word(4)) << 32;
        Some((value, word(8), word(12), word(16)))
    };
    let notice = match wanted {
        None => Notice::Signal { number: SIGALRM, value: 0, thread: None },
        Some((_, _, 1, _)) => Notice::Nothing,
        Some((value, number, kind @ (0 | 4), thread)) => {
            let number = attempt!(signal::number(u64::from(number)));
            Notice::Signal { number, value, thread: (kind == 4).then_some(thread) }
        }
        Some(_) => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    // As many timers as signals of theirs may wait.
    if process.timers.count() as u64 >= process.limit(crate::signal::PENDING_LIMIT) {
        return Err::<u64, _>(Errno::EAGAIN).into();
    }
    let timer = process.timers.add(|number| {
        let notice = match notice {
            Notice::Signal { number: signal, thread, .. } if wanted.is_none() => {
                Notice::Signal { number: signal, value: u64::from(number - FIRST_POSIX), thread }
            }
            notice => notice,
        };
        IntervalTimer::new(&process, number, clock, notice)
    });
    let written = user::write(call.thread, to, &(timer - FIRST_POSIX).to_le_bytes());
    if written.is_err() {
        process.timers.remove(timer);
    }
    written.into()
}

fn posix_timer(call: &Call<'_>) -> Result<Arc<IntervalTimer>> {
    let number = call.word(0).checked_add(FIRST_POSIX).ok_or(Errno::EINVAL)?;
    call.process().timers.get(number).ok_or(Errno::EINVAL)
}
fn write_setting(call: &Call<'_>, to: u64, (next_ns, interval_ns): (u64, u64)) -> Result<()> {
    let words = [interval_ns / SECOND, interval_ns % SECOND, next_ns / SECOND, next_ns % SECOND];
    user::write_words(call.thread, to, &words)
}
pub fn timer_settime(call: &mut Call<'_>) -> Outcome {
    let [_, flags, new, old, ..] = call.arguments;
    if new == 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let interval_ns = attempt!(user::read_time(call.thread, new));
    let value_ns = attempt!(user::read_time(call.thread, new.wrapping_add(16)));
    let timer = attempt!(posix_timer(call));
    let before = timer.remaining();
    let wait_ns = match (value_ns, flags & 1) {
        (0, _) => 0,
        (value_ns, 0) => value_ns,
        (value_ns, _) => value_ns.saturating_sub(timer.clock.time_ns(call.kernel().machine.now())).max(1),
    };
    timer.arm(wait_ns, interval_ns);
    if old != 0 {
        attempt!(write_setting(call, old, before));
    }
    Ok(0).into()
}
pub fn timer_gettime(call: &mut Call<'_>) -> Outcome {
    let timer = attempt!(posix_timer(call));
    write_setting(call, call.arguments[1], timer.remaining()).into()
}
pub fn timer_getoverrun(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(attempt!(posix_timer(call)).overruns())).into()
}
pub fn timer_delete(call: &mut Call<'_>) -> Outcome {
    let timer = attempt!(posix_timer(call));
    timer.arm(0, 0);
    call.process().timers.remove(timer.number);
    Ok(0).into()
}
