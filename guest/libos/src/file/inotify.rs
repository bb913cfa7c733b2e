//! inotify(7): a queue of what happened to watched files.
//!
//! The watches themselves are the file system's ([`crate::file_system::Watches`]); an instance numbers
//! its own and keeps what it has heard until somebody reads it.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicI32, Ordering};

use crate::lock::Mutex;
use abi::file::Attributes;
use machine::{Transfer, UserRange};

use super::pipe::{FIONREAD, anonymous, put_word};
use super::ring::Sink;
use super::{File, Promise, event, kept};
use crate::errno::{Errno, Result};
use crate::file_system::happened;
use crate::kernel::Kernel;
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// Events kept (/proc/sys/fs/inotify/max_queued_events); one more says that some were lost.
const QUEUE_MAX: usize = 16_384;
/// Bytes of an event without its name, and what names are rounded up to.
const HEADER: usize = 16;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub watch: i32,
    pub mask: u32,
    pub cookie: u32,
    pub name: Vec<u8>,
}

impl Event {
    pub fn of(watch: i32, mask: u32) -> Self {
        Self { watch, mask, cookie: 0, name: Vec::new() }
    }

    fn length(&self) -> usize {
        let name = if self.name.is_empty() { 0 } else { self.name.len() + 1 };
        HEADER + name.next_multiple_of(HEADER)
    }

    /// `struct inotify_event`.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length());
        bytes.extend_from_slice(&self.watch.to_le_bytes());
        bytes.extend_from_slice(&self.mask.to_le_bytes());
        bytes.extend_from_slice(&self.cookie.to_le_bytes());
        bytes.extend_from_slice(&((self.length() - HEADER) as u32).to_le_bytes());
        bytes.extend_from_slice(&self.name);
        bytes.resize(self.length(), 0);
        bytes
    }
}

/// An inotify instance.
pub struct Inotify {
    events: Mutex<VecDeque<Event>>,
    readers: WaitQueue,
    numbers: AtomicI32,
    kernel: Weak<Kernel>,
}

impl Inotify {
    pub fn new(kernel: &Arc<Kernel>) -> Arc<Self> {
        Arc::new(Self {
            events: Mutex::new(VecDeque::new()),
            readers: WaitQueue::new(),
            numbers: AtomicI32::new(1),
            kernel: Arc::downgrade(kernel),
        })
    }

    /// A number for a new watch; none is used twice.
    pub fn next_number(&self) -> i32 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds an event, unless it repeats the last one.
    pub fn queue(&self, event: Event) {
        let mut events = self.events.lock();
        if events.back() == Some(&event) || events.len() > QUEUE_MAX {
            return;
        }
        let lost = events.len() == QUEUE_MAX;
        events.push_back(if lost { Event::of(-1, happened::OVERFLOW) } else { event });
        drop(events);
        self.readers.notify();
    }

    fn take(&self, to: &mut Sink<'_>) -> Result<Transfer> {
        let mut events = self.events.lock();
        let mut done = 0;
        while let Some(event) = events.front() {
            if to.length() - done < event.length() {
                return if done == 0 { Err(Errno::EINVAL) } else { Ok(Transfer::Done(done)) };
            }
            let bytes = event.encode();
            if to.copy(done, &bytes)? < bytes.len() {
                return Err(Errno::EFAULT);
            }
            done += bytes.len();
            events.pop_front();
        }
        Ok(if done == 0 { Transfer::NotReady } else { Transfer::Done(done) })
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        if let Some(kernel) = self.kernel.upgrade() {
            kernel.file_systems.watches.forget(self);
        }
    }
}

/// An instance as a descriptor stands for it.
pub struct InotifyFile(pub Arc<Inotify>);

impl File for InotifyFile {
    fn tells_owner(&self) -> bool {
        true
    }

    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => self.0.take(&mut Sink::user(thread, to)),
        }
    }

    fn write(&self, _thread: &Arc<Thread>, _from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EBADF)
    }

    fn events(&self) -> u32 {
        if self.0.events.lock().is_empty() { 0 } else { event::IN | event::READ_NORMAL }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.readers)
    }

    fn control(&self, thread: &Arc<Thread>, command: u32, argument: u64) -> Promise<u64> {
        if command != FIONREAD {
            return kept(Err(Errno::ENOTTY));
        }
        let length: usize = self.0.events.lock().iter().map(Event::length).sum();
        kept(put_word(thread, argument, length as u32))
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(anonymous(thread, 0o600, 1)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
