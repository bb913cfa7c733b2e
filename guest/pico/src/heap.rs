//! The library OS's heap, on the part of the shared state behind the stacks.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use abi::exit::Exit;

use talc::TalcLock;
use talc::source::Manual;

use crate::cache::{self, Class};
use crate::{lock, pico};

/// An allocator that ends the guest where there is no memory left, so that the end says why.
struct Heap(TalcLock<lock::Raw, Manual>);

#[global_allocator]
static HEAP: Heap = Heap(TalcLock::new(Manual));

// SAFETY: everything comes from an allocator, or from blocks of it that were freed: those are at least as
// long and as aligned as was asked for, and nobody's. What is added never returns.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promise.
            return there(unsafe { self.0.alloc(layout) });
        };
        match cache::take(class) {
            Some(block) => block.as_ptr(),
            // SAFETY: a class's layout is not empty.
            None => there(unsafe { self.0.alloc(class.layout()) }),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let layout = match Class::of(layout) {
            // SAFETY: such a layout was served by a block of the class, and the caller gives it up.
            Some(class) if unsafe { cache::keep(class, pointer) } => return,
            Some(class) => class.layout(),
            None => layout,
        };
        // SAFETY: the layout it was allocated with, by the caller's promise.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, length: usize) -> *mut u8 {
        // SAFETY: the caller's promise: no length overflows, rounded up to the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(length, layout.align()) };
        match (Class::of(layout), Class::of(wanted)) {
            (Some(old), Some(new)) if old == new => pointer,
            // SAFETY: the caller's promise.
            (None, None) => there(unsafe { self.0.realloc(pointer, layout, length) }),
            _ => {
                // SAFETY: two different blocks, each as long as is copied; the old one is given up.
                unsafe {
                    let moved = self.alloc(wanted);
                    moved.copy_from_nonoverlapping(pointer, length.min(layout.size()));
                    self.dealloc(pointer, layout);
                    moved
                }
            }
        }
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
