//! Who a process is and which group and session it is in: getpid(2), setpgid(2), setsid(2), pidfd_open(2).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Description, ProcessFile, Slot, flag};
use crate::job;
use crate::process::Process;

pub fn getpid(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.process().number)).into()
}

pub fn getppid(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.process().parent.load(Ordering::Relaxed))).into()
}

/// The process with a number; 0 is the caller.
pub(super) fn process(call: &Call<'_>, number: u32) -> Result<Arc<Process>> {
    if number == 0 || number == call.process().number {
        return Ok(call.process().clone());
    }
    call.kernel().processes.lock().get(&number).cloned().ok_or(Errno::ESRCH)
}

pub fn getpgid(call: &mut Call<'_>) -> Outcome {
    let process = attempt!(process(call, call.word(0)));
    Ok(u64::from(process.group.load(Ordering::Relaxed))).into()
}

pub fn getpgrp(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.process().group.load(Ordering::Relaxed))).into()
}

pub fn setpgid(call: &mut Call<'_>) -> Outcome {
    let group = if call.int(1) == 0 { call.int(0) } else { call.int(1) };
    if group < 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    job::set_group(call.process(), call.word(0), call.word(1)).into()
}

pub fn getsid(call: &mut Call<'_>) -> Outcome {
    let process = attempt!(process(call, call.word(0)));
    Ok(u64::from(process.session.load(Ordering::Relaxed))).into()
}

pub fn setsid(call: &mut Call<'_>) -> Outcome {
    job::begin_session(call.process()).map(u64::from).into()
}

pub fn pidfd_open(call: &mut Call<'_>) -> Outcome {
    let flags = call.word(1);
    if call.int(0) <= 0 || flags & !flag::NONBLOCK != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let found = call.kernel().processes.lock().get(&call.word(0)).cloned();
    let process = attempt!(found.ok_or(Errno::ESRCH));
    let description = Description::new(ProcessFile::new(&process), flag::RDWR | flags, None);
    call.process().files.add(Slot { description, close_on_exec: true }, 0, call.process().limit(7)).into()
}
