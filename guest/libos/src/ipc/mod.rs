//! Interprocess communication of System V: things found by keys (sysvipc(7)); and POSIX message queues.
//!
//! Shared memory, semaphore sets and message queues have in common that they are made and found by a key, named
//! by a number, belong to somebody, and stay until they are removed. A number is never given out twice.

pub mod message;
pub mod named;
pub mod semaphore;
pub mod shared;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::lock::Mutex;

use crate::errno::{Errno, Result};
use crate::process::Identity;

/// IPC_PRIVATE: a key that finds nothing.
pub const PRIVATE: u32 = 0;
pub const CREATE: u32 = 0o1000;
pub const EXCLUSIVE: u32 = 0o2000;
pub const NO_WAIT: u32 = 0o4000;

/// Rights that are asked for, as in a mode's last digit.
pub const READ: u32 = 4;
pub const WRITE: u32 = 2;

/// Whose a thing is (`struct ipc64_perm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub user: u32,
    pub group: u32,
    pub maker: u32,
    pub maker_group: u32,
    pub mode: u32,
}

/// A thing with a number.
pub struct Entry<T> {
    pub number: u32,
    pub key: u32,
    pub owner: Mutex<Owner>,
    /// Seconds since the epoch of the last change of owner or mode.
    pub changed: AtomicU64,
    removed: AtomicBool,
    pub thing: T,
}

impl<T> Entry<T> {
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// Whether the identity has all of these rights.
    pub fn permits(&self, identity: &Identity, rights: u32) -> Result<()> {
        let owner = *self.owner.lock();
        let class = if identity.user == owner.user || identity.user == owner.maker {
            6
        } else if identity.in_group(owner.group) || identity.in_group(owner.maker_group) {
            3
        } else {
            0
        };
        let granted = owner.mode >> class & 7;
        if identity.privileged() || granted & rights == rights { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Whether the identity may change or remove the thing.
    pub fn owned(&self, identity: &Identity) -> Result<()> {
        let owner = *self.owner.lock();
        let own = identity.user == owner.user || identity.user == owner.maker;
        if identity.privileged() || own { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// IPC_SET: another owner, other permissions.
    pub fn change(&self, user: u32, group: u32, mode: u32, now_s: u64) {
        let mut owner = self.owner.lock();
        owner.user = user;
        owner.group = group;
        owner.mode = owner.mode & !0o777 | mode & 0o777;
        self.changed.store(now_s, Ordering::Relaxed);
    }

    /// `struct ipc64_perm`.
    pub fn encode(&self) -> [u8; 48] {
        let owner = *self.owner.lock();
        let mut bytes = [0; 48];
        let words = [self.key, owner.user, owner.group, owner.maker, owner.maker_group, owner.mode];
        for (at, word) in words.into_iter().enumerate() {
            bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

struct State<T> {
    next: u32,
    by_number: BTreeMap<u32, Arc<Entry<T>>>,
    by_key: BTreeMap<u32, u32>,
}

/// All things of one kind.
pub struct Registry<T> {
    state: Mutex<State<T>>,
    most: usize,
}

impl<T> Registry<T> {
    pub fn new(most: usize) -> Self {
        let state = State { next: 0, by_number: BTreeMap::new(), by_key: BTreeMap::new() };
        Self { state: Mutex::new(state), most }
    }

    /// The thing that a key finds, once `fits` has nothing against it; else a new one, if that is wanted.
    pub fn get(
        &self,
        key: u32,
        flags: u32,
        identity: &Identity,
        now_s: u64,
        fits: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<u32> {
        let mut state = self.state.lock();
        let found = state.by_key.get(&key).filter(|_| key != PRIVATE).copied();
        if let Some(number) = found {
            if flags & CREATE != 0 && flags & EXCLUSIVE != 0 {
                return Err(Errno::EEXIST);
            }
            let entry = state.by_number.get(&number).ok_or(Errno::ENOENT)?;
            let rights = (flags >> 6 | flags >> 3 | flags) & 7;
            entry.permits(identity, rights)?;
            fits(&entry.thing)?;
            return Ok(number);
        }
        if key != PRIVATE && flags & CREATE == 0 {
            return Err(Errno::ENOENT);
        }
        if state.by_number.len() >= self.most {
            return Err(Errno::ENOSPC);
        }
        let thing = make()?;
        let number = state.next;
        state.next = (number + 1) & 0x7fff_ffff;
        let owner = Owner {
            user: identity.user,
            group: identity.group,
            maker: identity.user,
            maker_group: identity.group,
            mode: flags & 0o777,
        };
        let entry = Entry {
            number,
            key,
            owner: Mutex::new(owner),
            changed: AtomicU64::new(now_s),
            removed: AtomicBool::new(false),
            thing,
        };
        state.by_number.insert(number, Arc::new(entry));
        if key != PRIVATE {
            state.by_key.insert(key, number);
        }
        Ok(number)
    }

    pub fn find(&self, number: u32) -> Result<Arc<Entry<T>>> {
        self.state.lock().by_number.get(&number).cloned().ok_or(Errno::EINVAL)
    }

    /// Takes the key away: from now on nobody finds the thing by it.
    pub fn hide(&self, entry: &Entry<T>) {
        self.state.lock().by_key.retain(|_, number| *number != entry.number);
    }

    pub fn remove(&self, entry: &Entry<T>) {
        entry.removed.store(true, Ordering::SeqCst);
        self.hide(entry);
        self.state.lock().by_number.remove(&entry.number);
    }

    pub fn all(&self) -> Vec<Arc<Entry<T>>> {
        self.state.lock().by_number.values().cloned().collect()
    }
}

/// Everything of an island.
pub struct Ipc {
    pub memory: Registry<shared::Segment>,
    pub semaphores: Registry<semaphore::Set>,
    pub messages: Registry<message::Queue>,
}

impl Default for Ipc {
    fn default() -> Self {
        // SHMMNI, SEMMNI, MSGMNI.
        Self {
            memory: Registry::new(4096),
            semaphores: Registry::new(32_000),
            messages: Registry::new(32_000),
        }
    }
}
