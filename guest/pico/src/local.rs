//! What each virtual CPU has of its own; GS points to it while its thread lives.
//!
//! The head is first, because the gate reaches it by offsets.

use alloc::sync::Arc;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use entry::Head;
use machine::{Cpu, Space};
use runtime::cache::Cache;

use crate::layout::CPUS_MAX;
use crate::space::Record;

/// One virtual CPU.
#[repr(C, align(128))]
pub struct Local {
    /// What the gate knows.
    pub head: Head,
    /// How this CPU idles: see `idle.rs`.
    pub idle: AtomicU32,
    /// How far its slice has aged: see `ticker.rs`.
    pub slice: AtomicU32,
    /// The host's numbers for the process it is in, and for its thread there.
    runs: AtomicU64,
    /// Where its kernel stack is while it goes from one process to another: see `space/seat.rs`.
    pub between: AtomicU64,
    /// The space that is active on it, and that one's number for others.
    space: UnsafeCell<Option<Arc<Record>>>,
    active: AtomicU32,
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
            runs: AtomicU64::new(0),
            between: AtomicU64::new(0),
            space: UnsafeCell::new(None),
            active: AtomicU32::new(0),
            deadline: AtomicU64::new(0),
            started: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            cache: Cache::new(),
        }
    }
}

// SAFETY: `space` is its own CPU's alone; everything else is atomic, or says so itself.
unsafe impl Sync for Local {}

impl Local {
    /// That of the calling thread, if it carries a virtual CPU.
    #[inline]
    pub fn current() -> Option<&'static Self> {
        let local: *const Self;
        // SAFETY: reads a register. FSGSBASE was checked at start.
        unsafe { asm!("rdgsbase {}", out(reg) local, options(nomem, nostack, preserves_flags)) };
        // SAFETY: a GS base that is not zero points to this CPU's `Local`, which lives for ever.
        unsafe { local.as_ref() }
    }

    pub fn cpu(&self) -> Cpu {
        let offset = (&raw const *self).addr() - LOCALS.as_ptr().addr();
        Cpu((offset / size_of::<Self>()) as u16)
    }

    /// The host's numbers for the process and the thread it is in.
    pub fn runs(&self) -> (u32, u32) {
        let both = self.runs.load(SeqCst);
        ((both >> 32) as u32, both as u32)
    }

    pub fn set_runs(&self, process: u32, thread: u32) {
        self.runs.store(u64::from(process) << 32 | u64::from(thread), SeqCst);
    }

    /// The number of the space that is active, or is about to be.
    pub fn active(&self) -> Space {
        Space(self.active.load(SeqCst))
    }

    /// The space that is active on the calling CPU, which this is.
    #[inline]
    pub fn space(&self) -> &Arc<Record> {
        // SAFETY: only the calling CPU changes it, and not while it borrows it (`set_space`).
        unsafe { (*self.space.get()).as_ref() }.expect("invariant: set before a CPU runs")
    }

    /// Changes the active space; what was active is the answer.
    ///
    /// # Safety
    /// This is the calling CPU's, or no CPU runs yet; nobody holds what [`Self::space`] answered.
    pub unsafe fn set_space(&self, space: Arc<Record>) -> Option<Arc<Record>> {
        self.active.store(space.number().0, SeqCst);
        // SAFETY: the caller's promise.
        unsafe { (*self.space.get()).replace(space) }
    }
}

/// All of them, whether started or not.
pub static LOCALS: [Local; CPUS_MAX] = [const { Local::new() }; CPUS_MAX];
