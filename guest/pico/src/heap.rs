//! The library OS's heap, on the part of the shared state behind the stacks.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use abi::exit::Exit;
use runtime::cache::Cache;
use runtime::heap::{Ground, Heap};

use crate::local::Local;
use crate::{lock, pico};

struct State;

// SAFETY: GS is the calling CPU's own.
unsafe impl Ground for State {
    type Lock = lock::Raw;

    #[inline]
    fn cache() -> Option<&'static Cache> {
        Local::current().map(|local| &local.cache)
    }

    fn more(_: usize) -> Option<(*mut u8, usize)> {
        None
    }

    fn exhausted() -> ! {
        pico::halt(Exit::OutOfMemory)
    }
}

#[global_allocator]
static HEAP: Heap<State> = Heap::new();

static THERE: AtomicBool = AtomicBool::new(false);

/// Gives the heap its memory.
///
/// # Safety
/// The range is mapped read-write, zeroed, and nobody else's for ever. Called once.
pub unsafe fn claim(start: u64, end: u64) {
    // SAFETY: the caller's promise.
    if !unsafe { HEAP.claim(start as *mut u8, (end - start) as usize) } {
        crate::fatal("the state memory is too small");
    }
    THERE.store(true, Relaxed);
}

/// Whether the heap has its memory.
pub fn is_there() -> bool {
    THERE.load(Relaxed)
}
