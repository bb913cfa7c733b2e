//! Queues that were lent, and what is known of them.
//!
//! Memory must be a file that cannot shrink: a look behind a file's end would be the end of this process.
//! Addresses are the front end's own; they are translated, and then judged as those of a register. A queue
//! begins when it has all it needs, and the device with the first. Chains under way keep the memory they lie in.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vhost::vhost_user::{Error, Result};
use vm_memory::{FileOffset, GuestAddress};

use super::super::Port;
use super::super::mmio::EVENT_INDEX;
use super::super::port::State;
use super::super::ring::Layout;
use crate::memory::Memory;
use crate::outside::Ear;

/// A device's queues.
pub struct Lent {
    port: Arc<Port>,
    ear: Ear,
    /// The front end's number, for its bells.
    number: u32,
    regions: Vec<Region>,
    queues: Vec<Queue>,
}

/// Where the front end has a part of the guest's memory.
struct Region {
    theirs: u64,
    length: u64,
    guest: u64,
}

/// Where a queue lies, in the front end's memory.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// What was said of a queue.
#[derive(Default)]
struct Queue {
    size: u32,
    addresses: Option<Addresses>,
    next: u16,
    bell: Option<File>,
    enabled: bool,
}

impl Lent {
    pub fn new(port: Arc<Port>, ear: Ear, number: u32) -> Self {
        let queues = port.lock().rings.iter().map(|_| Queue::default()).collect();
        Self { port, ear, number, regions: Vec::new(), queues }
    }

    pub fn count(&self) -> usize {
        self.queues.len()
    }

    pub fn features(&self) -> u64 {
        self.port.lock().registers.features()
    }

    pub fn configuration(&self, offset: usize, length: usize) -> Option<Vec<u8>> {
        let state = self.port.lock();
        Some(state.registers.configuration.get(offset..offset.checked_add(length)?)?.to_vec())
    }

    /// The features that the driver has as well; without the transport's own, queues are enabled from the start.
    pub fn accept(&mut self, features: u64, begin_disabled: bool) -> Result<()> {
        let mut state = self.port.lock();
        if !state.registers.accept(features) {
            return Err(Error::InvalidParam);
        }
        for ring in &mut state.rings {
            ring.set_event_index(features & EVENT_INDEX != 0);
        }
        if !begin_disabled {
            self.queues.iter_mut().for_each(|queue| queue.enabled = true);
        }
        Ok(())
    }

