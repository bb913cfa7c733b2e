//! Moving data in and out of pipes (splice(2), tee(2), vmsplice(2)).
//!
//! Data goes through a buffer of the library OS's: there are no pages to pass on. What was taken out of
//! a pipe and cannot be delivered goes back to its front, so nothing is lost when the target fails.

use alloc::sync::Arc;
use alloc::vec;

use machine::Transfer;

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::pipe::End;
use crate::file::{Description, event, flag};
use crate::thread::Thread;
use crate::user;
use crate::wait::{self, Patience};

const CHUNK: usize = 64 << 10;
const NONBLOCK: u32 = 2;
/// SPLICE_F_MOVE, SPLICE_F_NONBLOCK, SPLICE_F_MORE, SPLICE_F_GIFT
const FLAGS: u32 = 15;

/// Waits for a file to become readable, or writable.
async fn ready(thread: &Arc<Thread>, description: &Description, wanted: u32, waits: bool) -> Result<()> {
    if !waits {
        return Err(Errno::EAGAIN);
    }
    let file = &description.file;
    let Some(queue) = file.queue() else { return Err(Errno::EAGAIN) };
    let wanted = wanted | event::ERROR | event::HANGUP;
    let _outside = thread.kernel().scheduler.wait_outside();
    wait::until(thread, &[queue], Patience::Forever, || (file.events() & wanted != 0).then_some(())).await
}

/// One side of a splice: an open file and where in it.
struct Side {
    description: Arc<Description>,
    /// Where the program keeps the position; 0: in the description.
    address: u64,
    position: u64,
}

impl Side {
    fn new(thread: &Arc<Thread>, description: Arc<Description>, address: u64) -> Result<Self> {
        if address != 0 && !description.file.seekable() {
            return Err(Errno::ESPIPE);
        }
        let position = match address {
            0 => *description.position.lock(),
            _ => user::read_u64(thread, address)?,
        };
        if position > i64::MAX as u64 {
            Err(Errno::EINVAL)
        } else {
            Ok(Self { description, address, position })
        }
    }

    fn pipe(&self) -> Option<&End> {
        self.description.file_as::<End>()
    }

    /// Moves the position on and keeps it where it belongs.
    fn advance(&mut self, thread: &Arc<Thread>, count: usize) -> Result<()> {
        if !self.description.file.seekable() || count == 0 {
            return Ok(());
        }
        self.position += count as u64;
        if self.address != 0 {
            return user::write_words(thread, self.address, &[self.position]);
        }
        *self.description.position.lock() = self.position;
        Ok(())
    }

    fn read(&self, thread: &Arc<Thread>, to: &mut [u8]) -> Result<usize> {
        self.description.file.read_kernel(thread, to, self.position)
    }

    /// Writes once, from `done` bytes behind the position on.
    async fn write(&self, thread: &Arc<Thread>, from: &[u8], done: usize) -> Result<Transfer> {
        let file = &self.description.file;
        if !file.seekable() {
            return file.write_kernel(thread, from);
        }
        let at = self.position + done as u64;
        if let Some(promise) = file.prepare_write(thread, at.saturating_add(from.len() as u64)) {
            promise.await?;
        }
        file.write_kernel_at(thread, from, at)
    }
}

