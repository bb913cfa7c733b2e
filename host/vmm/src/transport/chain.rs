//! A chain of descriptors, judged: what the guest lends for one operation.
//!
//! Invariants: every part lies in guest memory as a whole, and what is read precedes what is written, as the
//! standard wants. A part is never a Rust reference: the guest may write it at any time. What is taken out of
//! a part is copied once and judged afterwards.

use std::sync::Arc;

use smallvec::SmallVec;
use virtio_queue::DescriptorChain;
use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::memory::Memory;

/// Parts in one chain (Linux's UIO_MAXIOV, so that one call takes them all).
const MOST: usize = 1024;

/// As many parts as most chains have need no memory of their own.
const FEW: usize = 2;

/// Memory of the guest's, in parts.
#[derive(Clone)]
pub struct Parts {
    list: SmallVec<[libc::iovec; FEW]>,
    /// How many parts at the front are used up.
    past: usize,
    /// Keeps what the parts point into.
    _memory: Arc<Memory>,
}

// SAFETY: the pointers are to memory that `_memory` keeps mapped, and every access copies as if another thread
// wrote meanwhile, which the guest may do anyway.
unsafe impl Send for Parts {}

impl Parts {
    fn new(memory: &Arc<Memory>) -> Self {
        Self { list: SmallVec::new(), past: 0, _memory: memory.clone() }
    }

    /// A range of guest memory, if all of it is there.
    pub fn whole(memory: &Arc<Memory>, address: u64, length: u64) -> Option<Self> {
        let mut parts = Self::new(memory);
        let slice = memory.get_slice(GuestAddress(address), usize::try_from(length).ok()?).ok()?;
        parts.push(&slice);
        Some(parts)
    }

    fn push(&mut self, slice: &VolatileSlice<'_>) {
        let guard = slice.ptr_guard_mut();
        self.list.push(libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() });
    }

    /// For a system call that transfers.
    pub fn list(&self) -> &[libc::iovec] {
        &self.list[self.past..]
    }

    pub fn length(&self) -> usize {
        self.list().iter().map(|part| part.iov_len).sum()
    }

    /// Leaves the first bytes out.
    pub fn skip(&mut self, mut length: usize) {
        while let Some(part) = self.list.get_mut(self.past) {
            if length < part.iov_len {
                part.iov_base = part.iov_base.wrapping_byte_add(length);
                part.iov_len -= length;
                return;
            }
            length -= part.iov_len;
            self.past += 1;
        }
    }

    /// Leaves everything but the first bytes out.
    pub fn truncate(&mut self, mut length: usize) {
        for at in self.past..self.list.len() {
            let part = &mut self.list[at];
            if length <= part.iov_len {
                part.iov_len = length;
                self.list.truncate(if length == 0 { at } else { at + 1 });
                return;
            }
            length -= part.iov_len;
        }
    }

    /// Copies the first bytes out; how many there were.
    pub fn read(&self, to: &mut [u8]) -> usize {
        self.copy(to.len(), |part, done| {
            // SAFETY: the part is mapped, `copy` keeps within both.
            unsafe {
                part.iov_base.cast::<u8>().copy_to_nonoverlapping(to[done..].as_mut_ptr(), part.iov_len)
            }
        })
    }

    /// Copies into the first bytes; how many there was room for.
    pub fn write(&self, from: &[u8]) -> usize {
        self.copy(from.len(), |part, done| {
            // SAFETY: as in `read`.
            unsafe {
                part.iov_base.cast::<u8>().copy_from_nonoverlapping(from[done..].as_ptr(), part.iov_len)
            }
        })
    }

    fn copy(&self, length: usize, mut one: impl FnMut(libc::iovec, usize)) -> usize {
        let mut done = 0;
        for part in self.list() {
            let count = part.iov_len.min(length - done);
            one(libc::iovec { iov_base: part.iov_base, iov_len: count }, done);
            done += count;
        }
        done
    }

    /// Copies everything out.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length()];
        self.read(&mut bytes);
        bytes
    }
}

/// A chain.
pub struct Chain {
    pub head: u16,
    pub readable: Parts,
    pub writable: Parts,
}

/// A chain whose parts make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Chain {
    /// Takes the parts of a chain.
    pub fn new(chain: DescriptorChain<&Memory>, memory: &Arc<Memory>) -> Result<Self, Malformed> {
        let head = chain.head_index();
        let (mut readable, mut writable) = (Parts::new(memory), Parts::new(memory));
        for (number, descriptor) in chain.enumerate() {
            let to = if descriptor.is_write_only() { &mut writable } else { &mut readable };
            if number >= MOST {
                return Err(Malformed);
            }
            if descriptor.len() == 0 {
                continue;
            }
            let slice =
                memory.get_slice(descriptor.addr(), descriptor.len() as usize).map_err(|_| Malformed)?;
            to.push(&slice);
            if !descriptor.is_write_only() && !writable.list.is_empty() {
                return Err(Malformed);
            }
        }
        Ok(Self { head, readable, writable })
    }
}
