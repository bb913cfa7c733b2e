//! The library OS's heap, on the part of the shared state behind the stacks.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use talc::TalcLock;
use talc::source::Manual;

use crate::lock;

#[global_allocator]
static HEAP: TalcLock<lock::Raw, Manual> = TalcLock::new(Manual);

static THERE: AtomicBool = AtomicBool::new(false);

/// Gives the heap its memory.
///
/// # Safety
/// The range is mapped read-write, zeroed, and nobody else's for ever. Called once.
pub unsafe fn claim(start: u64, end: u64) {
    // SAFETY: the caller's promise.
    let claimed = unsafe { HEAP.lock().claim(start as *mut u8, (end - start) as usize) };
    if claimed.is_none() {
        crate::fatal("the state memory is too small");
    }
    THERE.store(true, Relaxed);
}

/// Whether the heap has its memory.
pub fn is_there() -> bool {
    THERE.load(Relaxed)
}
