//! Calls that wait until any of several files is ready: what poll(2), select(2) and epoll(7) have in common.
//!
//! Whoever finds nothing ready looks once more after what has happened outside has been collected, and
//! only then waits. A mask for the duration of the call (ppoll) stays in force when a signal ends it,
//! until that signal is delivered.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::epoll;
use crate::signal;
use crate::thread::Thread;
use crate::user;
use crate::wait::{self, Patience, WaitQueue};

const SECOND_NS: u64 = 1_000_000_000;

/// How long a call may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Timeout {
    None,
    After(u64),
    Never,
}

impl Timeout {
    /// Milliseconds; negative ones are endless.
    pub(super) fn milliseconds(value: i32) -> Self {
        match value {
            0 => Self::None,
            1.. => Self::After(value as u64 * 1_000_000),
            _ => Self::Never,
        }
    }

    /// A pointer to `struct timespec`; null is endless.
    pub(super) fn timespec(thread: &Arc<Thread>, address: u64) -> Result<Self> {
        if address == 0 {
            return Ok(Self::Never);
        }
        Ok(match user::read_time(thread, address)? {
            0 => Self::None,
            time_ns => Self::After(time_ns),
        })
    }

    /// A pointer to `struct timeval`; null is endless. Microseconds may exceed a second.
    pub(super) fn timeval(thread: &Arc<Thread>, address: u64) -> Result<Self> {
        if address == 0 {
            return Ok(Self::Never);
        }
        let [seconds, microseconds] = user::read_words::<2>(thread, address)?;
        if seconds > i64::MAX as u64 || microseconds > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        Ok(match seconds.saturating_mul(SECOND_NS).saturating_add(microseconds.saturating_mul(1000)) {
            0 => Self::None,
            time_ns => Self::After(time_ns),
        })
    }

    fn patience(self, thread: &Arc<Thread>) -> Patience {
        match self {
            Self::Never => Patience::Forever,
            Self::None => Patience::Until(0),
            Self::After(time_ns) => {
                Patience::Until(thread.kernel().machine.now().monotonic_ns.saturating_add(time_ns))
            }
        }
    }
}

/// Where a call writes how much of its time is left: Linux does for select, pselect6 and ppoll.
#[derive(Clone, Copy)]
pub(super) struct Left {
    address: u64,
    until_ns: u64,
    /// Nanoseconds in the second word's unit: 1000 for `struct timeval`.
    unit_ns: u64,
}

impl Left {
    /// For a timeout that is read from `address`; none if that is null.
    pub(super) fn of(thread: &Arc<Thread>, address: u64, timeout: Timeout, unit_ns: u64) -> Option<Self> {
        let until_ns = match timeout.patience(thread) {
            Patience::Forever => return None,
            Patience::Until(time_ns) => time_ns,
        };
        Some(Self { address, until_ns, unit_ns })
    }

    /// Writes it. Memory that cannot be written is no reason for the call to fail, as on Linux.
    fn put(&self, thread: &Arc<Thread>) {
        let left_ns = self.until_ns.saturating_sub(thread.kernel().machine.now().monotonic_ns);
        let words = [left_ns / SECOND_NS, left_ns % SECOND_NS / self.unit_ns];
        let _ = user::write_words(thread, self.address, &words);
    }
}

/// A mask for the duration of the call; null is none.
pub(super) fn mask(call: &Call<'_>, address: u64, size: u64) -> Result<bool> {
    if address == 0 {
        return Ok(false);
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask = user::read_u64(call.thread, address)?;
    call.thread.signals.mask_for_call(mask);
    signal::hand_on(call.process(), mask);
    Ok(true)
}

/// Looks at once, again after collecting, and then waits. `look` says how many are ready and leaves the
/// result where the program finds it. `masked`: a mask is in force for this call. `interrupted`: what it ends with
/// when a signal comes; with ERESTART_RESTARTBLOCK it ends when it would have, if it is begun anew.
pub(super) fn look_or_wait(
    call: &Call<'_>,
    timeout: Timeout,
    masked: bool,
    interrupted: Errno,
    left: Option<Left>,
    wait: impl Waiting,
) -> Outcome {
    let thread = call.thread;
    let resumes = interrupted == Errno::ERESTART_RESTARTBLOCK;
    let resumed = if resumes { thread.signals.resumed() } else { None };
    let finish = move |thread: &Arc<Thread>| {
        if masked {
            signal::unmask_after_call(thread);
            signal::look_again(thread);
        }
        if let Some(left) = left {
            left.put(thread);
        }
    };
    let mut found = {
        let _waiting = wait.waiting();
        match wait.look(thread) {
            Ok(0) => {
                call.kernel().refresh(call.cpu);
                wait.look(thread)
            }
            found => found,
        }
    };
    if timeout == Timeout::None || !matches!(found, Ok(0)) {
        if matches!(found, Ok(0)) {
            found = wait.timed_out(thread);
        }
        finish(thread);
        return found.into();
    }
    if masked {
        // The mask may let through what is pending already.
        signal::look_again(thread);
    }
    let patience = resumed.map_or_else(|| timeout.patience(thread), Patience::Until);
    let thread = thread.clone();
    call.wait(async move {
        let result = {
            let _waiting = wait.waiting();
            let _outside = wait.outside().then(|| thread.kernel().scheduler.wait_outside());
            let queues = wait.queues();
            let look = || match wait.look(&thread) {
                Ok(0) => None,
                other => Some(other),
            };
            wait::until(&thread, &queues, patience, look).await
        };
        match result {
            Ok(result) => {
                finish(&thread);
                result
            }
            Err(Errno::ETIMEDOUT) => {
                finish(&thread);
                wait.timed_out(&thread)
            }
            // The mask stays until the signal is delivered.
            Err(_) => {
                if let Some(left) = left {
                    left.put(&thread);
                }
                match patience {
                    Patience::Until(until_ns) if resumes => Err(thread.signals.resume_until(until_ns)),
                    _ => Err(interrupted),
                }
            }
        }
    })
}

/// What a call waits for.
pub(super) trait Waiting: Send + Sync + 'static {
    /// How many are ready; if any are, the result has been written.
    fn look(&self, thread: &Arc<Thread>) -> Result<u64>;
    fn queues(&self) -> Vec<&WaitQueue>;
    fn outside(&self) -> bool;
    /// Something to hold while waiting.
    fn waiting(&self) -> Option<epoll::Waiting<'_>> {
        None
    }
    /// Writes the result of a call that found nothing.
    fn timed_out(&self, _thread: &Arc<Thread>) -> Result<u64> {
        Ok(0)
    }
}
