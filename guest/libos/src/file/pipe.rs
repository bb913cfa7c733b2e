//! Pipes, and the ring of bytes that pipes and in-island connections are made of.
//!
//! A pipe counts its ends, so that a named one (fifo(7)) may be opened many times. Readers and writers
//! wait on queues of their own: a write never wakes a writer. Both queues are told after the pipe's lock
//! is released. A ring's memory grows with what it holds, up to the capacity. A pipe in packet mode
//! (O_DIRECT) keeps the length of each write beside the ring; a read takes one, and what it has no place
//! for is lost.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::lock::{Mutex, Once};
use abi::file::{Attributes, Change};
use machine::{Transfer, UserRange};

use super::ring::{Ring, Sink, Source};
use super::{File, Promise, event, flag, kept};
use crate::errno::{Errno, Result};
use crate::file_system::Location;
use crate::signal::{self, Information, Target};
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// Bytes that are written as a whole or not at all (pipe(7), PIPE_BUF).
const ATOMIC: usize = 4096;
const DEFAULT_CAPACITY: usize = 64 << 10;
/// What an unprivileged F_SETPIPE_SZ may ask for (/proc/sys/fs/pipe-max-size).
const CAPACITY_MAX: usize = 1 << 20;
/// ioctl(2): number of bytes that can be read.
pub(crate) const FIONREAD: u32 = 0x541b;

/// fcntl(2) commands that come as controls: F_SETPIPE_SZ and F_GETPIPE_SZ.
const SET_CAPACITY: u32 = 1031;
const GET_CAPACITY: u32 = 1032;

struct State {
    ring: Ring,
    readers: usize,
    writers: usize,
    /// How often the pipe has been opened for reading, and for writing.
    opened: [u64; 2],
    /// In packet mode: the lengths of the packets in the ring.
    packets: VecDeque<usize>,
}

impl State {
    /// Takes bytes, or one packet.
    fn take(&mut self, to: &mut Sink<'_>) -> Result<usize> {
        let Some(length) = self.packets.front().copied() else { return self.ring.drain(to, usize::MAX) };
        let count = self.ring.drain(to, length)?;
        self.packets.pop_front();
        self.ring.skip(length - count);
        Ok(count)
    }
}

/// A pipe without its ends.
pub struct Pipe {
    state: Mutex<State>,
    readers: WaitQueue,
    writers: WaitQueue,
    inode: u64,
    packets: bool,
    /// Where a named one is in the file system.
    pub place: Once<Location>,
}

impl Pipe {
    pub fn new(packets: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                ring: Ring::new(DEFAULT_CAPACITY),
                readers: 0,
                writers: 0,
                opened: [0; 2],
                packets: VecDeque::new(),
            }),
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
            inode: next_inode(),
            packets,
            place: Once::new(),
        })
    }

    /// A new end. A named pipe may be opened for both at once.
    pub fn open(self: &Arc<Self>, reads: bool, writes: bool) -> Arc<dyn File> {
        let mut state = self.state.lock();
        state.readers += usize::from(reads);
        state.writers += usize::from(writes);
        state.opened[0] += u64::from(reads);
        state.opened[1] += u64::from(writes);
        drop(state);
        self.readers.notify();
        self.writers.notify();
        Arc::new(End { pipe: self.clone(), reads, writes, closed: AtomicBool::new(false) })
    }

    /// Whether somebody has the pipe open for reading, and for writing.
    pub fn ends(&self) -> (bool, bool) {
        let state = self.state.lock();
        (state.readers > 0, state.writers > 0)
    }

    /// How often the pipe has been opened for reading, and for writing.
    pub fn opened(&self) -> [u64; 2] {
        self.state.lock().opened
    }

    /// Told when ends are opened and closed, for those who open a named pipe.
    pub fn queues(&self) -> [&WaitQueue; 2] {
        [&self.readers, &self.writers]
    }

    fn take(&self, to: &mut Sink<'_>) -> Result<Transfer> {
        let mut state = self.state.lock();
        if to.length() == 0 {
            return Ok(Transfer::Done(0));
        }
        if state.ring.is_empty() {
            return Ok(if state.writers == 0 { Transfer::Done(0) } else { Transfer::NotReady });
        }
        let was_full = state.ring.free() < ATOMIC;
        let count = state.take(to)?;
        let relieved = was_full && state.ring.free() >= ATOMIC;
        drop(state);
        if relieved {
            self.writers.notify();
            // Among them may be one that writes as well (fifo(7)).
            self.readers.notify();
        }
        Ok(Transfer::Done(count))
    }

    fn put(&self, thread: &Arc<Thread>, from: &Source<'_>) -> Result<Transfer> {
        let mut state = self.state.lock();
        if state.readers == 0 {
            drop(state);
            return Err(broken(thread));
        }
        let length = from.length();
        if length == 0 {
            return Ok(Transfer::Done(0));
        }
        let free = state.ring.free();
        let length = if self.packets { length.min(ATOMIC) } else { length };
        if free < length.min(ATOMIC) {
            return Ok(Transfer::NotReady);
        }
        let count = state.ring.fill(from, length)?;
        if self.packets {
            state.packets.push_back(count);
        }
        drop(state);
        self.readers.notify();
        Ok(Transfer::Done(count))
    }
}

