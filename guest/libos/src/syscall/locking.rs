//! Calls on locks: flock(2), and what fcntl(2) does with `struct flock`.

use alloc::sync::Arc;

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::Description;
use crate::file_system::lock::{END, FileLocks, Lock, Owner};
use crate::thread::Thread;
use crate::user;
use crate::wait::{self, Patience};

const READ: u16 = 0;
const WRITE: u16 = 1;
const UNLOCK: u16 = 2;

/// `struct flock` as the program gave it.
struct Wanted {
    bytes: [u8; 32],
}

impl Wanted {
    fn half(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }
    fn word(&self, at: usize) -> i64 {
        let word: [u8; 8] = self.bytes[at..at + 8].try_into().expect("invariant: eight bytes");
        i64::from_le_bytes(word)
    }
    fn process(&self) -> i32 {
        self.word(24) as i32
    }

    /// The bytes meant, first and last, counted from `base`.
    fn range(&self, base: i64) -> Result<(u64, u64)> {
        let (offset, length) = (self.word(8), self.word(16));
        let start = base.checked_add(offset).ok_or(Errno::EOVERFLOW)?;
        let (first, last) = match length {
            0 => (start, i64::MAX),
            1.. => (start, start.checked_add(length - 1).ok_or(Errno::EOVERFLOW)?),
            _ => (start.checked_add(length).ok_or(Errno::EINVAL)?, start.saturating_sub(1)),
        };
        if start < 0 || first < 0 { Err(Errno::EINVAL) } else { Ok((first as u64, last as u64)) }
    }
}

/// What `l_whence` counts from.
async fn base(thread: &Arc<Thread>, description: &Description, whence: u16) -> Result<i64> {
    match whence {
        0 => Ok(0),
        1 => Ok(*description.position.lock() as i64),
        2 => Ok(description.file.attributes(thread).await?.size as i64),
        _ => Err(Errno::EINVAL),
    }
}

/// F_GETLK, F_SETLK, F_SETLKW and their forms for open file descriptions (36, 37, 38).
pub fn record(call: &mut Call<'_>, description: Arc<Description>, command: u64) -> Outcome {
    let address = call.arguments[2];
    let wanted = Wanted { bytes: attempt!(user::read(call.thread, address)) };
    let open_file = command >= 36;
    if open_file && wanted.process() != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let owner = if open_file {
        Owner::Description(description.number)
    } else {
        Owner::Process(call.process().number)
    };
    let thread = call.thread.clone();
    call.wait(async move {
        let base = base(&thread, &description, wanted.half(2)).await?;
        let (start, end) = wanted.range(base)?;
        let lock = Lock { owner, exclusive: wanted.half(0) == WRITE, start, end };
        match command {
            5 | 36 => tell(&thread, &description, wanted, lock, address),
            _ => set(&thread, &description, wanted.half(0), lock, matches!(command, 7 | 38)).await,
        }
    })
}

fn tell(
    thread: &Arc<Thread>,
    description: &Description,
    mut wanted: Wanted,
    lock: Lock,
    address: u64,
) -> Result<u64> {
    if !matches!(wanted.half(0), READ | WRITE) {
        return Err(Errno::EINVAL);
    }
    let mut put = |at: usize, value: &[u8]| wanted.bytes[at..at + value.len()].copy_from_slice(value);
    match thread.kernel().file_systems.locks.of(description).conflict(&lock) {
        None => put(0, &UNLOCK.to_le_bytes()),
        Some(held) => {
            let length = if held.end == END { 0 } else { held.end - held.start + 1 };
            let process = match held.owner {
                Owner::Process(number) => number as i32,
                Owner::Description(_) => -1,
            };
            put(0, &(if held.exclusive { WRITE } else { READ }).to_le_bytes());
            put(2, &0_u16.to_le_bytes());
            put(8, &held.start.to_le_bytes());
            put(16, &length.to_le_bytes());
            put(24, &process.to_le_bytes());
        }
    }
    user::write(thread, address, &wanted.bytes).map(|()| 0)
}

async fn set(
    thread: &Arc<Thread>,
    description: &Description,
    kind: u16,
    lock: Lock,
    waits: bool,
) -> Result<u64> {
    match kind {
        READ => description.readable()?,
        WRITE => description.writable()?,
        UNLOCK => {}
        _ => return Err(Errno::EINVAL),
    }
    let locks = thread.kernel().file_systems.locks.of(description);
    if kind == UNLOCK {
        locks.give(lock.owner, lock.start, lock.end);
        return Ok(0);
    }
    let take = || locks.take(lock).then_some(0);
    if let Some(done) = take() {
        return Ok(done);
    }
    if !waits {
        return Err(Errno::EAGAIN);
    }
    let waiting = Waiting { thread };
    let attempt = || match take() {
        Some(done) => Some(Ok(done)),
        None => waiting.note(&locks, &lock).err().map(Err),
    };
    wait::until(thread, &[&locks.queue], Patience::Forever, attempt).await?
}

/// A process that waits for a record lock.
struct Waiting<'a> {
    thread: &'a Arc<Thread>,
}

impl Waiting<'_> {
    /// Notes for whom, or says that they wait for each other.
    fn note(&self, locks: &FileLocks, wanted: &Lock) -> Result<()> {
        let holder = locks.conflict(wanted).map(|lock| lock.owner);
        match (wanted.owner, holder) {
            (Owner::Process(own), Some(Owner::Process(holder))) => {
                self.thread.kernel().file_systems.locks.await_holder(own, holder)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.thread.kernel().file_systems.locks.waits_no_more(self.thread.process.number);
    }
}

pub fn flock(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(call.process().files.get(call.arguments[0]));
    let operation = call.word(1);
    // LOCK_MAND: Linux takes it for granted since it has no such locks any more.
    if operation & 32 != 0 {
        return Ok(0).into();
    }
    let exclusive = match operation & !4 {
        1 => false,
        2 => true,
        8 => {
            call.kernel().file_systems.locks.of(&description).give_whole(description.number);
            return Ok(0).into();
        }
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    let locks = call.kernel().file_systems.locks.of(&description);
    if locks.take_whole(description.number, exclusive) {
        return Ok(0).into();
    }
    if operation & 4 != 0 {
        return Err::<u64, _>(Errno::EAGAIN).into();
    }
    let thread = call.thread.clone();
    call.wait(async move {
        let take = || locks.take_whole(description.number, exclusive).then_some(0);
        wait::until(&thread, &[&locks.queue], Patience::Forever, take).await
    })
}
