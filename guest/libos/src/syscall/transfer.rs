//! Reading and writing open files: read(2), pread(2), readv(2), preadv2(2) and their counterparts.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::file::Extent;
use machine::{Transfer, UserRange};

use super::file::{attempt, too_large};
use super::{Call, Outcome, range};
use crate::errno::{Errno, Result};
use crate::file::{Description, Promise, Taken, Turn, flag};
use crate::file_system::happened;
use crate::process::FILE_SIZE_LIMIT;
use crate::thread::Thread;
use crate::user::{self, TRANSFER_MAX};
use crate::wait::{self, Patience};

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

/// Flags of preadv2(2) and pwritev2(2).
mod per_call {
    pub const HIGH_PRIORITY: u32 = 1;
    pub const DATA_SYNC: u32 = 2;
    pub const SYNC: u32 = 4;
    pub const APPEND: u32 = 0x10;
}

/// One read or write under way.
struct Transferring {
    description: Arc<Description>,
    way: Way,
    /// Where in the file; not known yet while another call moves the position.
    offset: Option<u64>,
    /// The description's position counts and is moved, not an offset that the caller gives (pread).
    moves: bool,
    /// The position is nobody else's meanwhile.
    position: Option<Taken<Arc<Description>>>,
    /// Writes go to the end of the file, wherever that is by then.
    appends: bool,
    /// The end is nobody else's meanwhile.
    appending: Option<Taken<Arc<Turn>>>,
    /// What is written is on the disk before the call ends; so much of it.
    synchronises: Option<Extent>,
}

impl Transferring {
    fn new(call: &Call<'_>, way: Way, offset: Option<u64>, flags: u32) -> Result<Self> {
        let description = call.process().files.get(call.arguments[0])?;
        match way {
            Way::Read => description.readable()?,
            Way::Write => description.writable()?,
        }
        let seekable = description.file.seekable();
        if offset.is_some() && !seekable {
            return Err(Errno::ESPIPE);
        }
        let opened = description.flags();
        let writes = way == Way::Write && seekable;
        let appends = writes && (opened & flag::APPEND != 0 || flags & per_call::APPEND != 0);
        let whole = opened & flag::SYNC == flag::SYNC || flags & per_call::SYNC != 0;
        let data = opened & flag::DSYNC != 0 || flags & per_call::DATA_SYNC != 0;
        let extent = if whole { Extent::File } else { Extent::Data };
        let synchronises = (writes && (whole || data)).then_some(extent);
        let moves = offset.is_none() && seekable;
        let position = if moves { Taken::at_once(&description) } else { None };
        let mut new =
            Self { description, way, offset, moves, position: None, appends, appending: None, synchronises };
        if let Some(position) = position {
            new.take(position);
        }
        Ok(new)
    }

    fn take(&mut self, position: Taken<Arc<Description>>) {
        self.offset = Some(*self.description.position.lock());
        self.position = Some(position);
    }

    /// Whether another call has to move the position first.
    fn waits(&self) -> bool {
        self.moves && self.position.is_none()
    }

    fn aside(&self, thread: &Arc<Thread>, ranges: &[UserRange]) -> Option<Promise<u64>> {
        let (file, from) = (&self.description.file, self.offset.unwrap_or(0));
        file.transfer_aside(thread, ranges, from, self.way == Way::Write)
    }

    fn try_once(&self, thread: &Arc<Thread>, ranges: &[UserRange]) -> Result<Transfer> {
        let file = &self.description.file;
        let transfer = match self.way {
            Way::Read => file.read(thread, ranges, self.offset)?,
            Way::Write => file.write(thread, ranges, self.offset)?,
        };
        if let Transfer::Done(length) = transfer {
            self.advance(length as u64);
        }
        if thread.kernel().file_systems.watches.used() {
            self.tell(transfer);
        }
        Ok(transfer)
    }

    /// Tells those who watch the file.
    fn tell(&self, transfer: Transfer) {
        if !matches!(transfer, Transfer::NotReady | Transfer::Done(0)) {
            self.description.tell(match self.way {
                Way::Read => happened::ACCESS,
                Way::Write => happened::MODIFY,
            });
        }
    }

    fn advance(&self, length: u64) {
        if let Some(offset) = self.offset.filter(|_| self.moves && length != 0) {
            *self.description.position.lock() = offset + length;
        }
    }

