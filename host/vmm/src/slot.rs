//! The guest's memory as KVM knows it: pieces that are made known when the guest touches them.
//!
//! KVM keeps tables for every page that it knows of, which for all of a machine's memory costs more time than a
//! short service takes. So it is told of the first piece alone; an access to another one comes to us as one to
//! a device would, is done here, and makes the piece known. Invariant: what is known stays so, at one address.

use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::Error;
use crate::error::refused;
use crate::memory::Memory;

/// Bytes of a piece: small enough to cost next to nothing, large enough to be few.
const PIECE: u64 = 256 << 20;

/// The pieces.
pub struct Slots {
    vm: Arc<VmFd>,
    memory: Arc<Memory>,
    /// Where the known pieces begin, by their numbers.
    known: Mutex<Vec<u64>>,
}

/// Where an access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    Memory,
    /// There is none.
    Nothing,
}

impl Slots {
    /// Tells KVM of the first piece.
    pub fn new(vm: Arc<VmFd>, memory: Arc<Memory>) -> Result<Self, Error> {
        let slots = Self { vm, memory, known: Mutex::default() };
        slots.touch(0)?;
        Ok(slots)
    }

    /// The guest reads memory that KVM does not know yet.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<Touched, Error> {
        let touched = self.touch(address)?;
        if touched == Touched::Memory {
            // An access that crosses the end of memory reads nothing there.
            let _ = self.memory.read(bytes, GuestAddress(address));
        }
        Ok(touched)
    }

    /// The guest writes to memory that KVM does not know yet.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<Touched, Error> {
        let touched = self.touch(address)?;
        if touched == Touched::Memory {
            let _ = self.memory.write(bytes, GuestAddress(address));
        }
        Ok(touched)
    }

    /// Makes the piece around an address known.
    fn touch(&self, address: u64) -> Result<Touched, Error> {
        let Some(region) = self.memory.find_region(GuestAddress(address)) else {
            return Ok(Touched::Nothing);
        };
        let offset = (address - region.start_addr().0) / PIECE * PIECE;
        let start = region.start_addr().0 + offset;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Another CPU may have come first.
        if known.contains(&start) {
            return Ok(Touched::Memory);
        }
        let described = kvm_userspace_memory_region {
            slot: known.len() as u32,
            guest_phys_addr: start,
            memory_size: PIECE.min(region.len() - offset),
            userspace_addr: region.as_ptr() as u64 + offset,
            flags: 0,
        };
        // SAFETY: a part of the mapping, which lives as long as `memory`, kept beside the VM.
        unsafe { self.vm.set_user_memory_region(described) }.map_err(refused("the guest's memory"))?;
        known.push(start);
        Ok(Touched::Memory)
    }
}
