//! Futexes: words in user memory that threads wait on (futex(2)).
//!
//! A waiter compares the word under its bucket's lock and is in the bucket before the lock is released;
//! a waker takes the same lock, so no wake-up is lost. Priority inheritance is refused (ENOSYS).

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Poll, Waker};

use crate::lock::Mutex;
use machine::Space;

use crate::errno::{Errno, Result};
use crate::thread::Thread;
use crate::wait::Patience;

const BUCKETS: usize = 128;

/// Which word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// By its address in a space.
    Private(Space, u64),
    /// By its place in a file that may be mapped at several addresses.
    Shared { device: u64, inode: u64, offset: u64 },
}

struct Waiter {
    key: Mutex<Key>,
    bits: u32,
    woken: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// All waiters of an island.
pub struct Futexes {
    buckets: Vec<Mutex<VecDeque<Arc<Waiter>>>>,
}

impl Default for Futexes {
    fn default() -> Self {
        Self::new()
    }
}

/// The word at an address, as every other access to it sees it; one that may only be read is read.
pub fn word(thread: &Arc<Thread>, address: u64, expected: u32) -> Result<u32> {
    let machine = &thread.kernel().machine;
    match machine.compare_exchange(thread.process.space(), address, expected, expected) {
        Ok(word) => Ok(word),
        Err(_) => crate::user::read_u32(thread, address),
    }
}

impl Futexes {
    pub fn new() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Mutex::new(VecDeque::new())).collect() }
    }

    fn bucket(&self, key: Key) -> &Mutex<VecDeque<Arc<Waiter>>> {
        &self.buckets[Self::number(key)]
    }

    /// Which bucket.
    fn number(key: Key) -> usize {
        let place = match key {
            Key::Private(_, address) => address,
            Key::Shared { inode, offset, .. } => offset ^ inode << 12,
        };
        let hash = (place >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
        hash as usize % BUCKETS
    }

    /// Waits while the word, which is at `address`, is `expected`, for a wake-up that shares a bit with
    /// `bits`.
    pub async fn wait(
        &self,
        thread: &Arc<Thread>,
        key: Key,
        address: u64,
        expected: u32,
        bits: u32,
        patience: Patience,
    ) -> Result<u64> {
        let machine = &thread.kernel().machine;
        let waiter = Arc::new(Waiter {
            key: Mutex::new(key),
            bits,
            woken: AtomicBool::new(false),
            waker: Mutex::new(None),
        });
        {
            let mut bucket = self.bucket(key).lock();
            if word(thread, address, expected)? != expected {
                return Err(Errno::EAGAIN);
            }
            bucket.push_back(waiter.clone());
        }
        let place = Place { futexes: self, waiter: &waiter };
        let mut alarm = None;
        let outcome = poll_fn(|cx| {
            *waiter.waker.lock() = Some(cx.waker().clone());
            if waiter.woken.load(Ordering::SeqCst) {
                return Poll::Ready(Ok(0));
            }
            if thread.interrupted() {
                return Poll::Ready(Err(Errno::ERESTARTSYS));
            }
            if let Patience::Until(time_ns) = patience {
                if machine.now().monotonic_ns >= time_ns {
                    return Poll::Ready(Err(Errno::ETIMEDOUT));
                }
                alarm.get_or_insert_with(|| thread.kernel().timers.alarm(time_ns, cx.waker()));
            }
            Poll::Pending
        })
        .await;
        drop(place);
        // Whoever was woken in the last moment was the one that a waker counted.
        if waiter.woken.load(Ordering::SeqCst) { Ok(0) } else { outcome }
    }

    /// Wakes at most `count` waiters that share a bit with `bits`; says how many.
    pub fn wake(&self, key: Key, count: u64, bits: u32) -> u64 {
        let mut woken = Vec::new();
        {
            let mut bucket = self.bucket(key).lock();
            bucket.retain(|waiter| {
                let chosen =
                    (woken.len() as u64) < count && *waiter.key.lock() == key && waiter.bits & bits != 0;
                if chosen {
                    waiter.woken.store(true, Ordering::SeqCst);
                    woken.push(waiter.clone());
                }
                !chosen
            });
        }
        for waiter in &woken {
            if let Some(waker) = waiter.waker.lock().take() {
                waker.wake();
            }
        }
        woken.len() as u64
    }

    /// Wakes `count` waiters and moves at most `limit` others to another word; says how many in all.
    pub fn requeue(&self, from: Key, to: Key, count: u64, limit: u64) -> u64 {
        let woken = self.wake(from, count, u32::MAX);
        // Both at once, the lower one first: whoever is moved must not be missed by a wake-up of either word.
        let (source, target) = (Self::number(from), Self::number(to));
        let mut lower = self.buckets[source.min(target)].lock();
        let mut higher = (source != target).then(|| self.buckets[source.max(target)].lock());
        let mut moved = Vec::new();
        let mut take = |bucket: &mut VecDeque<Arc<Waiter>>| {
            bucket.retain(|waiter| {
                let chosen = (moved.len() as u64) < limit && *waiter.key.lock() == from;
                if chosen {
                    *waiter.key.lock() = to;
                    moved.push(waiter.clone());
                }
                !chosen
            });
        };
        let of_source = match higher.as_mut() {
            Some(higher) if source > target => &mut **higher,
            _ => &mut *lower,
        };
        take(of_source);
        let of_target = match higher.as_mut() {
            Some(higher) if target > source => &mut **higher,
            _ => &mut *lower,
        };
        let count = moved.len() as u64;
        of_target.extend(moved);
        woken + count
    }
}

/// A waiter's place in its bucket, given up when the wait ends however it ends.
struct Place<'a> {
    futexes: &'a Futexes,
    waiter: &'a Arc<Waiter>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.waiter.woken.load(Ordering::SeqCst) {
            return;
        }
        // A requeue may move the waiter before its bucket is locked, but not while it is.
        loop {
            let key = *self.waiter.key.lock();
            let mut bucket = self.futexes.bucket(key).lock();
            if *self.waiter.key.lock() == key {
                return bucket.retain(|waiter| !Arc::ptr_eq(waiter, self.waiter));
            }
        }
    }
}