    /// Where an appending write goes, and what has to happen before.
    async fn prepare(&mut self, thread: &Arc<Thread>, total: u64) -> Result<()> {
        if self.appends {
            self.appending = Some(Taken::wait(thread, self.description.appending(thread)).await?);
            self.offset = Some(self.description.file.find_end(thread).await?);
        }
        let end = self.offset.unwrap_or(0).saturating_add(total);
        match self.description.file.prepare_write(thread, end) {
            Some(promise) => promise.await,
            None => Ok(()),
        }
    }

    /// Cuts a write to what the limit on the size of files leaves of it (RLIMIT_FSIZE).
    fn cut(&self, thread: &Arc<Thread>, ranges: &mut Vec<UserRange>, total: u64) -> Result<()> {
        let start = self.offset.unwrap_or(0);
        let limit = thread.process.limit(FILE_SIZE_LIMIT);
        if start.saturating_add(total) > limit && total > 0 {
            let allowed = limit.checked_sub(start).filter(|allowed| *allowed > 0);
            user::limit(ranges, allowed.ok_or_else(|| too_large(thread))?);
        }
        Ok(())
    }

    /// Goes on until everything is transferred that a blocking call transfers.
    async fn complete(self, thread: Arc<Thread>, mut ranges: Vec<UserRange>) -> Result<u64> {
        let mut done = 0;
        loop {
            let transfer = match self.try_once(&thread, &ranges) {
                Ok(transfer) => transfer,
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            };
            let length = match transfer {
                Transfer::Done(length) => length as u64,
                Transfer::Later(ticket) => {
                    let kernel = thread.kernel();
                    let length = kernel.devices.transferred(kernel, ticket).await?;
                    self.advance(length);
                    length
                }
                Transfer::NotReady if self.description.nonblocking() => {
                    return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
                }
                Transfer::NotReady => match self.ready(&thread).await {
                    Ok(()) => continue,
                    Err(_) if done > 0 => return Ok(done),
                    Err(errno) => return Err(errno),
                },
            };
            done += length;
            user::advance(&mut ranges, length);
            let streams = self.way == Way::Write && !self.description.file.seekable();
            if ranges.is_empty() || length == 0 || !streams {
                return Ok(done);
            }
        }
    }

    /// All of it, step by step.
    async fn whole(mut self, thread: Arc<Thread>, mut ranges: Vec<UserRange>, total: u64) -> Result<u64> {
        if self.waits() {
            self.take(Taken::wait(&thread, &self.description).await?);
        }
        if let Some(aside) = self.aside(&thread, &ranges) {
            return aside.await.inspect(|length| self.advance(*length));
        }
        if self.way == Way::Read {
            return self.complete(thread, ranges).await;
        }
        self.prepare(&thread, total).await?;
        self.cut(&thread, &mut ranges, total)?;
        let (description, synchronises) = (self.description.clone(), self.synchronises);
        let written = self.complete(thread.clone(), ranges).await?;
        if let Some(extent) = synchronises {
            description.file.synchronise(&thread, extent).await?;
        }
        Ok(written)
    }

    async fn ready(&self, thread: &Arc<Thread>) -> Result<()> {
        let file = &self.description.file;
        let Some(queue) = file.queue() else { return Err(Errno::EAGAIN) };
        let wanted = crate::file::event::ERROR
            | crate::file::event::HANGUP
            | if self.way == Way::Read { crate::file::event::IN } else { crate::file::event::OUT };
        let _outside = file.outside().then(|| thread.kernel().scheduler.wait_outside());
        let timeout_ns = file.timeout_ns(self.way == Way::Write);
        let patience = timeout_ns.map_or(Patience::Forever, |timeout_ns| {
            Patience::Until(thread.kernel().machine.now().monotonic_ns.saturating_add(timeout_ns))
        });
        let ready = || (file.events_for(thread) & wanted != 0).then_some(());
        match wait::until(thread, &[queue], patience, ready).await {
            Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
            other => other,
        }
    }
}

