//! Free blocks that each virtual CPU keeps for itself: most allocations take no lock and no search.
//!
//! A block has one of a few sizes, its class. What a CPU frees it keeps, up to a limit per class, whoever
//! allocated it. Invariant: a list is touched only by its CPU, and nothing that interrupts the library OS
//! allocates. Threads that are no CPU keep nothing.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};

/// Sizes are multiples of this, and so are addresses.
const UNIT: usize = 16;
/// The largest size that is kept.
const LARGEST: usize = 4096;
/// Bytes kept of one class by one CPU.
const KEPT: usize = 8192;
const CLASSES: usize = 28;

/// Sizes: every unit up to eight, then four to each doubling, so that a quarter is wasted at most.
const SIZES: [u16; CLASSES] = {
    let mut sizes = [0; CLASSES];
    let (mut class, mut size, mut step) = (0, 0, UNIT);
    while class < CLASSES {
        size += step;
        sizes[class] = size as u16;
        if size >= 8 * UNIT && size.is_power_of_two() {
            step = size / 4;
        }
        class += 1;
    }
    sizes
};

/// The class that holds so many units.
const BY_UNITS: [u8; LARGEST / UNIT + 1] = {
    let mut table = [0; LARGEST / UNIT + 1];
    let (mut units, mut class) = (0, 0);
    while units < table.len() {
        if units * UNIT > SIZES[class] as usize {
            class += 1;
        }
        table[units] = class as u8;
        units += 1;
    }
    table
};

const _: () = assert!(SIZES[CLASSES - 1] as usize == LARGEST);

/// Which blocks serve a layout.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Class(u8);

impl Class {
    #[inline]
    pub fn of(layout: Layout) -> Option<Self> {
        let fits = layout.size() <= LARGEST && layout.align() <= UNIT;
        fits.then(|| Self(BY_UNITS[layout.size().div_ceil(UNIT)]))
    }

    #[inline]
    fn size(self) -> usize {
        SIZES[self.0 as usize] as usize
    }

    /// What the allocator below is asked for.
    #[inline]
    pub fn layout(self) -> Layout {
        Layout::from_size_align(self.size(), UNIT).expect("invariant: sizes are small")
    }
}

struct Free {
    next: *mut Free,
}

#[derive(Clone, Copy)]
struct List {
    first: *mut Free,
    count: usize,
}

/// The blocks of one virtual CPU.
pub struct Cache(UnsafeCell<[List; CLASSES]>);

// SAFETY: only the CPU itself reaches its lists, by the promise of `take` and `keep`.
unsafe impl Sync for Cache {}

impl Cache {
    pub const fn new() -> Self {
        Self(UnsafeCell::new([List { first: null_mut(), count: 0 }; CLASSES]))
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self::new()
    }
}

impl Cache {
    #[allow(clippy::mut_from_ref, reason = "the cell is one CPU's alone")]
    #[inline]
    fn list(&self, class: Class) -> &mut List {
        // SAFETY: a class is below CLASSES, and nobody else touches the lists.
        unsafe { &mut (*self.0.get())[class.0 as usize] }
    }

    /// Takes a block of this class, if the CPU keeps one.
    ///
    /// # Safety
    /// The cache is the calling CPU's.
    #[inline]
    pub unsafe fn take(&self, class: Class) -> Option<NonNull<u8>> {
        let list = self.list(class);
        let block = NonNull::new(list.first)?;
        // SAFETY: a listed block is nobody's, and begins with the link that `keep` wrote.
        list.first = unsafe { block.as_ref().next };
        list.count -= 1;
        Some(block.cast())
    }

    /// Keeps a free block, unless there are enough.
    ///
    /// # Safety
    /// The cache is the calling CPU's. The block came from an allocation of the class's layout and is
    /// nobody's any more.
    #[inline]
    pub unsafe fn keep(&self, class: Class, block: *mut u8) -> bool {
        let list = self.list(class);
        if list.count * class.size() >= KEPT {
            return false;
        }
        let free = block.cast::<Free>();
        // SAFETY: by the caller's promise; a block holds at least one unit, aligned to it.
        unsafe { free.write(Free { next: list.first }) };
        list.first = free;
        list.count += 1;
        true
    }
}
