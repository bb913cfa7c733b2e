//! A virtqueue in this machine's memory: what `driver::queue` decides, and a bell.
//!
//! The device is not trusted: a lie ends the guest.

use alloc::alloc::{alloc_zeroed, handle_alloc_error};
use core::alloc::Layout as Block;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::*};

use driver::queue::{self, Layout};
pub use driver::queue::{Full, Part};

use crate::memory::map::physical;
use crate::vm;

const PAGE: usize = 4096;

/// Memory that the device reads; it stays where it is until the chain is used.
pub fn readable(bytes: &[u8]) -> Part {
    Part { address: physical(bytes.as_ptr() as u64), length: bytes.len() as u32, writable: false }
}

/// Memory that the device writes; it stays where it is, and is nobody else's, until the chain is used.
pub fn writable(bytes: &mut [u8]) -> Part {
    Part { address: physical(bytes.as_mut_ptr() as u64), length: bytes.len() as u32, writable: true }
}

/// Where the device is told that there is something: a register, and what is written there.
#[derive(Clone, Copy, Debug)]
pub struct Doorbell {
    pub register: u64,
    pub value: u16,
    /// The register has 16 bits, not 32.
    pub narrow: bool,
}

impl Doorbell {
    fn ring(self) {
        // SAFETY: the register is mapped for ever, by `memory::map::device`.
        unsafe {
            if self.narrow {
                (self.register as *mut u16).write_volatile(self.value);
            } else {
                (self.register as *mut u32).write_volatile(self.value.into());
            }
        }
    }
}

/// Where a queue's rings are: memory that lives for ever.
struct Memory(u64);

impl Memory {
    /// The number at an offset.
    fn at<T>(&self, offset: usize) -> &'static T {
        // SAFETY: called for atomic numbers alone, at offsets that are aligned and within the rings, as
        // `queue::Memory` has it; the device changes them meanwhile.
        unsafe { &*((self.0 + offset as u64) as *const T) }
    }
}

impl queue::Memory for Memory {
    fn half(&self, at: usize) -> u16 {
        self.at::<AtomicU16>(at).load(Acquire)
    }

    fn word(&self, at: usize) -> u32 {
        self.at::<AtomicU32>(at).load(Relaxed)
    }

    fn set_half(&mut self, at: usize, value: u16) {
        self.at::<AtomicU16>(at).store(value, Release);
    }

    fn set_long(&mut self, at: usize, value: u64) {
        self.at::<AtomicU64>(at).store(value, Relaxed);
    }
}

pub struct Queue {
    queue: queue::Queue<Memory>,
    doorbell: Doorbell,
}

/// Where the rings lie, physically.
#[derive(Clone, Copy, Debug)]
pub struct Rings {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

impl Queue {
    /// A queue of this many descriptors, a power of two; `by_index` if both sides tell each other by index
    /// when they want to hear (VIRTIO_F_EVENT_IDX).
    pub fn new(size: u16, by_index: bool, doorbell: Doorbell) -> Self {
        let layout = Layout::new(size);
        let block = Block::from_size_align(layout.length(), PAGE).expect("invariant: rings are small");
        // SAFETY: the layout is not empty.
        let rings = unsafe { alloc_zeroed(block) } as u64;
        if rings == 0 {
            handle_alloc_error(block);
        }
        Self { queue: queue::Queue::new(Memory(rings), layout, by_index), doorbell }
    }

    pub fn rings(&self) -> Rings {
        let layout = self.queue.layout();
        let at = |offset: usize| physical(self.queue.memory().0 + offset as u64);
        Rings {
            size: layout.size,
            descriptors: at(0),
            available: at(layout.available),
            used: at(layout.used),
        }
    }

    /// How many parts a chain may have now.
    pub fn room(&self) -> usize {
        self.queue.room()
    }

    /// Offers a chain, which the device is told of by [`Queue::tell`].
    pub fn push(&mut self, parts: &[Part], token: u32) -> Result<(), Full> {
        self.queue.push(parts, token)
    }

    /// Tells the device of what was pushed, if it wants to know.
    pub fn tell(&mut self) {
        if self.queue.tell() {
            self.doorbell.ring();
        }
    }

    /// Whether the device has used a chain.
    pub fn is_ready(&self) -> bool {
        self.queue.is_ready()
    }

    /// The next chain that the device has used: its token, and how many bytes were written.
    pub fn pop(&mut self) -> Option<(u32, usize)> {
        self.queue.pop().unwrap_or_else(|lie| vm::broken(format_args!("{lie}")))
    }

    /// Wants an interrupt for the next chain that is used; false if one has been already.
    pub fn await_next(&mut self) -> bool {
        self.queue.await_next()
    }

    /// Wants no interrupts.
    pub fn look_away(&mut self) {
        self.queue.look_away();
    }
}
