//! What came from outside, handed to those who wait for it.
//!
//! Every granted handle that can be waited for has a [`Watched`] entry with the readiness last heard of.
//! The host reports changes only, so readiness is remembered here and forgotten when an operation finds
//! the handle not ready; a generation number keeps a report that overtakes that from being lost. That there
//! is something to read is in doubt from the start, and after a read that got all it asked for: then who
//! promises it (poll(2)) has to look.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::future::poll_fn;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::{Poll, Waker};

use crate::lock::Mutex;
use abi::request::{Reply, Request};
use machine::{Event, Handle, Machine, Readiness, Started, Ticket, Transfer};

use crate::errno::{Errno, Result};
use crate::file::{Promise, kept};
use crate::kernel::Kernel;
use crate::shortage;
use crate::signal;
use crate::wait::WaitQueue;

/// Beside the readiness in a state: that there is something to read was never found or is no longer known.
const DOUBT: u64 = 1 << 7;

/// A handle's readiness as last heard of.
pub struct Watched {
    pub handle: Handle,
    /// Generation of the last report in the upper bits; in the lowest eight readiness, and [`DOUBT`].
    state: AtomicU64,
    pub queue: WaitQueue,
}

impl Watched {
    /// Readiness, and a token for [`Watched::exhausted`].
    pub fn readiness(&self) -> (Readiness, u64) {
        let state = self.state.load(Ordering::SeqCst);
        (Readiness::from_bits_truncate(state as u8), state)
    }

    /// Whether it is not known that there is something to read, though the readiness says so.
    pub fn is_doubtful(token: u64) -> bool {
        token & DOUBT != 0
    }

    /// A read got all it asked for: there may be more, or nothing.
    pub fn doubt(&self) {
        if self.state.load(Ordering::SeqCst) & DOUBT == 0 {
            self.state.fetch_or(DOUBT, Ordering::SeqCst);
        }
    }

    /// An operation begun under `token` found nothing: forgets `which`, unless news came meanwhile.
    pub fn exhausted(&self, token: u64, which: Readiness) {
        let reading = which.contains(Readiness::READ);
        let forgotten = u64::from(which.bits()) | if reading { DOUBT } else { 0 };
        let forget = |state: u64| (state >> 8 == token >> 8).then_some(state & !forgotten);
        // What the news was of is not known here.
        if self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, forget).is_err() && reading {
            self.doubt();
        }
    }

    fn report(&self, readiness: Readiness) {
        let _ = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| {
            Some((state & 0xff | u64::from(readiness.bits())) | ((state >> 8) + 1) << 8)
        });
        self.queue.notify();
    }
}

enum Operation {
    Waiting(Option<Waker>),
    Finished(core::result::Result<Reply, machine::Code>),
    /// Nobody waits any more.
    Abandoned,
}

/// All that is expected from outside.
pub struct Devices {
    machine: Arc<dyn Machine>,
    watched: Mutex<BTreeMap<Handle, Weak<Watched>>>,
    operations: Mutex<BTreeMap<Ticket, Operation>>,
}

impl Devices {
    pub fn new(machine: Arc<dyn Machine>) -> Self {
        Self { machine, watched: Mutex::new(BTreeMap::new()), operations: Mutex::new(BTreeMap::new()) }
    }

    /// Begins to watch a handle. It is taken to be ready until an operation finds otherwise.
    pub fn watch(&self, handle: Handle) -> Result<Arc<Watched>> {
        let ready = u64::from((Readiness::READ | Readiness::WRITE).bits()) | DOUBT;
        let watched = Arc::new(Watched { handle, state: AtomicU64::new(ready), queue: WaitQueue::new() });
        self.watched.lock().insert(handle, Arc::downgrade(&watched));
        if let Err(code) = self.machine.watch(handle) {
            self.watched.lock().remove(&handle);
            return Err(code.into());
        }
        Ok(watched)
    }

    /// Closes a watched handle.
    pub fn close(&self, handle: Handle) {
        self.watched.lock().remove(&handle);
        self.machine.close(handle);
    }

