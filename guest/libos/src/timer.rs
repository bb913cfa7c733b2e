//! Timers: what has to happen at a time on the monotonic clock.
//!
//! One ordered map for the island. CPUs look at the earliest time before they run application code and
//! before they idle; nothing ticks while nothing is due.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;

use crate::lock::Mutex;

use crate::wait::Listener;

enum Due {
    Waker(Waker),
    Listener(Weak<dyn Listener>),
}

/// All timers of an island.
pub struct Timers {
    due: Mutex<BTreeMap<(u64, u64), Due>>,
    numbers: AtomicU64,
    /// The earliest time in `due`, or `u64::MAX`.
    earliest_ns: AtomicU64,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            due: Mutex::new(BTreeMap::new()),
            numbers: AtomicU64::new(1),
            earliest_ns: AtomicU64::new(u64::MAX),
        }
    }
}

impl Timers {
    /// When something is due next.
    pub fn earliest_ns(&self) -> Option<u64> {
        match self.earliest_ns.load(Ordering::Acquire) {
            u64::MAX => None,
            time_ns => Some(time_ns),
        }
    }

    fn add(&self, time_ns: u64, due: Due) -> (u64, u64) {
        let key = (time_ns, self.numbers.fetch_add(1, Ordering::Relaxed));
        let mut map = self.due.lock();
        map.insert(key, due);
        self.publish(&map);
        key
    }

    fn remove(&self, key: (u64, u64)) {
        let mut map = self.due.lock();
        map.remove(&key);
        self.publish(&map);
    }

    fn publish(&self, map: &BTreeMap<(u64, u64), Due>) {
        let earliest_ns = map.first_key_value().map_or(u64::MAX, |(key, _)| key.0);
        self.earliest_ns.store(earliest_ns, Ordering::Release);
    }

    /// Wakes `waker` at a time, unless the alarm is dropped before.
    pub fn alarm(&self, time_ns: u64, waker: &Waker) -> Alarm<'_> {
        Alarm { timers: self, key: self.add(time_ns, Due::Waker(waker.clone())) }
    }

    /// Tells `listener` at a time; the key cancels it.
    pub fn schedule(&self, time_ns: u64, listener: Weak<dyn Listener>) -> (u64, u64) {
        self.add(time_ns, Due::Listener(listener))
    }

    pub fn cancel(&self, key: (u64, u64)) {
        self.remove(key);
    }

    /// Runs what is due by `now_ns`.
    pub fn expire(&self, now_ns: u64) {
        if self.earliest_ns.load(Ordering::Acquire) > now_ns {
            return;
        }
        let mut wakers: Vec<Waker> = Vec::new();
        let mut listeners: Vec<Arc<dyn Listener>> = Vec::new();
        {
            let mut map = self.due.lock();
            let later = map.split_off(&(now_ns, u64::MAX));
            let due = core::mem::replace(&mut *map, later);
            self.publish(&map);
            for entry in due.into_values() {
                match entry {
                    Due::Waker(waker) => wakers.push(waker),
                    Due::Listener(listener) => listeners.extend(listener.upgrade()),
                }
            }
        }
        listeners.iter().for_each(|listener| listener.changed());
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A pending wake-up, cancelled when dropped.
pub struct Alarm<'a> {
    timers: &'a Timers,
    key: (u64, u64),
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.timers.remove(self.key);
    }
}
