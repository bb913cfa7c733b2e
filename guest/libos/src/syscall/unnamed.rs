//! Files without a name that are made to be waited for: eventfd(2), timerfd_create(2), signalfd(2), pipe(2).

use alloc::sync::Arc;

use super::file::attempt;
use super::socket::install_pair;
use super::waiting::install;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::counter::Counter;
use crate::file::signals::SignalFile;
use crate::file::timer::TimerFile;
use crate::file::{Description, flag};
use crate::thread::Thread;
use crate::user;

const NONBLOCK: u32 = flag::NONBLOCK;
const CLOSE_ON_EXEC: u32 = flag::CLOSE_ON_EXEC;

fn create_counter(call: &Call<'_>, flags: u32) -> Outcome {
    const SEMAPHORE: u32 = 1;
    if flags & !(SEMAPHORE | NONBLOCK | CLOSE_ON_EXEC) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let counter = Counter::new(call.word(0).into(), flags & SEMAPHORE != 0);
    let description = Description::new(counter, flag::RDWR | flags & NONBLOCK, None);
    install(call, description, flags & CLOSE_ON_EXEC != 0).into()
}

pub fn eventfd(call: &mut Call<'_>) -> Outcome {
    create_counter(call, 0)
}

pub fn eventfd2(call: &mut Call<'_>) -> Outcome {
    create_counter(call, call.word(1))
}

pub fn timerfd_create(call: &mut Call<'_>) -> Outcome {
    let flags = call.word(1);
    if flags & !(NONBLOCK | CLOSE_ON_EXEC) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let realtime = match call.int(0) {
        // CLOCK_REALTIME and CLOCK_REALTIME_ALARM.
        0 | 8 => true,
        // CLOCK_MONOTONIC, CLOCK_BOOTTIME and CLOCK_BOOTTIME_ALARM.
        1 | 7 | 9 => false,
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    let timer = TimerFile::new(call.kernel(), realtime);
    let description = Description::new(timer, flag::RDWR | flags & NONBLOCK, None);
    install(call, description, flags & CLOSE_ON_EXEC != 0).into()
}

fn with_timer<T>(call: &Call<'_>, use_timer: impl FnOnce(&TimerFile) -> T) -> Result<T> {
    let description = call.process().files.get(call.arguments[0])?;
    description.file_as::<TimerFile>().map(use_timer).ok_or(Errno::EINVAL)
}

/// Writes `struct itimerspec`: interval, then remaining time.
fn put_setting(thread: &Arc<Thread>, address: u64, (left_ns, interval_ns): (u64, u64)) -> Result<()> {
    user::write_time(thread, address, interval_ns)?;
    user::write_time(thread, address.wrapping_add(16), left_ns)
}

pub fn timerfd_settime(call: &mut Call<'_>) -> Outcome {
    const ABSOLUTE: u32 = 1;
    const CANCEL_ON_SET: u32 = 2;
    let (flags, address) = (call.word(1), call.arguments[2]);
    if flags & !(ABSOLUTE | CANCEL_ON_SET) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let interval_ns = attempt!(user::read_time(call.thread, address));
    let time_ns = attempt!(user::read_time(call.thread, address.wrapping_add(16)));
    let before = attempt!(with_timer(call, |timer| timer.set(time_ns, interval_ns, flags & ABSOLUTE != 0)));
    match call.arguments[3] {
        0 => Ok(0).into(),
        place => put_setting(call.thread, place, before).into(),
    }
}

pub fn timerfd_gettime(call: &mut Call<'_>) -> Outcome {
    let setting = attempt!(with_timer(call, TimerFile::get));
    put_setting(call.thread, call.arguments[1], setting).into()
}

fn signal_file(call: &Call<'_>, flags: u32) -> Outcome {
    if flags & !(NONBLOCK | CLOSE_ON_EXEC) != 0 || call.arguments[2] != 8 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let wanted = attempt!(user::read_u64(call.thread, call.arguments[1]));
    if call.int(0) >= 0 {
        let description = attempt!(call.process().files.get(call.arguments[0]));
        return match description.file_as::<SignalFile>() {
            Some(file) => {
                file.set_wanted(wanted);
                Ok(call.arguments[0]).into()
            }
            None => Err::<u64, _>(Errno::EINVAL).into(),
        };
    }
    let file = SignalFile::new(call.process(), wanted);
    let description = Description::new(file, flag::RDWR | flags & NONBLOCK, None);
    install(call, description, flags & CLOSE_ON_EXEC != 0).into()
}

pub fn signalfd(call: &mut Call<'_>) -> Outcome {
    signal_file(call, 0)
}

pub fn signalfd4(call: &mut Call<'_>) -> Outcome {
    signal_file(call, call.word(3))
}

fn create_pipe(call: &Call<'_>, flags: u32) -> Outcome {
    if flags & !(NONBLOCK | CLOSE_ON_EXEC | flag::DIRECT) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let (reader, writer) = crate::file::pipe::pipe(flags & flag::DIRECT != 0);
    let status = flags & (NONBLOCK | flag::DIRECT);
    let ends =
        [Description::new(reader, status, None), Description::new(writer, flag::WRONLY | status, None)];
    install_pair(call, call.arguments[0], ends, flags & CLOSE_ON_EXEC != 0).into()
}

pub fn pipe(call: &mut Call<'_>) -> Outcome {
    create_pipe(call, 0)
}

pub fn pipe2(call: &mut Call<'_>) -> Outcome {
    create_pipe(call, call.word(1))
}