    /// Takes note of an event.
    pub fn handle(&self, kernel: &Kernel, event: Event) {
        match event {
            Event::Ready { handle, readiness } => {
                let watched = self.watched.lock().get(&handle).and_then(Weak::upgrade);
                if let Some(watched) = watched {
                    watched.report(readiness);
                }
            }
            Event::Completed { ticket, result } => self.complete(ticket, result),
            Event::Signal(number) => {
                signal::from_outside(kernel, number);
                // That it came is no answer to wait for.
                let _ = self.machine.request(Request::Heard { signal: number });
            }
            Event::Window(_) => signal::from_outside(kernel, signal::SIGWINCH),
            Event::OutOfMemory(largest) => shortage::relieve(kernel, largest),
        }
    }

    fn complete(&self, ticket: Ticket, result: core::result::Result<Reply, machine::Code>) {
        let mut operations = self.operations.lock();
        match operations.insert(ticket, Operation::Finished(result)) {
            Some(Operation::Waiting(Some(waker))) => {
                drop(operations);
                waker.wake();
            }
            Some(Operation::Abandoned) => {
                if let Some(Operation::Finished(Ok(reply))) = operations.remove(&ticket) {
                    drop(operations);
                    self.discard(reply);
                }
            }
            _ => {}
        }
    }

    /// Gives back what an answer granted that nobody wants any more.
    fn discard(&self, reply: Reply) {
        if let Reply::Opened { handle, .. } | Reply::Socket { handle, .. } = reply {
            self.machine.close(handle);
        }
    }

    /// Asks, and waits for the answer.
    pub async fn request(&self, kernel: &Kernel, request: Request<'_>) -> Result<Reply> {
        match self.machine.request(request) {
            Started::Ready(result) => result.map_err(Errno::from),
            Started::Later(ticket) => self.completion(kernel, ticket).await,
        }
    }

    /// Asks, and promises the answer.
    pub fn promise(kernel: &Arc<Kernel>, request: Request<'_>) -> Promise<Reply> {
        match kernel.machine.request(request) {
            Started::Ready(result) => kept(result.map_err(Errno::from)),
            Started::Later(ticket) => {
                let kernel = kernel.clone();
                Promise::later(async move { kernel.devices.completion(&kernel, ticket).await })
            }
        }
    }

    /// Waits for a transfer under way, and answers how many bytes it was.
    pub async fn transferred(&self, kernel: &Kernel, mut ticket: Ticket) -> Result<u64> {
        loop {
            let Reply::Number(length) = self.completion(kernel, ticket).await? else {
                return Err(Errno::EIO);
            };
            match self.machine.finish(ticket, length)? {
                Transfer::Done(length) => return Ok(length as u64),
                Transfer::Later(next) => ticket = next,
                Transfer::NotReady => return Err(Errno::EIO),
            }
        }
    }

    /// Waits for an operation under way. Dropped before its end, the answer is given back.
    pub async fn completion(&self, kernel: &Kernel, ticket: Ticket) -> Result<Reply> {
        let _outside = kernel.scheduler.wait_outside();
        let _guard = Guard { devices: self, ticket };
        poll_fn(|cx| {
            let mut operations = self.operations.lock();
            match operations.get_mut(&ticket) {
                Some(Operation::Finished(_)) => match operations.remove(&ticket) {
                    Some(Operation::Finished(result)) => Poll::Ready(result.map_err(Errno::from)),
                    _ => Poll::Ready(Err(Errno::EIO)),
                },
                _ => {
                    operations.insert(ticket, Operation::Waiting(Some(cx.waker().clone())));
                    Poll::Pending
                }
            }
        })
        .await
    }
}

struct Guard<'a> {
    devices: &'a Devices,
    ticket: Ticket,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut operations = self.devices.operations.lock();
        match operations.remove(&self.ticket) {
            Some(Operation::Waiting(_)) => {
                operations.insert(self.ticket, Operation::Abandoned);
            }
            Some(Operation::Finished(Ok(reply))) => {
                drop(operations);
                self.devices.discard(reply);
            }
            _ => {}
        }
    }
}
