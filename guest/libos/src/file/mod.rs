//! Open files: what a descriptor stands for.
//!
//! A [`File`] is the thing itself (a pipe's end, a socket, a file's content). A [`Description`] is one
//! open of it, with flags and position, shared by duplicates. The [`Table`] maps numbers to descriptions.
//! Reads and writes are tried and answer [`Transfer`]; whoever may block does the waiting outside.

pub mod counter;
pub mod epoll;
pub mod fifo;
pub mod inotify;
mod owner;
pub mod pipe;
mod process;
mod promise;
pub mod pseudo_terminal;
pub(crate) mod ring;
pub mod signals;
pub mod stream;
mod table;
pub mod timer;
mod turn;

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::lock::Mutex;
use abi::file::{Attributes, Change, Extent};
use machine::{Handle, Transfer, UserRange};

use crate::errno::{Errno, Result};
use crate::file_system::{Location, Watches, happened};
use crate::thread::Thread;
use crate::wait::WaitQueue;

pub use owner::Owner;
pub use process::ProcessFile;
pub use promise::{Promise, kept};
pub use table::{Slot, Table};
pub use turn::{Taken, Turn};

/// Status flags as open(2) and fcntl(2) number them.
pub mod flag {
    pub const WRONLY: u32 = 0o1;
    pub const RDWR: u32 = 0o2;
    pub const ACCESS: u32 = 0o3;
    pub const CREATE: u32 = 0o100;
    pub const EXCLUSIVE: u32 = 0o200;
    pub const NO_TERMINAL: u32 = 0o400;
    pub const TRUNCATE: u32 = 0o1000;
    pub const APPEND: u32 = 0o2000;
    pub const NONBLOCK: u32 = 0o4000;
    pub const DSYNC: u32 = 0o10000;
    pub const ASYNC: u32 = 0o20000;
    pub const DIRECT: u32 = 0o40000;
    pub const LARGE: u32 = 0o100000;
    pub const DIRECTORY: u32 = 0o200000;
    pub const NO_FOLLOW: u32 = 0o400000;
    pub const NO_ACCESS_TIME: u32 = 0o1000000;
    pub const CLOSE_ON_EXEC: u32 = 0o2000000;
    pub const SYNC: u32 = 0o4010000;
    pub const PATH: u32 = 0o10000000;
    pub const TEMPORARY: u32 = 0o20200000;
    /// What is over when the file is open; F_GETFL does not tell of it.
    pub const ONCE: u32 = CREATE | EXCLUSIVE | NO_TERMINAL | TRUNCATE;
    /// What F_SETFL may change.
    pub const CHANGEABLE: u32 = APPEND | NONBLOCK | DIRECT | NO_ACCESS_TIME | ASYNC;
}

/// Poll events as poll(2) numbers them.
pub mod event {
    pub const IN: u32 = 1;
    pub const PRIORITY: u32 = 2;
    pub const OUT: u32 = 4;
    pub const ERROR: u32 = 8;
    pub const HANGUP: u32 = 16;
    pub const INVALID: u32 = 32;
    pub const READ_NORMAL: u32 = 0x40;
    pub const READ_BAND: u32 = 0x80;
    pub const WRITE_NORMAL: u32 = 0x100;
    pub const WRITE_BAND: u32 = 0x200;
    pub const READ_HANGUP: u32 = 0x2000;
}

/// What a mapping of a file takes its pages from. The mapping keeps the file.
pub struct Pages {
    pub handle: Handle,
}

