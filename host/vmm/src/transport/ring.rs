//! One virtqueue, the device's side.
//!
//! Invariants: a chain is under way once, so there are never more than the queue is long; a guest that breaks
//! the queue's rules finds it [`Broken`], and nothing of it is looked at again before a reset.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueOwnedT, QueueT};

use super::chain::{Chain, Malformed};
use crate::memory::Memory;

/// The guest has broken the rules of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// What the driver says of a queue while it sets it up.
#[derive(Clone, Copy, Default)]
pub struct Layout {
    pub size: u32,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
}

/// A queue.
pub struct Ring {
    queue: Queue,
    memory: Arc<Memory>,
    /// Chains under way, by head.
    taken: Vec<bool>,
    /// What was available when somebody looked.
    seen: Option<u16>,
    broken: bool,
    /// Something was used since the guest was last considered to be told.
    untold: bool,
}

impl Ring {
    pub fn new(most: u16, memory: &Arc<Memory>) -> Self {
        let queue = Queue::new(most).expect("rule: a device's queues are powers of two");
        Self { queue, memory: memory.clone(), taken: Vec::new(), seen: None, broken: false, untold: false }
    }

    /// Where the queue lies from now on, and where its chains point to.
    pub fn set_memory(&mut self, memory: &Arc<Memory>) {
        self.memory = memory.clone();
    }

    pub fn most(&self) -> u16 {
        self.queue.max_size()
    }

    pub fn is_ready(&self) -> bool {
        self.queue.ready() && !self.broken
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub fn reset(&mut self) {
        self.queue.reset();
        self.taken.clear();
        (self.seen, self.broken, self.untold) = (None, false, false);
    }

    /// Makes the queue ready, if its layout can be.
    pub fn begin(&mut self, layout: Layout) {
        let address = vm_memory::GuestAddress;
        let laid = u16::try_from(layout.size).is_ok_and(|size| self.queue.try_set_size(size).is_ok())
            && self.queue.try_set_desc_table_address(address(layout.descriptors)).is_ok()
            && self.queue.try_set_avail_ring_address(address(layout.available)).is_ok()
            && self.queue.try_set_used_ring_address(address(layout.used)).is_ok();
        self.queue.set_ready(true);
        let ends =
            [layout.descriptors, layout.available, layout.used].map(|start| start.checked_add(1 << 20));
        if !laid || ends.contains(&None) || layout.available == 0 || !self.queue.is_valid(&*self.memory) {
            self.queue.set_ready(false);
            return;
        }
        self.taken = vec![false; usize::from(self.queue.size())];
    }

    /// Goes on with a queue that was used before, at the next chain that nobody has looked at.
    pub fn resume(&mut self, next: u16) -> Result<(), Broken> {
        let used = self.queue.used_idx(&*self.memory, Ordering::Acquire);
        let used = self.check(used)?.0;
        self.queue.set_next_used(used);
        self.queue.set_next_avail(next);
        Ok(())
    }

    /// The next chain that nobody has looked at.
    pub fn next(&self) -> u16 {
        self.queue.next_avail()
    }

    pub fn end(&mut self) {
        self.queue.set_ready(false);
    }

    pub fn set_event_index(&mut self, wanted: bool) {
        self.queue.set_event_idx(wanted);
    }

    fn check<T, E>(&mut self, result: Result<T, E>) -> Result<T, Broken> {
        result.map_err(|_| {
            self.broken = true;
            Broken
        })
    }

    /// Notes what is available now: [`Ring::pop`] takes no more than that until the next look.
    pub fn look(&mut self) -> Result<(), Broken> {
        if self.is_ready() {
            let index = self.queue.avail_idx(&*self.memory, Ordering::Acquire);
            self.seen = Some(self.check(index)?.0);
        }
        Ok(())
    }

    /// The next chain. One that is malformed is used at once, with nothing in it.
    pub fn pop(&mut self) -> Result<Option<Chain>, Broken> {
        loop {
            if !self.is_ready() || self.seen == Some(self.queue.next_avail()) {
                return Ok(None);
            }
            let memory = self.memory.clone();
            let next = match self.queue.iter(&*memory) {
                Ok(mut chains) => Ok(chains.next()),
                Err(error) => Err(error),
            };
            let Some(chain) = self.check(next)? else { return Ok(None) };
            let head = chain.head_index();
            match self.taken.get_mut(usize::from(head)) {
                Some(taken) if !*taken => *taken = true,
                _ => return self.check(Err(())),
            }
            match Chain::new(chain, &memory) {
                Ok(chain) => return Ok(Some(chain)),
                Err(Malformed) => self.used(head, 0)?,
            }
        }
    }

    /// Takes back that the last chain was popped.
    pub fn put_back(&mut self, head: u16) {
        self.queue.go_to_previous_position();
        self.taken[usize::from(head)] = false;
    }

    /// Gives a chain back, with so many bytes written.
    pub fn used(&mut self, head: u16, length: usize) -> Result<(), Broken> {
        match self.taken.get_mut(usize::from(head)) {
            Some(taken) if *taken && !self.broken => *taken = false,
            _ => return Err(Broken),
        }
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.untold = true;
        let added = self.queue.add_used(&*self.memory, head, length);
        self.check(added)
    }

    /// Whether the guest wants to be told of what was used.
    pub fn must_tell(&mut self) -> bool {
        std::mem::take(&mut self.untold)
            && !self.broken
            && self.queue.needs_notification(&*self.memory).unwrap_or(false)
    }

    /// The guest need not ring.
    pub fn hush(&mut self) {
        if self.is_ready() {
            let hushed = self.queue.disable_notification(&*self.memory);
            let _ = self.check(hushed);
        }
    }

    /// The guest is to ring for the next chain; true if there is one already.
    pub fn listen(&mut self) -> bool {
        if !self.is_ready() {
            return false;
        }
        self.seen = None;
        let more = self.queue.enable_notification(&*self.memory);
        self.check(more).unwrap_or(false)
    }
}
