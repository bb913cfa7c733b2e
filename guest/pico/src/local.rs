//! What each virtual CPU has of its own; GS points to it while its thread lives.
//!
//! The head is first, because the gate reaches it by offsets.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use entry::Head;
use machine::Exception;
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
    /// What the last signal told; written by the handler, read by this CPU alone.
    pub exception: UnsafeCell<Exception>,
    /// The trapped system call came from a `syscall` instruction that stands right before `rip`.
    pub patchable: AtomicU32,
    /// The way out was taken in single steps: the step that ends at the application is none of its own.
    pub steps_out: AtomicU32,
    /// Free memory of its own.
    pub cache: Cache,
}

// SAFETY: `exception` is accessed only by its own CPU's thread: by the handler on top of application code,
// and after that handler has given way to `enter`. Everything else is atomic.
unsafe impl Sync for Local {}

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
            exception: UnsafeCell::new(Exception { vector: 0, error: 0, address: 0, beyond_file: false }),
            patchable: AtomicU32::new(0),
            steps_out: AtomicU32::new(0),
            cache: Cache::new(),
        }
    }
}

/// All of them, whether started or not.
pub static LOCALS: [Local; CPUS_MAX] = [const { Local::new() }; CPUS_MAX];