pub fn splice(call: &mut Call<'_>) -> Outcome {
    let [from, from_address, to, to_address, count, flags] = call.arguments;
    if count == 0 {
        return Ok(0).into();
    }
    if flags as u32 & !FLAGS != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let files = &call.process().files;
    let (source, target) = (attempt!(files.get(from)), attempt!(files.get(to)));
    attempt!(source.readable());
    attempt!(target.writable());
    let pipes = (source.file_as::<End>(), target.file_as::<End>());
    let wrong = match pipes {
        (None, None) => true,
        (Some(from), Some(to)) => from.same_pipe(to),
        (Some(_), None) => target.flags() & flag::APPEND != 0,
        (None, Some(_)) => false,
    };
    if wrong {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let both = pipes.0.is_some() && pipes.1.is_some();
    let waits = flags as u32 & NONBLOCK == 0 && !(both && (source.nonblocking() || target.nonblocking()));
    let source = attempt!(Side::new(call.thread, source, from_address));
    let target = attempt!(Side::new(call.thread, target, to_address));
    let thread = call.thread.clone();
    call.wait(run(thread, source, target, count.min(user::TRANSFER_MAX) as usize, waits))
}

/// Moves what there is, at least something, at most `count` bytes.
async fn run(
    thread: Arc<Thread>,
    mut source: Side,
    mut target: Side,
    count: usize,
    waits: bool,
) -> Result<u64> {
    let mut buffer = vec![0; count.min(CHUNK)];
    let mut total = 0;
    while total < count {
        let room = match target.pipe() {
            Some(pipe) => room(&thread, &target.description, pipe, waits && total == 0).await,
            None => Ok(CHUNK),
        };
        let length = match room {
            Ok(room) => {
                let wanted = buffer.len().min(count - total).min(room);
                fetch(&thread, &source, &mut buffer[..wanted], waits && total == 0).await
            }
            Err(errno) => Err(errno),
        };
        let length = match length {
            Ok(0) => break,
            Ok(length) => length,
            Err(_) if total > 0 => break,
            Err(errno) => return Err(errno),
        };
        let (done, outcome) = deliver(&thread, &target, &buffer[..length], waits).await;
        match source.pipe() {
            Some(pipe) if done < length => pipe.put_back(&buffer[done..length]),
            _ => {}
        }
        source.advance(&thread, done)?;
        target.advance(&thread, done)?;
        total += done;
        match outcome {
            Ok(()) => {}
            Err(_) if total > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(total as u64)
}

/// How much a pipe takes; waits until it is something.
async fn room(thread: &Arc<Thread>, target: &Description, pipe: &End, waits: bool) -> Result<usize> {
    loop {
        match pipe.room(thread)? {
            0 => ready(thread, target, event::OUT, waits).await?,
            room => return Ok(room),
        }
    }
}

async fn fetch(thread: &Arc<Thread>, source: &Side, to: &mut [u8], waits: bool) -> Result<usize> {
    // A source that is no pipe has a mind of its own about waiting.
    let waits = waits && (source.pipe().is_some() || !source.description.nonblocking());
    loop {
        match source.read(thread, to) {
            Err(Errno::EAGAIN) => ready(thread, &source.description, event::IN, waits).await?,
            other => return other,
        }
    }
}

/// Writes all of `from` if it can be had; says how much went through.
async fn deliver(thread: &Arc<Thread>, target: &Side, from: &[u8], waits: bool) -> (usize, Result<()>) {
    let waits = waits && (target.pipe().is_some() || !target.description.nonblocking());
    let mut done = 0;
    while done < from.len() {
        let next = match target.write(thread, &from[done..], done).await {
            Ok(Transfer::Done(0)) => Err(Errno::EIO),
            Ok(Transfer::Done(count)) => Ok(count),
            Ok(Transfer::NotReady) => ready(thread, &target.description, event::OUT, waits).await.map(|()| 0),
            Ok(Transfer::Later(_)) => Err(Errno::EIO),
            Err(errno) => Err(errno),
        };
        match next {
            Ok(count) => done += count,
            Err(errno) => return (done, Err(errno)),
        }
    }
    (done, Ok(()))
}

/// tee(2): copies from one pipe to another; the first keeps its bytes.
pub fn tee(call: &mut Call<'_>) -> Outcome {
    let [from, to, count, flags, ..] = call.arguments;
    if flags as u32 & !FLAGS != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    if count == 0 {
        return Ok(0).into();
    }
    let files = &call.process().files;
    let (source, target) = (attempt!(files.get(from)), attempt!(files.get(to)));
    attempt!(source.readable());
    attempt!(target.writable());
    let waits = flags as u32 & NONBLOCK == 0 && !source.nonblocking() && !target.nonblocking();
    let thread = call.thread.clone();
    call.wait(async move {
        let (Some(input), Some(output)) = (source.file_as::<End>(), target.file_as::<End>()) else {
            return Err(Errno::EINVAL);
        };
        if input.same_pipe(output) {
            return Err(Errno::EINVAL);
        }
        let mut buffer = vec![0; input.capacity().min(count as usize)];
        loop {
            let room = room(&thread, &target, output, waits).await?.min(buffer.len());
            let length = match input.peek(&mut buffer[..room]) {
                Err(Errno::EAGAIN) => {
                    ready(&thread, &source, event::IN, waits).await?;
                    continue;
                }
                other => other?,
            };
            match target.file.write_kernel(&thread, &buffer[..length])? {
                Transfer::Done(done) => return Ok(done as u64),
                _ => ready(&thread, &target, event::OUT, waits).await?,
            }
        }
    })
}

/// vmsplice(2): between the program's memory and a pipe, which way the descriptor says.
pub fn vmsplice(call: &mut Call<'_>) -> Outcome {
    let [number, address, count, flags, ..] = call.arguments;
    if flags as u32 & !FLAGS != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let description = attempt!(call.process().files.get(number));
    let writes = description.writable().is_ok();
    if description.file_as::<End>().is_none() {
        return Err::<u64, _>(Errno::EBADF).into();
    }
    let ranges = attempt!(user::read_ranges(call.thread, address, count));
    if ranges.iter().all(|range| range.length == 0) {
        return Ok(0).into();
    }
    let waits = flags as u32 & NONBLOCK == 0;
    let thread = call.thread.clone();
    call.wait(async move {
        loop {
            let (transfer, wanted) = match writes {
                true => (description.file.write(&thread, &ranges, None)?, event::OUT),
                false => (description.file.read(&thread, &ranges, None)?, event::IN),
            };
            match transfer {
                Transfer::Done(done) => return Ok(done as u64),
                _ => ready(&thread, &description, wanted, waits).await?,
            }
        }
    })
}
