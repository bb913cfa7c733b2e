//! The library OS's heap: an allocator, and what each CPU keeps of it.

use core::alloc::{GlobalAlloc, Layout};
use core::marker::PhantomData;

use lock_api::RawMutex;
use talc::TalcLock;
use talc::source::Manual;

use crate::cache::{Cache, Class};

/// What the heap needs of the machine it is on.
///
/// # Safety
/// `cache` answers nothing but the calling CPU's own cache.
pub unsafe trait Ground {
    /// What guards the allocator.
    type Lock: RawMutex;

    /// The calling CPU's free blocks; none for whoever is no CPU.
    fn cache() -> Option<&'static Cache>;

    /// Zeroed memory for the heap, of at least so many bytes: it is the heap's for ever.
    fn more(least: usize) -> Option<(*mut u8, usize)>;

    /// There is no memory left. The end says why, which a null pointer would not.
    fn exhausted() -> !;
}

/// A heap on some ground.
pub struct Heap<G: Ground>(TalcLock<G::Lock, Manual>, PhantomData<fn(G)>);

impl<G: Ground> Heap<G> {
    #[allow(clippy::new_without_default, reason = "a static is made of it")]
    pub const fn new() -> Self {
        Self(TalcLock::new(Manual), PhantomData)
    }

    /// Gives the heap memory; answers whether it could be used.
    ///
    /// # Safety
    /// The range is mapped read-write, and nobody else's for ever.
    pub unsafe fn claim(&self, start: *mut u8, length: usize) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.0.lock().claim(start, length) }.is_some()
    }

    /// The allocator's answer, which grows when it has none.
    #[inline]
    fn there(&self, layout: Layout, allocate: impl Fn() -> *mut u8) -> *mut u8 {
        let block = allocate();
        if block.is_null() { self.grow(layout, allocate) } else { block }
    }

    #[cold]
    fn grow(&self, layout: Layout, allocate: impl Fn() -> *mut u8) -> *mut u8 {
        /// What the allocator keeps of a claimed range for itself, at most.
        const OWN: usize = 4096;
        loop {
            let Some((start, length)) = G::more(layout.size() + layout.align() + OWN) else { G::exhausted() };
            // SAFETY: the ground gives it for ever.
            if !unsafe { self.claim(start, length) } {
                G::exhausted()
            }
            let block = allocate();
            if !block.is_null() {
                return block;
            }
        }
    }
}

// SAFETY: everything comes from an allocator, or from blocks of it that were freed: those are at least as
// long and as aligned as was asked for, and nobody's. What is added never returns.
unsafe impl<G: Ground> GlobalAlloc for Heap<G> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = Class::of(layout) else {
            // SAFETY: the caller's promise.
            return self.there(layout, || unsafe { self.0.alloc(layout) });
        };
        // SAFETY: the ground's promise.
        match G::cache().and_then(|cache| unsafe { cache.take(class) }) {
            Some(block) => block.as_ptr(),
            // SAFETY: a class's layout is not empty.
            None => self.there(layout, || unsafe { self.0.alloc(class.layout()) }),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let layout = match Class::of(layout) {
            // SAFETY: such a layout was served by a block of the class, and the caller gives it up.
            Some(class) if G::cache().is_some_and(|cache| unsafe { cache.keep(class, pointer) }) => return,
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
            (None, None) => self.there(wanted, || unsafe { self.0.realloc(pointer, layout, length) }),
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
