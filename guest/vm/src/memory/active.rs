//! Which space a CPU has active, as the CPU knows it and as others may ask.
//!
//! A CPU says which tables it is about to load, loads them, and then says that it has left the old ones. Whoever
//! changes tables and then asks thus either hears of every CPU that may translate by them, or the CPU loads them
//! after the change. A space that is active somewhere is not given back, though it may have been dropped.

use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};

use super::spaces::Space;
use crate::cpu::ring;

/// What a CPU has active.
pub struct Active {
    /// One reference to it.
    space: AtomicPtr<Space>,
    /// The tables that are loaded, and those that may be any moment.
    root: AtomicU64,
    next: AtomicU64,
}

impl Active {
    pub const fn new() -> Self {
        Self { space: AtomicPtr::new(ptr::null_mut()), root: AtomicU64::new(0), next: AtomicU64::new(0) }
    }

    /// Whether the CPU may translate by these tables.
    pub fn is(&self, root: u64) -> bool {
        self.root.load(SeqCst) == root || self.next.load(SeqCst) == root
    }

    /// The tables that are loaded.
    pub fn root(&self) -> u64 {
        self.root.load(Relaxed)
    }

    /// The space, for the CPU itself.
    ///
    /// # Safety
    /// It is not used any more when the CPU activates another.
    pub unsafe fn space(&self) -> &Space {
        // SAFETY: there is one from the CPU's first instructions on, and the CPU has a reference to it; the rest is
        // the caller's promise.
        unsafe { &*self.space.load(Relaxed) }
    }

    /// The same, to keep.
    pub fn keep(&self) -> Arc<Space> {
        let space = self.space.load(Relaxed);
        // SAFETY: as in `space`; it came from an `Arc`.
        unsafe {
            Arc::increment_strong_count(space);
            Arc::from_raw(space)
        }
    }

    /// Loads a space's tables; by the CPU itself.
    pub fn switch(&self, space: Arc<Space>) {
        let root = space.root();
        self.next.store(root, SeqCst);
        // SAFETY: the tables of every space map the library OS, and the space stays as long as it is here.
        unsafe { ring::load_tables(root) };
        self.root.store(root, SeqCst);
        let old = self.space.swap(Arc::into_raw(space).cast_mut(), Relaxed);
        if !old.is_null() {
            // SAFETY: the reference that was here.
            drop(unsafe { Arc::from_raw(old) });
        }
    }
}
