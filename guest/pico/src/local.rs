//! What each virtual CPU has of its own; GS points to it while its thread lives.
//!
//! The head is first, because the gate reaches it by offsets.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use entry::Head;
use runtime::cache::Cache;

use crate::layout::CPUS_MAX;

/// One virtual CPU.
#[repr(C, align(128))]
pub struct Local {
    /// What the gate knows.
    pub head: Head,
    /// How this CPU idles: see `idle.rs`.
    pub idle: AtomicU32,
    /// How far its slice has aged: see `ticker.rs`.
    pub slice: AtomicU32,
    /// The host's number for its thread.
    pub thread: AtomicI32,
    /// Until when its slice lasts, on the monotonic clock; 0 for no such limit.
    pub deadline: AtomicU64,
    /// Threads park here until they are started: 0 not there yet, 1 parked, 2 started.
    pub started: AtomicU32,
    /// Counts the kicks that have arrived: see `hold.rs`.
    pub arrived: AtomicU32,
    /// Free memory of its own.
    pub cache: Cache,
}

impl Local {
    const fn new() -> Self {
        Self {
            head: Head::new(),
            idle: AtomicU32::new(0),
            slice: AtomicU32::new(0),
            thread: AtomicI32::new(0),
            deadline: AtomicU64::new(0),
            started: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            cache: Cache::new(),
        }
    }
}

/// All of them, whether started or not.
pub static LOCALS: [Local; CPUS_MAX] = [const { Local::new() }; CPUS_MAX];