/// One end of a pipe.
pub struct End {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    closed: AtomicBool,
}

impl End {
    /// F_GETPIPE_SZ.
    pub fn capacity(&self) -> usize {
        self.pipe.state.lock().ring.capacity()
    }

    /// F_SETPIPE_SZ: rounded up to a power of two pages; returns what was set.
    fn set_capacity(&self, bytes: usize) -> Result<usize> {
        if bytes > CAPACITY_MAX {
            return Err(Errno::EPERM);
        }
        let capacity = bytes.max(ATOMIC).next_power_of_two();
        let mut state = self.pipe.state.lock();
        if state.ring.length() > capacity {
            return Err(Errno::EBUSY);
        }
        state.ring.set_capacity(capacity);
        drop(state);
        self.pipe.writers.notify();
        // Among them may be one that writes as well (fifo(7)).
        self.pipe.readers.notify();
        Ok(capacity)
    }
}

/// For splice(2) and tee(2).
impl End {
    pub fn same_pipe(&self, other: &End) -> bool {
        Arc::ptr_eq(&self.pipe, &other.pipe)
    }

    /// Bytes that can be written now; 0 until the end counts as writable, so that waiting for it ends.
    pub fn room(&self, thread: &Arc<Thread>) -> Result<usize> {
        let state = self.pipe.state.lock();
        let (readers, free) = (state.readers, state.ring.free());
        drop(state);
        if readers == 0 {
            return Err(broken(thread));
        }
        Ok(if free < ATOMIC { 0 } else { free })
    }

    /// Copies from the front without taking; EAGAIN if there is nothing yet.
    pub fn peek(&self, to: &mut [u8]) -> Result<usize> {
        let state = self.pipe.state.lock();
        if state.ring.is_empty() && state.writers > 0 {
            return Err(Errno::EAGAIN);
        }
        let limit = to.len();
        state.ring.peek(&mut Sink::Kernel(to), limit)
    }

    /// Returns to the front what was taken from there, even beyond the capacity.
    pub fn put_back(&self, bytes: &[u8]) {
        let mut state = self.pipe.state.lock();
        state.ring.put_back(bytes);
        if self.pipe.packets {
            state.packets.push_front(bytes.len());
        }
        drop(state);
        self.pipe.readers.notify();
    }
}