    /// The guest's memory, from the next chain on.
    pub fn set_memory(&mut self, regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<()> {
        let mut ranges = Vec::new();
        for (region, file) in regions.iter().zip(files) {
            let seals = fcntl_get_seals(&file).map_err(|_| Error::IncorrectFds)?;
            let end = region.mmap_offset.checked_add(region.memory_size).ok_or(Error::InvalidParam)?;
            let length = fstat(&file).map_err(|_| Error::IncorrectFds)?.st_size;
            if !seals.contains(SealFlags::SHRINK) || end > length as u64 {
                return Err(Error::IncorrectFds);
            }
            let size = usize::try_from(region.memory_size).map_err(|_| Error::InvalidParam)?;
            let file = FileOffset::new(file, region.mmap_offset);
            ranges.push((GuestAddress(region.guest_phys_addr), size, Some(file)));
        }
        ranges.sort_by_key(|(start, ..)| *start);
        let memory = Memory::from_ranges_with_files(&ranges).map_err(|_| Error::InvalidParam)?;
        let memory = Arc::new(memory);
        self.regions = regions.iter().map(Region::new).collect();
        let mut state = self.port.lock();
        state.rings.iter_mut().for_each(|ring| ring.set_memory(&memory));
        Ok(())
    }

    fn queue(&mut self, index: u16) -> Result<&mut Queue> {
        self.queues.get_mut(usize::from(index)).ok_or(Error::InvalidParam)
    }

    pub fn set_size(&mut self, index: u16, size: u32) -> Result<()> {
        self.queue(index)?.size = size;
        Ok(())
    }

    pub fn set_addresses(&mut self, index: u16, addresses: Addresses) -> Result<()> {
        self.queue(index)?.addresses = Some(addresses);
        Ok(())
    }

    pub fn set_next(&mut self, index: u16, next: u16) -> Result<()> {
        self.queue(index)?.next = next;
        Ok(())
    }

    /// Who is told of chains that were used.
    pub fn set_call(&mut self, index: u16, call: Option<File>) -> Result<()> {
        let mut state = self.port.lock();
        *state.calls.get_mut(usize::from(index)).ok_or(Error::InvalidParam)? = call;
        Ok(())
    }

    /// What rings when there are new chains. Without one the queue would have to be looked at all the time.
    pub fn set_bell(&mut self, index: u16, bell: Option<File>) -> Result<()> {
        let bell = bell.ok_or(Error::InvalidOperation("queues without a bell"))?;
        self.take_down(index)?;
        self.ear.hear(&bell, self.number).map_err(|_| Error::IncorrectFds)?;
        self.queue(index)?.bell = Some(bell);
        self.begin(index)
    }

    fn take_down(&mut self, index: u16) -> Result<()> {
        if let Some(bell) = self.queue(index)?.bell.take() {
            self.ear.ignore(&bell);
        }
        Ok(())
    }

    pub fn enable(&mut self, index: u16, enable: bool) -> Result<()> {
        self.queue(index)?.enabled = enable;
        if enable { self.begin(index) } else { self.end(index).map(drop) }
    }

    /// Begins a queue that has all it needs.
    fn begin(&mut self, index: u16) -> Result<()> {
        let queue = self.queue(index)?;
        let (next, size) = (queue.next, queue.size);
        let (Some(addresses), Some(_), true) = (queue.addresses, &queue.bell, queue.enabled) else {
            return Ok(());
        };
        let layout = Layout {
            size,
            descriptors: self.translate(addresses.descriptors)?,
            available: self.translate(addresses.available)?,
            used: self.translate(addresses.used)?,
        };
        let state = &mut *self.port.lock();
        let ring = state.rings.get_mut(usize::from(index)).ok_or(Error::InvalidParam)?;
        if ring.is_ready() {
            return Ok(());
        }
        ring.begin(layout);
        if !ring.is_ready() || ring.resume(next).is_err() {
            return Err(Error::InvalidParam);
        }
        if !std::mem::replace(&mut state.active, true) {
            state.generation += 1;
        }
        self.port.call();
        Ok(())
    }

    /// Ends a queue; the next chain that nobody has looked at.
    pub fn end(&mut self, index: u16) -> Result<u16> {
        self.take_down(index)?;
        let state = &mut *self.port.lock();
        let ring = state.rings.get_mut(usize::from(index)).ok_or(Error::InvalidParam)?;
        let queue = self.queues.get_mut(usize::from(index)).ok_or(Error::InvalidParam)?;
        if ring.is_ready() || ring.is_broken() {
            queue.next = ring.next();
        }
        ring.reset();
        stop(state);
        Ok(queue.next)
    }

    pub fn end_all(&mut self) {
        for index in 0..self.queues.len() {
            // All of these are there.
            let _ = self.end(index as u16);
        }
    }

    fn translate(&self, theirs: u64) -> Result<u64> {
        let inside = |region: &Region| {
            let offset = theirs.checked_sub(region.theirs)?;
            (offset < region.length).then(|| region.guest + offset)
        };
        self.regions.iter().find_map(inside).ok_or(Error::InvalidParam)
    }
}

/// The device ends with its last queue: chains under way find nobody.
fn stop(state: &mut State) {
    if state.active && !state.rings.iter().any(super::super::Ring::is_ready) {
        state.active = false;
        state.generation += 1;
    }
}

impl Region {
    fn new(region: &VhostUserMemoryRegion) -> Self {
        Self { theirs: region.user_addr, length: region.memory_size, guest: region.guest_phys_addr }
    }
}