/// What a descriptor stands for.
pub trait File: Send + Sync + 'static {
    /// Reads at an offset, or (`None`) from the stream.
    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer>;

    /// Writes at an offset, or (`None`) to the stream. `append` overrides the offset.
    fn write(&self, thread: &Arc<Thread>, from: &[UserRange], offset: Option<u64>) -> Result<Transfer>;

    /// A read or write that only a call that waits can do, because it reaches another process's memory.
    fn transfer_aside(
        &self,
        _thread: &Arc<Thread>,
        _ranges: &[UserRange],
        _offset: u64,
        _writes: bool,
    ) -> Option<Promise<u64>> {
        None
    }

    /// What must be done before a write that ends at `end` (an overlay's file outgrows the heap).
    fn prepare_write(&self, _thread: &Arc<Thread>, _end: u64) -> Option<Promise<()>> {
        None
    }

    /// Reads into the library OS's own memory, for loaders and copies.
    fn read_kernel(&self, _thread: &Arc<Thread>, _to: &mut [u8], _offset: u64) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes to the stream from the library OS's own memory, for sendfile(2) and splice(2).
    fn write_kernel(&self, _thread: &Arc<Thread>, _from: &[u8]) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }

    /// Writes at an offset from the library OS's own memory.
    fn write_kernel_at(&self, _thread: &Arc<Thread>, _from: &[u8], _offset: u64) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }

    /// Whether the file has positions (lseek(2)).
    fn seekable(&self) -> bool {
        false
    }

    /// Whether lseek(2) has an effect; on memory devices it always answers 0.
    fn keeps_position(&self) -> bool {
        true
    }

    /// Where the content ends, if that is not the size that stat(2) tells: a disk ends there for good.
    fn end(&self) -> Option<u64> {
        None
    }

    /// Where the content ends now.
    fn find_end(&self, thread: &Arc<Thread>) -> Promise<u64> {
        match self.end() {
            Some(end) => kept(Ok(end)),
            None => self.attributes(thread).then(|attributes| Ok(attributes.size)),
        }
    }

    /// Events that hold now, as poll(2) numbers them.
    fn events(&self) -> u32 {
        event::IN | event::OUT | event::READ_NORMAL | event::WRITE_NORMAL
    }

    /// The same for who looks, where that makes a difference.
    fn events_for(&self, _thread: &Arc<Thread>) -> u32 {
        self.events()
    }

    /// Who is told when the events change; `None`: they never do.
    fn queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Whether the events change by what happens outside, so that whoever waits for them has to count
    /// as waiting outside.
    fn outside(&self) -> bool {
        false
    }

    /// How long a blocking read, or write, may wait (SO_RCVTIMEO, SO_SNDTIMEO); it ends with EAGAIN then.
    fn timeout_ns(&self, _write: bool) -> Option<u64> {
        None
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes>;

    fn change(&self, _thread: &Arc<Thread>, _change: Change) -> Promise<()> {
        kept(Err(Errno::EINVAL))
    }

    /// fsync(2) and its kin. What is in no file system of this machine's has nothing of one to store.
    fn synchronise(&self, _thread: &Arc<Thread>, extent: Extent) -> Promise<()> {
        kept(if extent == Extent::FileSystem { Ok(()) } else { Err(Errno::EINVAL) })
    }

    /// fallocate(2).
    fn allocate(&self, _thread: &Arc<Thread>, _mode: u32, _offset: u64, _length: u64) -> Promise<()> {
        kept(Err(Errno::ENODEV))
    }

    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    fn seek_data(&self, _thread: &Arc<Thread>, _offset: u64, _hole: bool) -> Promise<u64> {
        kept(Err(Errno::EINVAL))
    }

    /// Pages for a mapping; `None`: zeroes. ENODEV if the file cannot be mapped.
    fn pages(&self, _thread: &Arc<Thread>) -> Promise<Option<Pages>> {
        kept(Err(Errno::ENODEV))
    }

    /// ioctl(2), as far as the file knows the command.
    fn control(&self, _thread: &Arc<Thread>, _command: u32, _argument: u64) -> Promise<u64> {
        kept(Err(Errno::ENOTTY))
    }

    /// Opens the file again, which has no name, by a descriptor's link in /proc. Linux's inodes without a way to
    /// be opened answer ENXIO.
    fn opened_again(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn File>> {
        Err(Errno::ENXIO)
    }

    /// Whether somebody can have himself told of its readiness by a signal (O_ASYNC): pipes, sockets, terminals, inotify.
    fn tells_owner(&self) -> bool {
        false
    }

    /// The last descriptor is gone.
    fn closed(&self) {}

    fn as_any(&self) -> &dyn Any;
}

/// One open of a file.
pub struct Description {
    pub file: Arc<dyn File>,
    flags: AtomicU32,
    pub position: Mutex<u64>,
    turn: Turn,
    /// The turn of those who append to the file, once it has been appended to.
    appending: crate::lock::Once<Arc<Turn>>,
    /// Where in the file system it was opened, if there.
    pub location: Option<Location>,
    /// For directories: the listing under way.
    pub listing: Mutex<Option<crate::file_system::Listing>>,
    /// Who owns its locks is found by this.
    pub number: u64,
    /// The locks of its file, once it has asked for one.
    pub locks: crate::lock::Once<Arc<crate::file_system::lock::FileLocks>>,
    /// Who is told by a signal that it is ready, once somebody has asked.
    pub owner: crate::lock::Once<Arc<Owner>>,
    /// Who is to be told of what is done with it, if it was opened by name.
    pub watches: crate::lock::Once<Arc<Watches>>,
}

impl Description {
    pub fn new(file: Arc<dyn File>, flags: u32, location: Option<Location>) -> Arc<Self> {
        static NUMBERS: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);
        Arc::new(Self {
            file,
            flags: AtomicU32::new(flags & !flag::ONCE),
            position: Mutex::new(0),
            turn: Turn::default(),
            appending: crate::lock::Once::new(),
            location,
            listing: Mutex::new(None),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            locks: crate::lock::Once::new(),
            owner: crate::lock::Once::new(),
            watches: crate::lock::Once::new(),
        })
    }

    /// Tells those who watch the file what happened to it.
    pub fn tell(&self, what: u32) {
        if let (Some(watches), Some(location)) = (self.watches.get(), &self.location) {
            watches.tell(location, what);
        }
    }

    /// The turn of those who append to the file, through this description or another.
    pub fn appending(&self, thread: &Arc<Thread>) -> &Arc<Turn> {
        self.appending.call_once(|| thread.kernel().file_systems.appending(self))
    }

    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }
    pub fn set_flags(&self, flags: u32) {
        self.flags.store(flags, Ordering::Relaxed);
    }
    pub fn nonblocking(&self) -> bool {
        self.flags() & flag::NONBLOCK != 0
    }
    /// Fails if opened with O_PATH, which gives a place but no use of what is there.
    pub fn usable(&self) -> Result<()> {
        if self.flags() & flag::PATH == 0 { Ok(()) } else { Err(Errno::EBADF) }
    }
    /// Fails unless opened for reading.
    pub fn readable(&self) -> Result<()> {
        if self.flags() & flag::ACCESS == flag::WRONLY { Err(Errno::EBADF) } else { self.usable() }
    }
    /// Fails unless opened for writing.
    pub fn writable(&self) -> Result<()> {
        if self.flags() & flag::ACCESS == 0 { Err(Errno::EBADF) } else { self.usable() }
    }
    /// The file as a concrete type.
    pub fn file_as<T: 'static>(&self) -> Option<&T> {
        self.file.as_any().downcast_ref()
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.get() {
            owner.tell(false);
        }
        self.file.closed();
        let writes = self.flags() & flag::ACCESS != 0;
        self.tell(if writes { happened::CLOSE_WRITE } else { happened::CLOSE_NO_WRITE });
        if let Some(locks) = self.locks.get() {
            locks.forget(self.number);
        }
    }
}
