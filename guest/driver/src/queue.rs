//! A split virtqueue, the driver's side (virtio 1.2, 2.7).
//!
//! Descriptors are kept here as well and never read back; what the device says of used chains is checked against
//! what is under way, so that whatever it writes, a chain ends once and no index leaves our tables. Interrupts
//! are wanted only while nobody looks ([`Queue::await_next`]). The rings lie as the legacy interface wants them,
//! which suits all.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering::SeqCst, fence};

use crate::Lie;

const PAGE: usize = 4096;

const NEXT: u16 = 1;
const WRITABLE: u16 = 2;
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

/// The end of a chain.
const LAST: u16 = u16::MAX;

/// The rings' memory, which the device reads and writes meanwhile. Offsets are aligned and lie within
/// [`Layout::length`]; each access is one of the processor's.
pub trait Memory {
    /// Reads, before everything that is read after it.
    fn half(&self, at: usize) -> u16;

    /// Reads, in any order.
    fn word(&self, at: usize) -> u32;

    /// Writes, after everything that was written before it.
    fn set_half(&mut self, at: usize, value: u16);

    /// Writes, in any order.
    fn set_long(&mut self, at: usize, value: u64);
}

/// A part of a chain: memory of ours, by its physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub address: u64,
    pub length: u32,
    /// The device writes it.
    pub writable: bool,
}

/// Where the parts of the rings' memory lie; descriptors are at its start.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub size: u16,
    pub available: usize,
    pub used: usize,
}

impl Layout {
    /// For so many descriptors, a power of two.
    pub fn new(size: u16) -> Self {
        let length = usize::from(size);
        Self { size, available: length * 16, used: (length * 16 + 6 + length * 2).next_multiple_of(PAGE) }
    }

    /// Bytes in all.
    pub fn length(self) -> usize {
        self.used + 6 + usize::from(self.size) * 8
    }

    fn slot(self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
    }

    /// Where each side says by index when it wants to hear from the other.
    fn used_event(self) -> usize {
        self.available + 4 + usize::from(self.size) * 2
    }

    fn available_event(self) -> usize {
        self.used + 4 + usize::from(self.size) * 8
    }
}

/// A chain under way.
#[derive(Clone, Copy)]
struct Chain {
    token: u32,
    /// Bytes that the device may write.
    writable: u32,
}

pub struct Queue<M> {
    memory: M,
    layout: Layout,
    /// Descriptors that are free, and for those in use the next of the chain.
    free: Vec<u16>,
    next: Vec<u16>,
    under_way: Vec<Option<Chain>>,
    available: u16,
    told: u16,
    seen: u16,
    by_index: bool,
}

/// There is no room for a chain now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<M: Memory> Queue<M> {
    /// A queue in memory that is zero; `by_index` if both sides tell each other by index when they want to
    /// hear (VIRTIO_F_EVENT_IDX).
    pub fn new(memory: M, layout: Layout, by_index: bool) -> Self {
        let length = usize::from(layout.size);
        Self {
            memory,
            layout,
            free: (0..layout.size).rev().collect(),
            next: vec![LAST; length],
            under_way: vec![None; length],
            available: 0,
            told: 0,
            seen: 0,
            by_index,
        }
    }

    pub fn memory(&self) -> &M {
        &self.memory
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    fn set_descriptor(&mut self, index: u16, part: Part, next: u16) {
        let more = next != LAST;
        let flags = (u16::from(more) * NEXT) | (u16::from(part.writable) * WRITABLE);
        let next = if more { next } else { 0 };
        let word = u64::from(part.length) | u64::from(flags) << 32 | u64::from(next) << 48;
        let at = usize::from(index) * 16;
        self.memory.set_long(at, part.address);
        self.memory.set_long(at + 8, word);
    }

    /// How many parts a chain may have now.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Offers a chain, which the device is told of after [`Queue::tell`].
    pub fn push(&mut self, parts: &[Part], token: u32) -> Result<(), Full> {
        if parts.is_empty() || parts.len() > self.free.len() {
            return Err(Full);
        }
        let (mut head, mut writable) = (LAST, 0u32);
        for part in parts.iter().rev() {
            let index = self.free.pop().ok_or(Full)?;
            self.set_descriptor(index, *part, head);
            self.next[usize::from(index)] = head;
            writable = writable.saturating_add(if part.writable { part.length } else { 0 });
            head = index;
        }
        self.under_way[usize::from(head)] = Some(Chain { token, writable });
        let slot = self.layout.slot(self.available);
        self.memory.set_half(self.layout.available + 4 + slot * 2, head);
        self.available = self.available.wrapping_add(1);
        self.memory.set_half(self.layout.available + 2, self.available);
        Ok(())
    }

    /// Whether the device wants to be told of what was pushed since it was told last.
    pub fn tell(&mut self) -> bool {
        let (old, new) = (self.told, self.available);
        if old == new {
            return false;
        }
        self.told = new;
        fence(SeqCst);
        if self.by_index {
            let event = self.memory.half(self.layout.available_event());
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.memory.half(self.layout.used) & NO_NOTIFY == 0
        }
    }

    /// Whether the device has used a chain.
    pub fn is_ready(&self) -> bool {
        self.memory.half(self.layout.used + 2) != self.seen
    }

    /// The next chain that the device has used: its token, and how many bytes were written. After a lie the
    /// queue is as it was.
    pub fn pop(&mut self) -> Result<Option<(u32, usize)>, Lie> {
        let ready = self.memory.half(self.layout.used + 2).wrapping_sub(self.seen);
        if ready == 0 {
            return Ok(None);
        }
        let entry = self.layout.used + 4 + self.layout.slot(self.seen) * 8;
        let (head, written) = (self.memory.word(entry), self.memory.word(entry + 4));
        let chain = match self.under_way.get_mut(head as usize) {
            Some(place) => match *place {
                Some(chain) if ready <= self.layout.size && written <= chain.writable => {
                    *place = None;
                    chain
                }
                _ => return Err(Lie::Chain { head, written }),
            },
            None => return Err(Lie::Chain { head, written }),
        };
        self.seen = self.seen.wrapping_add(1);
        // The tables have fewer than 2^16 places.
        let mut at = head as u16;
        while at != LAST {
            self.free.push(at);
            at = self.next[usize::from(at)];
        }
        Ok(Some((chain.token, written as usize)))
    }

    /// Wants an interrupt for the next chain that is used; false if one has been already.
    pub fn await_next(&mut self) -> bool {
        if self.by_index {
            self.memory.set_half(self.layout.used_event(), self.seen);
        } else {
            self.memory.set_half(self.layout.available, 0);
        }
        fence(SeqCst);
        !self.is_ready()
    }

    /// Wants no interrupts.
    pub fn look_away(&mut self) {
        if self.by_index {
            self.memory.set_half(self.layout.used_event(), self.seen.wrapping_sub(1));
        } else {
            self.memory.set_half(self.layout.available, NO_INTERRUPT);
        }
    }
}

#[cfg(test)]
pub mod tests;