/// Starts a transfer: at once if it can be, as a future if it has to wait.
fn transfer(call: &mut Call<'_>, way: Way, ranges: &[UserRange], offset: Option<u64>, flags: u32) -> Outcome {
    let transferring = attempt!(Transferring::new(call, way, offset, flags));
    let total: u64 = ranges.iter().map(|range| range.length).sum();
    let thread = call.thread;
    let prepares = || {
        let end = transferring.offset.unwrap_or(0).saturating_add(total);
        let (file, limit) = (&transferring.description.file, call.process().limit(FILE_SIZE_LIMIT));
        transferring.appends
            || transferring.synchronises.is_some()
            || end > limit && file.seekable()
            || file.prepare_write(thread, end).is_some()
    };
    if transferring.waits() || transferring.aside(thread, ranges).is_some() || way == Way::Write && prepares()
    {
        return call.wait(transferring.whole(thread.clone(), ranges.to_vec(), total));
    }
    let first = attempt!(transferring.try_once(thread, ranges));
    match first {
        Transfer::Done(length) => {
            let streams = way == Way::Write && !transferring.description.file.seekable();
            if length as u64 >= total || !streams || length == 0 || transferring.description.nonblocking() {
                return Ok(length as u64).into();
            }
            let (thread, mut rest) = (thread.clone(), ranges.to_vec());
            user::advance(&mut rest, length as u64);
            call.wait(
                async move { Ok(length as u64 + transferring.complete(thread, rest).await.unwrap_or(0)) },
            )
        }
        Transfer::NotReady if transferring.description.nonblocking() => Err::<u64, _>(Errno::EAGAIN).into(),
        Transfer::NotReady => {
            let (thread, ranges) = (thread.clone(), ranges.to_vec());
            call.wait(transferring.complete(thread, ranges))
        }
        Transfer::Later(ticket) => {
            let kernel = call.kernel().clone();
            call.wait(async move {
                let length = kernel.devices.transferred(&kernel, ticket).await?;
                transferring.advance(length);
                Ok(length)
            })
        }
    }
}

fn one(call: &Call<'_>) -> [UserRange; 1] {
    [range(call.arguments[1], call.arguments[2].min(TRANSFER_MAX))]
}

pub fn read(call: &mut Call<'_>) -> Outcome {
    let ranges = one(call);
    transfer(call, Way::Read, &ranges, None, 0)
}

pub fn write(call: &mut Call<'_>) -> Outcome {
    let ranges = one(call);
    transfer(call, Way::Write, &ranges, None, 0)
}

/// An offset argument; negative ones are EINVAL.
fn checked_offset(offset: u64) -> Result<Option<u64>> {
    if offset > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(Some(offset)) }
}

pub fn pread64(call: &mut Call<'_>) -> Outcome {
    let (ranges, offset) = (one(call), attempt!(checked_offset(call.arguments[3])));
    transfer(call, Way::Read, &ranges, offset, 0)
}

pub fn pwrite64(call: &mut Call<'_>) -> Outcome {
    let (ranges, offset) = (one(call), attempt!(checked_offset(call.arguments[3])));
    transfer(call, Way::Write, &ranges, offset, 0)
}

fn vectored(call: &mut Call<'_>, way: Way, offset: Option<u64>, flags: u32) -> Outcome {
    let ranges = attempt!(user::read_ranges(call.thread, call.arguments[1], call.arguments[2]));
    transfer(call, way, &ranges, offset, flags)
}

pub fn readv(call: &mut Call<'_>) -> Outcome {
    vectored(call, Way::Read, None, 0)
}
pub fn writev(call: &mut Call<'_>) -> Outcome {
    vectored(call, Way::Write, None, 0)
}
pub fn preadv(call: &mut Call<'_>) -> Outcome {
    let offset = attempt!(checked_offset(call.arguments[3]));
    vectored(call, Way::Read, offset, 0)
}
pub fn pwritev(call: &mut Call<'_>) -> Outcome {
    let offset = attempt!(checked_offset(call.arguments[3]));
    vectored(call, Way::Write, offset, 0)
}

/// preadv2(2) and pwritev2(2); offset -1 is the file's position. RWF_NOWAIT is not among the flags: what
/// is in memory is known to the host alone.
fn flagged(call: &mut Call<'_>, way: Way, known: u32) -> Outcome {
    let flags = call.word(5);
    if flags & !(known | per_call::HIGH_PRIORITY) != 0 {
        return Err::<u64, _>(Errno::EOPNOTSUPP).into();
    }
    let offset =
        if call.arguments[3] == u64::MAX { None } else { attempt!(checked_offset(call.arguments[3])) };
    vectored(call, way, offset, flags)
}
pub fn preadv2(call: &mut Call<'_>) -> Outcome {
    flagged(call, Way::Read, per_call::DATA_SYNC | per_call::SYNC)
}
pub fn pwritev2(call: &mut Call<'_>) -> Outcome {
    flagged(call, Way::Write, per_call::DATA_SYNC | per_call::SYNC | per_call::APPEND)
}
