//! Descriptor numbers of a process.
//!
//! A table is one process's as a rule; where processes share one (clone(2) with CLONE_FILES), each has a
//! reference to the common one, until it runs a new program.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::lock::Mutex;

use super::Description;
use crate::errno::{Errno, Result};

/// One descriptor: its open file and its close-on-exec flag.
#[derive(Clone)]
pub struct Slot {
    pub description: Arc<Description>,
    pub close_on_exec: bool,
}

type Slots = Vec<Option<Slot>>;

enum Kept {
    Own(Slots),
    Common(Arc<Mutex<Slots>>),
}

impl Default for Kept {
    fn default() -> Self {
        Self::Own(Slots::new())
    }
}

/// A process's descriptors.
#[derive(Default)]
pub struct Table(Mutex<Kept>);

impl Table {
    /// Looks at or changes the slots.
    fn with<T>(&self, act: impl FnOnce(&mut Slots) -> T) -> T {
        match &mut *self.0.lock() {
            Kept::Own(slots) => act(slots),
            Kept::Common(slots) => act(&mut slots.lock()),
        }
    }

    /// The same descriptors, for a process that goes its own way with them.
    pub fn copied(&self) -> Self {
        Self(Mutex::new(Kept::Own(self.with(|slots| slots.clone()))))
    }

    /// The same table, for a process that shares it from now on.
    pub fn shared(&self) -> Self {
        let mut kept = self.0.lock();
        let common = match &mut *kept {
            Kept::Own(slots) => Arc::new(Mutex::new(core::mem::take(slots))),
            Kept::Common(slots) => slots.clone(),
        };
        *kept = Kept::Common(common.clone());
        Self(Mutex::new(Kept::Common(common)))
    }

    /// Makes the table this process's alone.
    pub fn part(&self) {
        let mut kept = self.0.lock();
        if let Kept::Common(slots) = &*kept {
            let own = slots.lock().clone();
            *kept = Kept::Own(own);
        }
    }

    /// Empties the table of a process that ends; what nobody else shares.
    pub fn take_all(&self) -> Vec<Slot> {
        match core::mem::take(&mut *self.0.lock()) {
            Kept::Own(slots) => slots.into_iter().flatten().collect(),
            Kept::Common(_) => Vec::new(),
        }
    }

    /// An open file to be used; one opened with O_PATH cannot be.
    pub fn get(&self, number: u64) -> Result<Arc<Description>> {
        self.any(number).and_then(|description| description.usable().map(|()| description))
    }

    /// An open file, were it opened with O_PATH.
    pub fn any(&self, number: u64) -> Result<Arc<Description>> {
        self.with(|slots| match slots.get(number as u32 as usize) {
            Some(Some(slot)) => Ok(slot.description.clone()),
            _ => Err(Errno::EBADF),
        })
    }

    pub fn slot(&self, number: u64) -> Result<Slot> {
        self.with(|slots| slots.get(number as u32 as usize).cloned().flatten().ok_or(Errno::EBADF))
    }

    /// Gives the lowest free number not below `lowest`, and below `limit`.
    pub fn add(&self, slot: Slot, lowest: usize, limit: u64) -> Result<u64> {
        self.with(|slots| {
            let mut number = lowest;
            while slots.get(number).is_some_and(Option::is_some) {
                number += 1;
            }
            if number as u64 >= limit {
                return Err(Errno::EMFILE);
            }
            if number >= slots.len() {
                slots.resize(number + 1, None);
            }
            slots[number] = Some(slot);
            Ok(number as u64)
        })
    }

    /// EMFILE if no number below `limit` is free.
    pub fn has_room(&self, limit: u64) -> Result<()> {
        self.with(|slots| {
            let full = slots.len() as u64 >= limit && slots[..limit as usize].iter().all(Option::is_some);
            if full { Err(Errno::EMFILE) } else { Ok(()) }
        })
    }

    /// Puts a descriptor at a number; what was there is returned, to be closed outside the lock.
    pub fn replace(&self, number: u64, slot: Slot, limit: u64) -> Result<Option<Slot>> {
        if number >= limit {
            return Err(Errno::EBADF);
        }
        self.with(|slots| {
            let index = number as usize;
            if index >= slots.len() {
                slots.resize(index + 1, None);
            }
            Ok(slots[index].replace(slot))
        })
    }

    pub fn remove(&self, number: u64) -> Result<Slot> {
        self.with(|slots| slots.get_mut(number as u32 as usize).and_then(Option::take).ok_or(Errno::EBADF))
    }

    pub fn set_close_on_exec(&self, number: u64, close_on_exec: bool) -> Result<()> {
        self.with(|slots| match slots.get_mut(number as u32 as usize) {
            Some(Some(slot)) => {
                slot.close_on_exec = close_on_exec;
                Ok(())
            }
            _ => Err(Errno::EBADF),
        })
    }

    /// Numbers that the table has room for as Linux would have it: 64, or the next power of two above
    /// all numbers in use so far.
    pub fn room(&self) -> usize {
        self.with(|slots| slots.len().next_power_of_two().max(64))
    }

    /// Numbers in use.
    pub fn numbers(&self) -> Vec<u64> {
        let used = |(number, slot): (usize, &Option<Slot>)| slot.is_some().then_some(number as u64);
        self.with(|slots| slots.iter().enumerate().filter_map(used).collect())
    }

    /// Takes out what a new program must not inherit.
    pub fn take_close_on_exec(&self) -> Vec<Slot> {
        self.with(|slots| {
            slots.iter_mut().filter_map(|slot| slot.take_if(|slot| slot.close_on_exec)).collect()
        })
    }
}
