//! Calls that wait for any of several files: poll(2), select(2), epoll(7); and the files made for them.
//!
//! Whoever finds nothing ready looks once more after what has happened outside has been collected, and
//! only then waits. A mask for the duration of the call (ppoll) stays in force when a signal ends it,
//! until that signal is delivered.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::attempt;
use super::socket::install_pair;
use super::waiting::install;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::counter::Counter;
use crate::file::epoll::{self, Epoll, Operation};
use crate::file::signals::SignalFile;
use crate::file::timer::TimerFile;
use crate::file::{Description, event, flag};
use crate::signal;
use crate::thread::Thread;
use crate::user;
use crate::wait::{self, Patience, WaitQueue};

const NONBLOCK: u32 = flag::NONBLOCK;
const CLOSE_ON_EXEC: u32 = flag::CLOSE_ON_EXEC;
/// Bytes of `struct pollfd`, and of the packed `struct epoll_event`.
const POLL_ENTRY: usize = 8;
const EPOLL_ENTRY: usize = 12;
/// Events that one epoll_wait returns at most; the rest stays ready for the next.
const EVENTS_MAX: usize = 128;
const SECOND_NS: u64 = 1_000_000_000;

/// How long a call may wait.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Timeout {
    None,
    After(u64),
    Never,
}

impl Timeout {
    /// Milliseconds; negative ones are endless.
    fn milliseconds(value: i32) -> Self {
        match value {
            0 => Self::None,
            1.. => Self::After(value as u64 * 1_000_000),
            _ => Self::Never,
        }
    }

    /// A pointer to `struct timespec`; null is endless.
    fn timespec(thread: &Arc<Thread>, address: u64) -> Result<Self> {
        if address == 0 {
            return Ok(Self::Never);
        }
        Ok(match user::read_time(thread, address)? {
            0 => Self::None,
            time_ns => Self::After(time_ns),
        })
    }

    /// A pointer to `struct timeval`; null is endless. Microseconds may exceed a second.
    fn timeval(thread: &Arc<Thread>, address: u64) -> Result<Self> {
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
struct Left {
    address: u64,
    until_ns: u64,
    /// Nanoseconds in the second word's unit: 1000 for `struct timeval`.
    unit_ns: u64,
}

impl Left {
    /// For a timeout that is read from `address`; none if that is null.
    fn of(thread: &Arc<Thread>, address: u64, timeout: Timeout, unit_ns: u64) -> Option<Self> {
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
fn mask(call: &Call<'_>, address: u64, size: u64) -> Result<bool> {
    if address == 0 {
        return Ok(false);
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    let mask = user::read_u64(call.thread, address)?;
    call.thread.signals.mask_for_call(mask);
    Ok(true)
}

/// Looks at once, again after collecting, and then waits. `look` says how many are ready and leaves the
/// result where the program finds it. `masked`: a mask is in force for this call.
fn look_or_wait(
    call: &Call<'_>,
    timeout: Timeout,
    masked: bool,
    interrupted: Errno,
    left: Option<Left>,
    wait: impl Waiting,
) -> Outcome {
    let thread = call.thread;
    let finish = move |thread: &Arc<Thread>| {
        if masked {
            thread.signals.unmask_after_call();
        }
        if let Some(left) = left {
            left.put(thread);
        }
    };
    let mut found = wait.look(thread);
    if matches!(found, Ok(0)) {
        call.kernel().refresh(call.cpu);
        found = wait.look(thread);
    }
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
    let patience = timeout.patience(thread);
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
                Err(interrupted)
            }
        }
    })
}

/// What a call waits for.
trait Waiting: Send + Sync + 'static {
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

// poll

struct Polled {
    description: Option<Arc<Description>>,
    events: u32,
    /// Negative numbers are skipped.
    skipped: bool,
}

struct Poll {
    address: u64,
    entries: Vec<Polled>,
}

impl Poll {
    fn read(call: &Call<'_>, address: u64, count: u64) -> Result<Self> {
        if count > call.process().limit(7).max(1024) {
            return Err(Errno::EINVAL);
        }
        let bytes = user::read_vec(call.thread, address, count as usize * POLL_ENTRY)?;
        let files = &call.process().files;
        let entries = bytes
            .chunks_exact(POLL_ENTRY)
            .map(|entry| {
                let number = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
                let events = u32::from(u16::from_le_bytes([entry[4], entry[5]]));
                let skipped = number < 0;
                let description = if skipped { None } else { files.get(number as u64).ok() };
                Polled { description, events, skipped }
            })
            .collect();
        Ok(Self { address, entries })
    }

