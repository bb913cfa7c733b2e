//! A bounded ring of bytes, and where its bytes come from and go to.
//!
//! Copies to and from user memory may fault half-way: what came through counts, a fault at the very
//! beginning is EFAULT. Memory is taken as needed, up to the capacity, and given back when a ring that
//! has grown large runs empty.

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{Machine, Space, UserRange};

use crate::errno::{Errno, Result};
use crate::thread::Thread;

/// Memory an empty ring keeps.
const KEPT: usize = 16 << 10;

/// Where bytes are written from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    User { machine: &'a dyn Machine, space: Space, ranges: &'a [UserRange] },
    Kernel(&'a [u8]),
}

/// Where bytes are read to.
pub enum Sink<'a> {
    User { machine: &'a dyn Machine, space: Space, ranges: &'a [UserRange] },
    Kernel(&'a mut [u8]),
}

/// Sum of ranges as a program claims them.
fn total(ranges: &[UserRange]) -> usize {
    ranges.iter().fold(0_u64, |sum, range| sum.saturating_add(range.length)) as usize
}

impl<'a> Source<'a> {
    pub fn user(thread: &'a Arc<Thread>, ranges: &'a [UserRange]) -> Self {
        Self::User { machine: &*thread.kernel().machine, space: thread.process.space(), ranges }
    }

    pub fn length(&self) -> usize {
        match self {
            Self::User { ranges, .. } => total(ranges),
            Self::Kernel(bytes) => bytes.len(),
        }
    }

    /// As the machine takes it.
    pub fn for_machine(&self) -> machine::Source<'_> {
        match self {
            Self::User { ranges, .. } => machine::Source::User(ranges),
            Self::Kernel(bytes) => machine::Source::Kernel(bytes),
        }
    }

    /// Copies from `skip` bytes behind the start on; returns the number of bytes copied.
    pub fn copy(&self, skip: usize, to: &mut [u8]) -> Result<usize> {
        match self {
            Self::User { machine, space, ranges } => {
                pieces(ranges, skip, to.len(), |address, from, until| {
                    Ok(machine.copy_in(*space, address, &mut to[from..until])?)
                })
            }
            Self::Kernel(bytes) => {
                let rest = bytes.get(skip..).unwrap_or(&[]);
                let count = rest.len().min(to.len());
                to[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
        }
    }

    /// All of it, in the library OS's memory. Longer than `limit` is EMSGSIZE.
    pub fn gather(&self, limit: usize) -> Result<Vec<u8>> {
        if self.length() > limit {
            return Err(Errno::EMSGSIZE);
        }
        self.gather_up_to(limit)
    }

    /// Copies the first bytes together.
    pub fn gather_up_to(&self, limit: usize) -> Result<Vec<u8>> {
        let length = self.length().min(limit);
        let mut bytes = alloc::vec![0; length];
        if self.copy(0, &mut bytes)? < length {
            return Err(Errno::EFAULT);
        }
        Ok(bytes)
    }
}

impl<'a> Sink<'a> {
    pub fn user(thread: &'a Arc<Thread>, ranges: &'a [UserRange]) -> Self {
        Self::User { machine: &*thread.kernel().machine, space: thread.process.space(), ranges }
    }

    pub fn length(&self) -> usize {
        match self {
            Self::User { ranges, .. } => total(ranges),
            Self::Kernel(bytes) => bytes.len(),
        }
    }

    /// The same sink, for an attempt that may come to nothing.
    pub fn again(&mut self) -> Sink<'_> {
        match self {
            Self::User { machine, space, ranges } => Sink::User { machine: *machine, space: *space, ranges },
            Self::Kernel(bytes) => Sink::Kernel(bytes),
        }
    }

    /// As the machine takes it.
    pub fn for_machine(&mut self) -> machine::Sink<'_> {
        match self {
            Self::User { ranges, .. } => machine::Sink::User(ranges),
            Self::Kernel(bytes) => machine::Sink::Kernel(bytes),
        }
    }

    /// Copies to `skip` bytes behind the start; returns the number of bytes copied.
    pub fn copy(&mut self, skip: usize, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::User { machine, space, ranges } => {
                pieces(ranges, skip, bytes.len(), |address, from, until| {
                    Ok(machine.copy_out(*space, &bytes[from..until], address)?)
                })
            }
            Self::Kernel(to) => {
                let rest = to.get_mut(skip..).unwrap_or(&mut []);
                let count = rest.len().min(bytes.len());
                rest[..count].copy_from_slice(&bytes[..count]);
                Ok(count)
            }
        }
    }
}

