//! The library OS's heap, on the part of the shared state behind the stacks.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use abi::exit::Exit;

use talc::TalcLock;
use talc::source::Manual;

use crate::{lock, pico};

/// An allocator that ends the guest where there is no memory left, so that the end says why.
struct Heap(TalcLock<lock::Raw, Manual>);

#[global_allocator]
static HEAP: Heap = Heap(TalcLock::new(Manual));

// SAFETY: everything is passed on to an allocator; what is added never returns.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        there(unsafe { self.0.alloc(layout) })
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, length: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        there(unsafe { self.0.realloc(pointer, layout, length) })
    }
}

#[inline]
fn there(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        pico::halt(Exit::OutOfMemory);
    }
    pointer
}

static THERE: AtomicBool = AtomicBool::new(false);

/// Gives the heap its memory.
///
/// # Safety
/// The range is mapped read-write, zeroed, and nobody else's for ever. Called once.
pub unsafe fn claim(start: u64, end: u64) {
    // SAFETY: the caller's promise.
    let claimed = unsafe { HEAP.0.lock().claim(start as *mut u8, (end - start) as usize) };
    if claimed.is_none() {
        crate::fatal("the state memory is too small");
    }
    THERE.store(true, Relaxed);
}

/// Whether the heap has its memory.
pub fn is_there() -> bool {
    THERE.load(Relaxed)
}
