//! A split virtqueue, the driver's side (virtio 1.2, 2.7).
//!
//! The device is not trusted: descriptors are kept here as well and never read back, what it says of used
//! chains is checked against what is under way, and a lie ends the guest. Interrupts are wanted only while
//! nobody looks ([`Queue::await_next`]). The rings lie as the legacy interface wants them, which suits all.

use alloc::alloc::{alloc_zeroed, handle_alloc_error};
use alloc::vec;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::*, fence};

use crate::memory::map::physical;
use crate::vm;

const PAGE: usize = 4096;

const NEXT: u16 = 1;
const WRITABLE: u16 = 2;
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

/// A part of a chain: memory of ours, by its physical address.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub address: u64,
    pub length: u32,
    /// The device writes it.
    pub writable: bool,
}

impl Part {
    /// Memory that the device reads; it stays where it is until the chain is used.
    pub fn read(bytes: &[u8]) -> Self {
        Self { address: physical(bytes.as_ptr() as u64), length: bytes.len() as u32, writable: false }
    }

    /// Memory that the device writes; it stays where it is, and is nobody else's, until the chain is used.
    pub fn write(bytes: &mut [u8]) -> Self {
        Self { address: physical(bytes.as_mut_ptr() as u64), length: bytes.len() as u32, writable: true }
    }
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

/// A chain under way.
#[derive(Clone, Copy)]
struct Chain {
    token: u32,
    /// Bytes that the device may write.
    writable: u32,
}

pub struct Queue {
    size: u16,
    rings: u64,
    used: u64,
    /// Descriptors that are free, and for those in use the next of the chain.
    free: Vec<u16>,
    next: Vec<u16>,
    under_way: Vec<Option<Chain>>,
    available: u16,
    told: u16,
    seen: u16,
    by_index: bool,
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

/// There is no room for a chain now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Queue {
    /// A queue of this many descriptors, a power of two; `by_index` if both sides tell each other by index
    /// when they want to hear (VIRTIO_F_EVENT_IDX).
    pub fn new(size: u16, by_index: bool, doorbell: Doorbell) -> Self {
        let length = usize::from(size);
        let used = (length * 16 + 6 + length * 2).next_multiple_of(PAGE);
        let layout =
            Layout::from_size_align(used + 6 + length * 8, PAGE).expect("invariant: rings are small");
        // SAFETY: the layout is not empty.
        let rings = unsafe { alloc_zeroed(layout) } as u64;
        if rings == 0 {
            handle_alloc_error(layout);
        }
        Self {
            size,
            rings,
            used: rings + used as u64,
            free: (0..size).rev().collect(),
            next: vec![0; length],
            under_way: vec![None; length],
            available: 0,
            told: 0,
            seen: 0,
            by_index,
            doorbell,
        }
    }

    pub fn rings(&self) -> Rings {
        Rings {
            size: self.size,
            descriptors: physical(self.rings),
            available: physical(self.available_ring()),
            used: physical(self.used),
        }
    }

    fn available_ring(&self) -> u64 {
        self.rings + u64::from(self.size) * 16
    }

    fn half(address: u64) -> &'static AtomicU16 {
        // SAFETY: called for words of the rings alone, which live for ever; the device changes them.
        unsafe { &*(address as *const AtomicU16) }
    }

    fn set_descriptor(&self, index: u16, part: Part, next: Option<u16>) {
        let flags = (u16::from(next.is_some()) * NEXT) | (u16::from(part.writable) * WRITABLE);
        let word = u64::from(part.length) | u64::from(flags) << 32 | u64::from(next.unwrap_or(0)) << 48;
        let at = self.rings + u64::from(index) * 16;
        // SAFETY: a descriptor of the ring; the device may read it meanwhile.
        unsafe {
            (*(at as *const AtomicU64)).store(part.address, Relaxed);
            (*((at + 8) as *const AtomicU64)).store(word, Relaxed);
        }
    }

    /// How many parts a chain may have now.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Offers a chain, which the device is told of by [`Queue::tell`].
    pub fn push(&mut self, parts: &[Part], token: u32) -> Result<(), Full> {
        if parts.is_empty() || parts.len() > self.free.len() {
            return Err(Full);
        }
        let mut following = None;
        for part in parts.iter().rev() {
            let index = self.free.pop().ok_or(Full)?;
            self.set_descriptor(index, *part, following);
            self.next[usize::from(index)] = following.unwrap_or(u16::MAX);
            following = Some(index);
        }
        let head = following.ok_or(Full)?;
        let writable = parts.iter().filter(|part| part.writable).map(|part| part.length).sum();
        self.under_way[usize::from(head)] = Some(Chain { token, writable });
        let slot = u64::from(self.available % self.size);
        Self::half(self.available_ring() + 4 + slot * 2).store(head, Relaxed);
        self.available = self.available.wrapping_add(1);
        Self::half(self.available_ring() + 2).store(self.available, Release);
        Ok(())
    }

    /// Tells the device of what was pushed, if it wants to know.
    pub fn tell(&mut self) {
        let (old, new) = (self.told, self.available);
        if old == new {
            return;
        }
        self.told = new;
        fence(SeqCst);
        let wanted = if self.by_index {
            let event = Self::half(self.used + 4 + u64::from(self.size) * 8).load(Relaxed);
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            Self::half(self.used).load(Relaxed) & NO_NOTIFY == 0
        };
        if wanted {
            self.doorbell.ring();
        }
    }

    /// Whether the device has used a chain.
    pub fn is_ready(&self) -> bool {
        Self::half(self.used + 2).load(Acquire) != self.seen
    }

    /// The next chain that the device has used: its token, and how many bytes were written.
    pub fn pop(&mut self) -> Option<(u32, usize)> {
        let index = Self::half(self.used + 2).load(Acquire);
        let ready = index.wrapping_sub(self.seen);
        if ready == 0 {
            return None;
        }
        let entry = self.used + 4 + u64::from(self.seen % self.size) * 8;
        // SAFETY: an entry of the ring, read once each.
        let (head, written) = unsafe {
            ((*(entry as *const AtomicU32)).load(Relaxed), (*((entry + 4) as *const AtomicU32)).load(Relaxed))
        };
        let chain = self.under_way.get_mut(head as usize).and_then(Option::take);
        let Some(chain) = chain.filter(|chain| ready <= self.size && written <= chain.writable) else {
            vm::broken(format_args!(
                "a device used chain {head} of {written} bytes, which it was not offered"
            ));
        };
        self.seen = self.seen.wrapping_add(1);
        let mut at = head as u16;
        loop {
            self.free.push(at);
            match self.next[usize::from(at)] {
                u16::MAX => break,
                next => at = next,
            }
        }
        Some((chain.token, written as usize))
    }

    /// Wants an interrupt for the next chain that is used; false if one has been already.
    pub fn await_next(&mut self) -> bool {
        if self.by_index {
            Self::half(self.available_ring() + 4 + u64::from(self.size) * 2).store(self.seen, Relaxed);
        } else {
            Self::half(self.available_ring()).store(0, Relaxed);
        }
        fence(SeqCst);
        !self.is_ready()
    }

    /// Wants no interrupts.
    pub fn look_away(&mut self) {
        if self.by_index {
            let never = self.seen.wrapping_sub(1);
            Self::half(self.available_ring() + 4 + u64::from(self.size) * 2).store(never, Relaxed);
        } else {
            Self::half(self.available_ring()).store(NO_INTERRUPT, Relaxed);
        }
    }
}