    fn put(&self, thread: &Arc<Thread>, results: &[u16]) -> Result<()> {
        for (index, result) in results.iter().enumerate() {
            let at = self.address.wrapping_add((index * POLL_ENTRY + 6) as u64);
            user::write(thread, at, &result.to_le_bytes())?;
        }
        Ok(())
    }
}

impl Polled {
    fn result(&self) -> u16 {
        let events = match &self.description {
            Some(description) => description.file.events() & (self.events | event::ERROR | event::HANGUP),
            None if self.skipped => 0,
            None => event::INVALID,
        };
        events as u16
    }
}

impl Waiting for Poll {
    fn look(&self, thread: &Arc<Thread>) -> Result<u64> {
        if self.entries.iter().all(|entry| entry.result() == 0) {
            return Ok(0);
        }
        let results: Vec<u16> = self.entries.iter().map(Polled::result).collect();
        self.put(thread, &results)?;
        Ok(results.iter().filter(|result| **result != 0).count() as u64)
    }

    fn queues(&self) -> Vec<&WaitQueue> {
        let descriptions = self.entries.iter().filter_map(|entry| entry.description.as_ref());
        descriptions.filter_map(|description| description.file.queue()).collect()
    }

    fn outside(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.description.as_ref().is_some_and(|description| description.file.outside()))
    }

    fn timed_out(&self, thread: &Arc<Thread>) -> Result<u64> {
        self.put(thread, &alloc::vec![0; self.entries.len()])?;
        Ok(0)
    }
}

pub fn poll(call: &mut Call<'_>) -> Outcome {
    let poll = attempt!(Poll::read(call, call.arguments[0], call.word(1).into()));
    let timeout = Timeout::milliseconds(call.int(2));
    look_or_wait(call, timeout, false, Errno::ERESTARTNOHAND, None, poll)
}

pub fn ppoll(call: &mut Call<'_>) -> Outcome {
    let timeout = attempt!(Timeout::timespec(call.thread, call.arguments[2]));
    let poll = attempt!(Poll::read(call, call.arguments[0], call.word(1).into()));
    let masked = attempt!(mask(call, call.arguments[3], call.arguments[4]));
    let left = Left::of(call.thread, call.arguments[2], timeout, 1);
    look_or_wait(call, timeout, masked, Errno::ERESTARTNOHAND, left, poll)
}

// select

/// What each of the three sets asks for, and what answers it (select(2), "Correspondence").
const READ: u32 = event::READ_NORMAL | event::READ_BAND | event::IN | event::HANGUP | event::ERROR;
const WRITE: u32 = event::WRITE_BAND | event::WRITE_NORMAL | event::OUT | event::ERROR;
const EXCEPT: u32 = event::PRIORITY;
const ASKED: [u32; 3] = [READ, WRITE, EXCEPT];

struct Select {
    /// Addresses of the three sets, 0 for none, and their length in bytes.
    sets: [u64; 3],
    length: usize,
    /// Number, description, and bit per set that asks for it.
    entries: Vec<(usize, Arc<Description>, u8)>,
}

