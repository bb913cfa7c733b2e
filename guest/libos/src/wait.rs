//! Waiting: queues of those who wait, and the futures that wait on them.
//!
//! Whoever waits registers first and looks again afterwards, so that no change is missed. A queue holds
//! wakers (threads) and listeners (epoll items); both are told on every change and look for themselves.
//! Lock order: a queue's lock is taken last, and wakers and listeners run after it is released.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Poll, Waker};

use crate::lock::Mutex;

use crate::errno::{Errno, Result};
use crate::thread::Thread;

/// Somebody who wants to know of changes but is no thread.
pub trait Listener: Send + Sync {
    fn changed(&self);
    /// Nothing has changed, but for a moment it may have looked otherwise.
    fn reminded(&self) {
        self.changed();
    }
}

enum Waiter {
    Waker(Waker),
    Listener(Weak<dyn Listener>),
}

#[derive(Default)]
struct Waiters {
    next: u64,
    by_number: BTreeMap<u64, Waiter>,
}

/// Those who wait for a thing to change.
#[derive(Default)]
pub struct WaitQueue {
    /// Number of waiters, so that the common case (none) costs no lock.
    count: AtomicUsize,
    waiters: Mutex<Waiters>,
}

impl WaitQueue {
    pub const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            waiters: Mutex::new(Waiters { next: 0, by_number: BTreeMap::new() }),
        }
    }

    fn add(&self, waiter: Waiter) -> u64 {
        let mut waiters = self.waiters.lock();
        waiters.next += 1;
        let number = waiters.next;
        waiters.by_number.insert(number, waiter);
        self.count.store(waiters.by_number.len(), Ordering::SeqCst);
        number
    }

    fn remove(&self, number: u64) {
        let mut waiters = self.waiters.lock();
        waiters.by_number.remove(&number);
        self.count.store(waiters.by_number.len(), Ordering::SeqCst);
    }

    /// Registers a listener until the returned number is given to [`WaitQueue::ignore`].
    pub fn listen(&self, listener: Weak<dyn Listener>) -> u64 {
        self.add(Waiter::Listener(listener))
    }

    pub fn ignore(&self, number: u64) {
        self.remove(number);
    }

    /// Tells everybody that something changed.
    pub fn notify(&self) {
        self.tell(|listener| listener.changed());
    }

    /// Tells everybody that it is as it was, although it may have looked otherwise for a moment.
    pub fn remind(&self) {
        self.tell(|listener| listener.reminded());
    }

    fn tell(&self, how: impl Fn(&dyn Listener)) {
        core::sync::atomic::fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut wakers: Vec<Waker> = Vec::new();
        let mut listeners: Vec<Arc<dyn Listener>> = Vec::new();
        {
            let mut waiters = self.waiters.lock();
            waiters.by_number.retain(|_, waiter| match waiter {
                Waiter::Waker(waker) => {
                    wakers.push(waker.clone());
                    true
                }
                Waiter::Listener(listener) => {
                    let listener = listener.upgrade();
                    let alive = listener.is_some();
                    listeners.extend(listener);
                    alive
                }
            });
            self.count.store(waiters.by_number.len(), Ordering::SeqCst);
        }
        listeners.iter().for_each(|listener| how(&**listener));
        wakers.iter().for_each(Waker::wake_by_ref);
    }
}

/// A waker's place in a queue, given up when dropped.
pub struct Place<'a> {
    queue: &'a WaitQueue,
    number: u64,
}

impl<'a> Place<'a> {
    pub fn take(queue: &'a WaitQueue, waker: &Waker) -> Self {
        Self { queue, number: queue.add(Waiter::Waker(waker.clone())) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.queue.remove(self.number);
    }
}

/// How a wait may end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    Forever,
    /// Until this time on the monotonic clock.
    Until(u64),
}

/// Waits until `attempt` has something, on all of `queues`. A signal for the thread ends the wait with
/// ERESTARTSYS; the end of patience with ETIMEDOUT.
pub async fn until<T>(
    thread: &Arc<Thread>,
    queues: &[&WaitQueue],
    patience: Patience,
    mut attempt: impl FnMut() -> Option<T>,
) -> Result<T> {
    let mut places: Vec<Place<'_>> = Vec::new();
    let mut alarm = None;
    let wait = poll_fn(|cx| {
        if places.is_empty() && alarm.is_none() {
            places.extend(queues.iter().map(|queue| Place::take(queue, cx.waker())));
            if let Patience::Until(time_ns) = patience {
                alarm = Some(thread.kernel().timers.alarm(time_ns, cx.waker()));
            }
        }
        if let Some(found) = attempt() {
            return Poll::Ready(Ok(found));
        }
        if thread.interrupted() {
            return Poll::Ready(Err(Errno::ERESTARTSYS));
        }
        if let Patience::Until(time_ns) = patience
            && thread.kernel().machine.now().monotonic_ns >= time_ns
        {
            return Poll::Ready(Err(Errno::ETIMEDOUT));
        }
        Poll::Pending
    });
    pin!(wait).await
}

/// Waits until `attempt` has something, whatever signals come, or until the thread has to end.
pub async fn while_alive<T>(
    thread: &Arc<Thread>,
    queue: &WaitQueue,
    mut attempt: impl FnMut() -> Option<T>,
) -> Option<T> {
    let mut place = None;
    let wait = poll_fn(|cx| {
        place.get_or_insert_with(|| Place::take(queue, cx.waker()));
        match attempt() {
            None if !thread.process.must_end(thread) => Poll::Pending,
            outcome => Poll::Ready(outcome),
        }
    });
    pin!(wait).await
}

/// Sleeps until a time on the monotonic clock; a signal ends it with ERESTARTSYS.
pub async fn sleep(thread: &Arc<Thread>, time_ns: u64) -> Result<()> {
    match until(thread, &[], Patience::Until(time_ns), || None::<()>).await {
        Err(Errno::ETIMEDOUT) => Ok(()),
        other => other,
    }
}

/// Lets time pass until then, whatever comes for the thread.
pub async fn pass(thread: &Arc<Thread>, time_ns: u64) {
    let mut alarm = None;
    let passed = poll_fn(|cx| {
        alarm.get_or_insert_with(|| thread.kernel().timers.alarm(time_ns, cx.waker()));
        match thread.kernel().machine.now().monotonic_ns >= time_ns {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    });
    passed.await;
}

/// Lets other threads run, if any want to.
pub async fn give_way() {
    let mut gives = true;
    poll_fn(|cx| {
        if core::mem::take(&mut gives) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// Awaits `future`, but not longer than until a signal comes for the thread (ERESTARTSYS).
pub async fn interruptible<T>(thread: &Arc<Thread>, future: impl Future<Output = T>) -> Result<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending if thread.interrupted() => Poll::Ready(Err(Errno::ERESTARTSYS)),
        Poll::Pending => Poll::Pending,
    })
    .await
}
