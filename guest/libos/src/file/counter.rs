//! Event counters: eventfd(2).

use alloc::sync::Arc;
use core::any::Any;

use crate::lock::Mutex;
use abi::file::Attributes;
use machine::{Transfer, UserRange};

use super::pipe::anonymous;
use super::ring::{Sink, Source};
use super::{File, Promise, event, kept};
use crate::errno::{Errno, Result};
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// The largest value a counter can have.
const MAX: u64 = u64::MAX - 1;

#[derive(Default)]
struct State {
    value: u64,
    /// A write found no room: nobody is promised any until a read.
    crowded: bool,
}

/// An event counter.
pub struct Counter {
    state: Mutex<State>,
    /// EFD_SEMAPHORE: reads take one at a time.
    semaphore: bool,
    queue: WaitQueue,
}

impl Counter {
    pub fn new(value: u64, semaphore: bool) -> Arc<Self> {
        let state = Mutex::new(State { value, crowded: false });
        Arc::new(Self { state, semaphore, queue: WaitQueue::new() })
    }

    fn take(&self, to: &mut Sink<'_>) -> Result<Transfer> {
        if to.length() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        if state.value == 0 {
            return Ok(Transfer::NotReady);
        }
        let taken = if self.semaphore { 1 } else { state.value };
        if to.copy(0, &taken.to_le_bytes())? < 8 {
            return Err(Errno::EFAULT);
        }
        state.value -= taken;
        state.crowded = false;
        drop(state);
        self.queue.notify();
        Ok(Transfer::Done(8))
    }

    fn put(&self, from: &Source<'_>) -> Result<Transfer> {
        let mut bytes = [0; 8];
        if from.length() < 8 {
            return Err(Errno::EINVAL);
        }
        if from.copy(0, &mut bytes)? < 8 {
            return Err(Errno::EFAULT);
        }
        let added = u64::from_le_bytes(bytes);
        if added > MAX {
            return Err(Errno::EINVAL);
        }
        let mut state = self.state.lock();
        if added > MAX - state.value {
            state.crowded = true;
            return Ok(Transfer::NotReady);
        }
        state.value += added;
        drop(state);
        self.queue.notify();
        Ok(Transfer::Done(8))
    }
}

impl File for Counter {
    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => self.take(&mut Sink::user(thread, to)),
        }
    }

    fn write(&self, thread: &Arc<Thread>, from: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => self.put(&Source::user(thread, from)),
        }
    }

    fn events(&self) -> u32 {
        let state = self.state.lock();
        let readable = if state.value > 0 { event::IN | event::READ_NORMAL } else { 0 };
        let writable = if state.value < MAX && !state.crowded { event::OUT | event::WRITE_NORMAL } else { 0 };
        readable | writable
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(anonymous(thread, 0o600, 1)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