impl Select {
    fn read(call: &Call<'_>, count: u64, sets: [u64; 3]) -> Result<Self> {
        let count = usize::try_from(count as i32).map_err(|_| Errno::EINVAL)?;
        // Beyond the table nothing can be open, and nothing is looked at.
        let count = count.min(call.process().files.room());
        let length = count.div_ceil(64) * 8;
        let mut asked = alloc::vec![0_u8; count];
        for (index, set) in sets.iter().enumerate().filter(|(_, set)| **set != 0) {
            let bytes = user::read_vec(call.thread, *set, length)?;
            for (number, asked) in asked.iter_mut().enumerate() {
                if bytes[number / 8] & 1 << (number % 8) != 0 {
                    *asked |= 1 << index;
                }
            }
        }
        let mut entries = Vec::new();
        for (number, asked) in asked.iter().enumerate().filter(|(_, asked)| **asked != 0) {
            entries.push((number, call.process().files.get(number as u64)?, *asked));
        }
        Ok(Self { sets, length, entries })
    }

    /// Writes the three sets.
    fn put(&self, thread: &Arc<Thread>, ready: &[(usize, u8)]) -> Result<u64> {
        let mut total = 0;
        for (index, set) in self.sets.iter().enumerate().filter(|(_, set)| **set != 0) {
            let mut bytes = alloc::vec![0; self.length];
            for (number, _) in ready.iter().filter(|(_, bits)| bits & 1 << index != 0) {
                bytes[number / 8] |= 1 << (number % 8);
                total += 1;
            }
            user::write(thread, *set, &bytes)?;
        }
        Ok(total)
    }
}

fn selected(description: &Description, asked: u8) -> u8 {
    let events = description.file.events();
    let bits = ASKED.iter().enumerate().filter(|(_, wanted)| events & *wanted != 0);
    bits.fold(0, |bits, (index, _)| bits | 1 << index) & asked
}

impl Waiting for Select {
    fn look(&self, thread: &Arc<Thread>) -> Result<u64> {
        let ready: Vec<(usize, u8)> = self
            .entries
            .iter()
            .map(|(number, description, asked)| (*number, selected(description, *asked)))
            .filter(|(_, bits)| *bits != 0)
            .collect();
        if ready.is_empty() { Ok(0) } else { self.put(thread, &ready) }
    }

    fn queues(&self) -> Vec<&WaitQueue> {
        self.entries.iter().filter_map(|(_, description, _)| description.file.queue()).collect()
    }

    fn outside(&self) -> bool {
        self.entries.iter().any(|(_, description, _)| description.file.outside())
    }

    fn timed_out(&self, thread: &Arc<Thread>) -> Result<u64> {
        self.put(thread, &[])
    }
}

fn sets(call: &Call<'_>) -> [u64; 3] {
    [call.arguments[1], call.arguments[2], call.arguments[3]]
}

pub fn select(call: &mut Call<'_>) -> Outcome {
    let timeout = attempt!(Timeout::timeval(call.thread, call.arguments[4]));
    let select = attempt!(Select::read(call, call.arguments[0], sets(call)));
    let left = Left::of(call.thread, call.arguments[4], timeout, 1000);
    look_or_wait(call, timeout, false, Errno::ERESTARTNOHAND, left, select)
}

pub fn pselect6(call: &mut Call<'_>) -> Outcome {
    let timeout = attempt!(Timeout::timespec(call.thread, call.arguments[4]));
    let select = attempt!(Select::read(call, call.arguments[0], sets(call)));
    let masked = match call.arguments[5] {
        0 => false,
        address => {
            let [set, size] = attempt!(user::read_words::<2>(call.thread, address));
            attempt!(mask(call, set, size))
        }
    };
    let left = Left::of(call.thread, call.arguments[4], timeout, 1);
    look_or_wait(call, timeout, masked, Errno::ERESTARTNOHAND, left, select)
}

// epoll

fn create_epoll(call: &Call<'_>, flags: u32) -> Outcome {
    if flags & !CLOSE_ON_EXEC != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    install(call, Description::new(epoll::create(), flag::RDWR, None), flags & CLOSE_ON_EXEC != 0).into()
}

