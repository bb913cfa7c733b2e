//! Waiting for children: wait4(2), waitid(2).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::process::{Report, Select, States};
use crate::signal::{Information, SIGCHLD};
use crate::thread::Thread;
use crate::user;
use crate::wait::{self, Patience};

const NO_HANG: u32 = 1;
const STOPPED: u32 = 2;
const EXITED: u32 = 4;
const CONTINUED: u32 = 8;
const NO_WAIT: u32 = 0x100_0000;
/// __WNOTHREAD: children belong to the process here, whichever thread made them.
const NO_THREAD: u32 = 0x2000_0000;
const ALL: u32 = 0x4000_0000;
const CLONE: u32 = 0x8000_0000;
const KINDS: u32 = NO_THREAD | ALL | CLONE;

fn states(options: u32, ended: bool) -> States {
    States {
        ended,
        stopped: options & STOPPED != 0,
        continued: options & CONTINUED != 0,
        keep: options & NO_WAIT != 0,
        clones: if options & ALL != 0 { None } else { Some(options & CLONE != 0) },
    }
}

/// Waits for news of a child; none if the caller does not want to wait.
async fn news(thread: &Arc<Thread>, select: Select, states: States, hangs: bool) -> Result<Option<Report>> {
    let process = &thread.process;
    if !hangs {
        return process.learn(select, states);
    }
    let attempt = || process.learn(select, states).transpose();
    wait::until(thread, &[&process.child_news], Patience::Forever, attempt).await?.map(Some)
}

/// `struct rusage` (getrusage(2)), of which the time is known.
fn usage(time_ns: u64) -> [u64; 18] {
    let mut words = [0; 18];
    words[0] = time_ns / 1_000_000_000;
    words[1] = time_ns % 1_000_000_000 / 1000;
    words
}

pub fn wait4(call: &mut Call<'_>) -> Outcome {
    let [_, status, _, to, ..] = call.arguments;
    let (number, options) = (call.int(0), call.word(2));
    if options & !(NO_HANG | STOPPED | CONTINUED | KINDS) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let own = call.process().group.load(Ordering::Relaxed);
    let select = match number {
        -1 => Select::Any,
        0 => Select::Group(own),
        i32::MIN => return Err::<u64, _>(Errno::ESRCH).into(),
        number if number < 0 => Select::Group(number.unsigned_abs()),
        number => Select::Number(number.unsigned_abs()),
    };
    let thread = call.thread.clone();
    call.wait(async move {
        let told = news(&thread, select, states(options, true), options & NO_HANG == 0).await?;
        let Some(report) = told else { return Ok(0) };
        if status != 0 {
            user::write(&thread, status, &report.status.to_le_bytes())?;
        }
        if to != 0 {
            user::write_words(&thread, to, &usage(report.time_ns))?;
        }
        Ok(u64::from(report.process))
    })
}

pub fn waitid(call: &mut Call<'_>) -> Outcome {
    let [_, number, to, _, used, _] = call.arguments;
    let (kind, options) = (call.word(0), call.word(3));
    let wanted = options & (STOPPED | EXITED | CONTINUED);
    if wanted == 0 || options & !(NO_HANG | NO_WAIT | STOPPED | EXITED | CONTINUED | KINDS) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let mut hangs = options & NO_HANG == 0;
    let select = match kind {
        0 => Select::Any,
        1 if number as i32 > 0 => Select::Number(number as u32),
        2 if number as i32 >= 0 => match number as u32 {
            0 => Select::Group(call.process().group.load(Ordering::Relaxed)),
            group => Select::Group(group),
        },
        3 => {
            let description = attempt!(call.process().files.get(number));
            let process = attempt!(crate::file::ProcessFile::of(&description));
            hangs &= !description.nonblocking();
            Select::Number(process.number)
        }
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    let unblocked = kind == 3 && !hangs && options & NO_HANG == 0;
    let thread = call.thread.clone();
    call.wait(async move {
        let told = news(&thread, select, states(options, options & EXITED != 0), hangs).await?;
        if told.is_none() && unblocked {
            return Err(Errno::EAGAIN);
        }
        if to != 0 {
            let bytes = match told {
                Some(report) => {
                    Information::child(SIGCHLD, report.code, report.process, report.user, report.value)
                        .encode()
                }
                None => [0; 128],
            };
            user::write(&thread, to, &bytes)?;
        }
        if let Some(report) = told.filter(|_| used != 0) {
            user::write_words(&thread, used, &usage(report.time_ns))?;
        }
        Ok(0)
    })
}