impl File for End {
    fn tells_owner(&self) -> bool {
        true
    }

    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => self.pipe.take(&mut Sink::user(thread, to)),
        }
    }

    fn write(&self, thread: &Arc<Thread>, from: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => self.pipe.put(thread, &Source::user(thread, from)),
        }
    }

    fn read_kernel(&self, _thread: &Arc<Thread>, to: &mut [u8], _offset: u64) -> Result<usize> {
        match self.pipe.take(&mut Sink::Kernel(to))? {
            Transfer::Done(count) => Ok(count),
            _ => Err(Errno::EAGAIN),
        }
    }

    fn write_kernel(&self, thread: &Arc<Thread>, from: &[u8]) -> Result<Transfer> {
        self.pipe.put(thread, &Source::Kernel(from))
    }

    fn events(&self) -> u32 {
        let state = self.pipe.state.lock();
        let mut events = 0;
        if self.reads {
            if !state.ring.is_empty() {
                events |= event::IN | event::READ_NORMAL;
            }
            if state.writers == 0 {
                events |= event::HANGUP;
            }
        }
        if self.writes {
            if state.ring.free() >= ATOMIC {
                events |= event::OUT | event::WRITE_NORMAL;
            }
            if state.readers == 0 {
                events |= event::ERROR;
            }
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(if self.reads { &self.pipe.readers } else { &self.pipe.writers })
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        let of_pipe = || anonymous(thread, 0o010600, self.pipe.inode);
        kept(Ok(self.pipe.place.get().map_or_else(of_pipe, |place| place.node.attributes())))
    }

    fn change(&self, thread: &Arc<Thread>, change: Change) -> Promise<()> {
        let Some(place) = self.pipe.place.get().filter(|_| change.size.is_none()) else {
            return kept(Err(Errno::EINVAL));
        };
        let (thread, place) = (thread.clone(), place.clone());
        Promise::later(async move { crate::file_system::apply(&thread, &place, change).await })
    }

    fn control(&self, thread: &Arc<Thread>, command: u32, argument: u64) -> Promise<u64> {
        match command {
            SET_CAPACITY => kept(self.set_capacity(argument as u32 as usize).map(|bytes| bytes as u64)),
            GET_CAPACITY => kept(Ok(self.capacity() as u64)),
            FIONREAD => {
                let length = self.pipe.state.lock().ring.length() as u32;
                kept(put_word(thread, argument, length))
            }
            _ => kept(Err(Errno::ENOTTY)),
        }
    }

    /// The flags alone say which end that is (pipe(7): a pipe's link is opened as a named pipe is, but never waits).
    fn opened_again(self: Arc<Self>, flags: u32) -> Result<Arc<dyn File>> {
        let (reads, writes) = directions(flags)?;
        Ok(self.pipe.open(reads, writes))
    }

    fn closed(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        let mut state = self.pipe.state.lock();
        state.readers -= usize::from(self.reads);
        state.writers -= usize::from(self.writes);
        drop(state);
        self.pipe.readers.notify();
        self.pipe.writers.notify();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// pipe(2): the end to read from and the end to write to.
pub fn pipe(packets: bool) -> (Arc<dyn File>, Arc<dyn File>) {
    let pipe = Pipe::new(packets);
    (pipe.open(true, false), pipe.open(false, true))
}

/// Whether an opening reads, and whether it writes.
pub(super) fn directions(flags: u32) -> Result<(bool, bool)> {
    match flags & flag::ACCESS {
        0 => Ok((true, false)),
        flag::WRONLY => Ok((false, true)),
        flag::RDWR => Ok((true, true)),
        _ => Err(Errno::EINVAL),
    }
}

/// What a write nobody will read comes to: SIGPIPE, and this error.
pub(crate) fn broken(thread: &Arc<Thread>) -> Errno {
    let user = thread.process.identity.lock().real_user;
    let information = Information::user(signal::SIGPIPE, thread.process.number, user);
    signal::send(&thread.process, Target::Thread(thread.number()), information);
    Errno::EPIPE
}

/// Answers an ioctl(2) whose argument points to an `int`.
pub(crate) fn put_word(thread: &Arc<Thread>, address: u64, value: u32) -> Result<u64> {
    thread.kernel().machine.copy_out(thread.process.space(), &value.to_le_bytes(), address)?;
    Ok(0)
}

/// An inode number for a file without a name.
pub(crate) fn next_inode() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// What stat(2) tells of a file without a name.
pub(crate) fn anonymous(thread: &Arc<Thread>, mode: u32, inode: u64) -> Attributes {
    let identity = thread.process.identity.lock();
    Attributes {
        device: 0xe,
        inode,
        mode,
        links: 1,
        user: identity.user,
        group: identity.group,
        block_size: 4096,
        ..Attributes::default()
    }
}