pub fn epoll_create(call: &mut Call<'_>) -> Outcome {
    if call.int(0) <= 0 { Err::<u64, _>(Errno::EINVAL).into() } else { create_epoll(call, 0) }
}

pub fn epoll_create1(call: &mut Call<'_>) -> Outcome {
    create_epoll(call, call.word(0))
}

/// A descriptor that is an epoll's.
fn get_epoll(call: &Call<'_>) -> Result<Arc<Description>> {
    let description = call.process().files.get(call.arguments[0])?;
    match description.file_as::<Epoll>() {
        Some(_) => Ok(description),
        None => Err(Errno::EINVAL),
    }
}

fn epoll_of(description: &Arc<Description>) -> &Epoll {
    description.file_as().expect("invariant: the description is an epoll's")
}

pub fn epoll_ctl(call: &mut Call<'_>) -> Outcome {
    let mut entry = [0; EPOLL_ENTRY];
    if call.int(1) != 2 {
        entry = attempt!(user::read(call.thread, call.arguments[3]));
    }
    let number = call.word(2).into();
    let target = attempt!(call.process().files.get(number));
    let description = attempt!(get_epoll(call));
    if Arc::ptr_eq(&description.file, &target.file) {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let operation = match call.int(1) {
        1 => Operation::Add,
        2 => Operation::Delete,
        3 => Operation::Modify,
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    let (events, data) = entry.split_at(4);
    let events = events.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let data = data.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    epoll_of(&description).control(operation, number, &target, events, data).into()
}

struct EpollWait {
    description: Arc<Description>,
    address: u64,
    max: usize,
}

impl EpollWait {
    fn epoll(&self) -> &Epoll {
        epoll_of(&self.description)
    }
}

impl Waiting for EpollWait {
    fn look(&self, thread: &Arc<Thread>) -> Result<u64> {
        let mut bytes = [0; EVENTS_MAX * EPOLL_ENTRY];
        let mut end = 0;
        let count = self.epoll().collect(self.max.min(EVENTS_MAX), |events, data| {
            bytes[end..end + 4].copy_from_slice(&events.to_le_bytes());
            bytes[end + 4..end + EPOLL_ENTRY].copy_from_slice(&data.to_le_bytes());
            end += EPOLL_ENTRY;
        });
        if count > 0 {
            user::write(thread, self.address, &bytes[..end])?;
        }
        Ok(count as u64)
    }

    fn queues(&self) -> Vec<&WaitQueue> {
        self.description.file.queue().into_iter().collect()
    }

    fn outside(&self) -> bool {
        self.description.file.outside()
    }

    fn waiting(&self) -> Option<epoll::Waiting<'_>> {
        Some(self.epoll().waiting())
    }
}

fn epoll_wait_for(call: &Call<'_>, timeout: Timeout, masked: bool) -> Outcome {
    let max = call.int(2);
    let description = match get_epoll(call) {
        Ok(description) if max > 0 => description,
        other => {
            if masked {
                call.thread.signals.unmask_after_call();
            }
            return Err::<u64, _>(other.err().unwrap_or(Errno::EINVAL)).into();
        }
    };
    let wait = EpollWait { description, address: call.arguments[1], max: max as usize };
    look_or_wait(call, timeout, masked, Errno::EINTR, None, wait)
}

pub fn epoll_wait(call: &mut Call<'_>) -> Outcome {
    epoll_wait_for(call, Timeout::milliseconds(call.int(3)), false)
}

pub fn epoll_pwait(call: &mut Call<'_>) -> Outcome {
    let masked = attempt!(mask(call, call.arguments[4], call.arguments[5]));
    epoll_wait_for(call, Timeout::milliseconds(call.int(3)), masked)
}

pub fn epoll_pwait2(call: &mut Call<'_>) -> Outcome {
    let timeout = attempt!(Timeout::timespec(call.thread, call.arguments[3]));
    let masked = attempt!(mask(call, call.arguments[4], call.arguments[5]));
    epoll_wait_for(call, timeout, masked)
}

// Files made to be waited for

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
