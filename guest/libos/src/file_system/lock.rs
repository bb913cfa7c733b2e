//! Locks on files (fcntl(2), flock(2)), found by the file's identity and kept by who holds them open.
//!
//! A file's locks are found by its [`Identity`]. Record locks belong to a process or to a description (OFD), locks
//! of flock(2) to a description; the two families do not see each other, as on Linux. Locks of one
//! owner never conflict: a new one replaces what it overlaps. Whoever waits for a process's record lock is found
//! out if that one waits for them in turn; others' deadlocks are not looked for, as on Linux.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::lock::Mutex;

use super::Identity;
use crate::errno::{Errno, Result};
use crate::file::Description;
use crate::wait::WaitQueue;

/// The last byte a lock can cover.
pub const END: u64 = i64::MAX as u64;

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Process(u32),
    Description(u64),
}

/// A record lock: bytes `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub owner: Owner,
    pub exclusive: bool,
    pub start: u64,
    pub end: u64,
}

impl Lock {
    fn overlaps(&self, other: &Lock) -> bool {
        self.start <= other.end && other.start <= self.end
    }
    fn conflicts(&self, other: &Lock) -> bool {
        self.owner != other.owner && (self.exclusive || other.exclusive) && self.overlaps(other)
    }
}

#[derive(Default)]
struct Held {
    records: Vec<Lock>,
    /// Of flock(2): the description, and whether its lock is exclusive.
    whole: Vec<(u64, bool)>,
}

/// The locks of one file.
#[derive(Default)]
pub struct FileLocks {
    held: Mutex<Held>,
    /// Told when a lock goes.
    pub queue: WaitQueue,
}

impl FileLocks {
    /// The first lock in the way of `wanted`.
    pub fn conflict(&self, wanted: &Lock) -> Option<Lock> {
        let held = self.held.lock();
        held.records.iter().filter(|lock| lock.conflicts(wanted)).min_by_key(|lock| lock.start).copied()
    }

    /// Takes a record lock; false if another is in the way.
    pub fn take(&self, wanted: Lock) -> bool {
        let mut held = self.held.lock();
        if held.records.iter().any(|lock| lock.conflicts(&wanted)) {
            return false;
        }
        cut(&mut held.records, &wanted);
        join(&mut held.records, wanted);
        drop(held);
        // An exclusive lock may have become a shared one.
        self.queue.notify();
        true
    }

    /// Gives up what an owner holds between two bytes.
    pub fn give(&self, owner: Owner, start: u64, end: u64) {
        cut(&mut self.held.lock().records, &Lock { owner, exclusive: false, start, end });
        self.queue.notify();
    }

    /// Takes the lock of flock(2). A lock held in the other way is given up first, so that it is lost
    /// if the new one cannot be had (flock(2)).
    pub fn take_whole(&self, description: u64, exclusive: bool) -> bool {
        let mut held = self.held.lock();
        if held.whole.contains(&(description, exclusive)) {
            return true;
        }
        let before = held.whole.len();
        held.whole.retain(|(holder, _)| *holder != description);
        let lost = held.whole.len() != before;
        let free = !held.whole.iter().any(|(_, other)| exclusive || *other);
        if free {
            held.whole.push((description, exclusive));
        }
        drop(held);
        if lost {
            self.queue.notify();
        }
        free
    }

    pub fn give_whole(&self, description: u64) {
        self.held.lock().whole.retain(|(holder, _)| *holder != description);
        self.queue.notify();
    }

    /// Ends everything a description holds, because it is closed.
    pub fn forget(&self, description: u64) {
        self.give(Owner::Description(description), 0, END);
        self.give_whole(description);
    }
}

/// Takes `range` out of what its owner holds.
fn cut(records: &mut Vec<Lock>, range: &Lock) {
    let mut rest = Vec::new();
    records.retain(|lock| {
        if lock.owner != range.owner || !lock.overlaps(range) {
            return true;
        }
        if lock.start < range.start {
            rest.push(Lock { end: range.start - 1, ..*lock });
        }
        if lock.end > range.end {
            rest.push(Lock { start: range.end + 1, ..*lock });
        }
        false
    });
    records.append(&mut rest);
}

/// Adds a lock that overlaps none of its owner's, and joins it with like neighbours.
fn join(records: &mut Vec<Lock>, mut added: Lock) {
    records.retain(|lock| {
        let like = lock.owner == added.owner && lock.exclusive == added.exclusive;
        let touches = like && (lock.end + 1 == added.start || added.end + 1 == lock.start);
        if touches {
            added.start = added.start.min(lock.start);
            added.end = added.end.max(lock.end);
        }
        !touches
    });
    records.push(added);
}

/// All files' locks.
#[derive(Default)]
pub struct Locks {
    /// Whether there ever was a lock, so that closing costs nothing before.
    used: AtomicBool,
    /// Processes that wait, each for another one's record lock.
    waiting: Mutex<BTreeMap<u32, u32>>,
    files: Mutex<BTreeMap<Identity, Weak<FileLocks>>>,
}

impl Locks {
    /// The locks of a description's file; the description keeps them from now on.
    pub fn of(&self, description: &Description) -> Arc<FileLocks> {
        description
            .locks
            .call_once(|| {
                self.used.store(true, Ordering::SeqCst);
                let mut files = self.files.lock();
                files.retain(|_, locks| locks.strong_count() > 0);
                let slot = files.entry(Identity::of(description)).or_default();
                let locks = slot.upgrade().unwrap_or_default();
                *slot = Arc::downgrade(&locks);
                locks
            })
            .clone()
    }

    /// Notes that a process waits for another one, or says that this would never end.
    pub fn await_holder(&self, process: u32, holder: u32) -> Result<()> {
        let mut waiting = self.waiting.lock();
        let mut at = holder;
        for _ in 0..=waiting.len() {
            if at == process {
                return Err(Errno::EDEADLK);
            }
            match waiting.get(&at) {
                Some(next) => at = *next,
                None => break,
            }
        }
        waiting.insert(process, holder);
        Ok(())
    }

    /// The process waits no more.
    pub fn waits_no_more(&self, process: u32) {
        self.waiting.lock().remove(&process);
    }

    /// A process closes one of its descriptors: its record locks on that file end, through whichever
    /// descriptor they were taken (fcntl(2)).
    pub fn closing(&self, process: u32, description: &Description) {
        if !self.used.load(Ordering::SeqCst) {
            return;
        }
        let locks = self.files.lock().get(&Identity::of(description)).and_then(Weak::upgrade);
        if let Some(locks) = locks {
            locks.give(Owner::Process(process), 0, END);
        }
    }
}