/// Runs `copy(address, from, until)` for each piece of `ranges`, from `skip` on, at most `length` bytes.
fn pieces(
    ranges: &[UserRange],
    skip: usize,
    length: usize,
    mut copy: impl FnMut(u64, usize, usize) -> Result<()>,
) -> Result<usize> {
    let mut skip = skip as u64;
    let mut done = 0;
    for range in ranges {
        if skip >= range.length {
            skip -= range.length;
            continue;
        }
        let count = (range.length - skip).min((length - done) as u64) as usize;
        if count == 0 {
            break;
        }
        match copy(range.address.wrapping_add(skip), done, done + count) {
            Ok(()) => done += count,
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
        skip = 0;
    }
    Ok(done)
}

/// A bounded ring of bytes.
pub struct Ring {
    data: Vec<u8>,
    head: usize,
    length: usize,
    capacity: usize,
}

impl Ring {
    pub const fn new(capacity: usize) -> Self {
        Self { data: Vec::new(), head: 0, length: 0, capacity }
    }

    pub fn length(&self) -> usize {
        self.length
    }
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
    pub fn free(&self) -> usize {
        self.capacity.saturating_sub(self.length)
    }
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets the capacity; what the ring holds already may exceed it.
    pub fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    /// Makes room for `more` bytes, which fit the capacity.
    fn grow(&mut self, more: usize) {
        let needed = self.length + more;
        if needed <= self.data.len() {
            return;
        }
        let size = needed.next_power_of_two().max(4096).min(self.capacity.max(needed));
        let mut data = alloc::vec![0; size];
        let (first, second) = self.held();
        data[..first.len()].copy_from_slice(first);
        data[first.len()..first.len() + second.len()].copy_from_slice(second);
        self.data = data;
        self.head = 0;
    }

    /// What the ring holds, in order.
    fn held(&self) -> (&[u8], &[u8]) {
        let until = self.head + self.length;
        if until <= self.data.len() {
            (&self.data[self.head..until], &[])
        } else {
            (&self.data[self.head..], &self.data[..until - self.data.len()])
        }
    }

    /// Puts bytes before the first; the ring may hold more than its capacity then.
    pub fn put_back(&mut self, bytes: &[u8]) {
        let (first, second) = self.held();
        let all = [bytes, first, second].concat();
        self.length = all.len();
        self.data = all;
        self.head = 0;
    }

    /// Adds as much of `from` as there is room for, at most `limit` bytes.
    pub fn fill(&mut self, from: &Source<'_>, limit: usize) -> Result<usize> {
        let wanted = from.length().min(self.free()).min(limit);
        if wanted == 0 {
            return Ok(0);
        }
        self.grow(wanted);
        let size = self.data.len();
        let tail = (self.head + self.length) % size;
        let first = wanted.min(size - tail);
        let mut done = from.copy(0, &mut self.data[tail..tail + first])?;
        if done == first && wanted > first {
            // The first part came through, so a fault in the second only shortens the transfer.
            done += from.copy(first, &mut self.data[..wanted - first]).unwrap_or(0);
        }
        self.length += done;
        Ok(done)
    }

    /// Copies from the start to `to` without removing, at most `limit` bytes.
    pub fn peek(&self, to: &mut Sink<'_>, limit: usize) -> Result<usize> {
        let (first, second) = self.held();
        let first = &first[..first.len().min(limit)];
        let second = &second[..second.len().min(limit - first.len())];
        let mut done = to.copy(0, first)?;
        if done == first.len() && !second.is_empty() {
            done += to.copy(done, second).unwrap_or(0);
        }
        Ok(done)
    }

    /// Moves bytes from the start to `to`, at most `limit`.
    pub fn drain(&mut self, to: &mut Sink<'_>, limit: usize) -> Result<usize> {
        let count = self.peek(to, limit)?;
        self.skip(count);
        Ok(count)
    }

    /// Drops bytes from the start.
    pub fn skip(&mut self, count: usize) {
        self.length -= count;
        if self.length > 0 {
            self.head = (self.head + count) % self.data.len();
        } else {
            self.head = 0;
            if self.data.len() > KEPT {
                self.data = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(ring: &mut Ring, bytes: &[u8]) -> usize {
        ring.fill(&Source::Kernel(bytes), usize::MAX).unwrap()
    }

    fn drain(ring: &mut Ring, length: usize) -> Vec<u8> {
        let mut bytes = alloc::vec![0; length];
        let count = ring.drain(&mut Sink::Kernel(&mut bytes), usize::MAX).unwrap();
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn keeps_order_around_the_end() {
        let mut ring = Ring::new(10_000);
        let bytes: Vec<u8> = (0..200_000_u32).map(|number| (number / 3) as u8).collect();
        let (mut written, mut read) = (0, Vec::new());
        while read.len() < bytes.len() {
            written += fill(&mut ring, &bytes[written..(written + 7001).min(bytes.len())]);
            assert!(ring.length() <= 10_000);
            read.extend(drain(&mut ring, 4999));
        }
        assert!(ring.is_empty() && read == bytes);
    }

    #[test]
    fn takes_what_fits_and_peeks_without_taking() {
        let mut ring = Ring::new(5);
        assert_eq!(fill(&mut ring, b"abcdefg"), 5);
        assert_eq!(fill(&mut ring, b"x"), 0);
        let mut seen = [0; 3];
        assert_eq!(ring.peek(&mut Sink::Kernel(&mut seen), usize::MAX).unwrap(), 3);
        assert_eq!((&seen, ring.length()), (b"abc", 5));
        assert_eq!(drain(&mut ring, 2), b"ab");
        assert_eq!(fill(&mut ring, b"12"), 2);
        assert_eq!(drain(&mut ring, 9), b"cde12");
    }
}
