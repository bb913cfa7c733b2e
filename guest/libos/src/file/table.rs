//! Descriptor numbers of a process.

use alloc::sync::Arc;
use alloc::vec::Vec;

use spin::Mutex;

use super::Description;
use crate::errno::{Errno, Result};

/// One descriptor: its open file and its close-on-exec flag.
#[derive(Clone)]
pub struct Slot {
    pub description: Arc<Description>,
    pub close_on_exec: bool,
}

/// A process's descriptors.
#[derive(Default)]
pub struct Table(Mutex<Vec<Option<Slot>>>);

impl Table {
    /// An open file to be used; one opened with O_PATH cannot be.
    pub fn get(&self, number: u64) -> Result<Arc<Description>> {
        self.any(number).and_then(|description| description.usable().map(|()| description))
    }

    /// An open file, were it opened with O_PATH.
    pub fn any(&self, number: u64) -> Result<Arc<Description>> {
        let slots = self.0.lock();
        match slots.get(number as u32 as usize) {
            Some(Some(slot)) => Ok(slot.description.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    pub fn slot(&self, number: u64) -> Result<Slot> {
        self.0.lock().get(number as u32 as usize).cloned().flatten().ok_or(Errno::EBADF)
    }

    /// Gives the lowest free number not below `lowest`, and below `limit`.
    pub fn add(&self, slot: Slot, lowest: usize, limit: u64) -> Result<u64> {
        let mut slots = self.0.lock();
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
    }

    /// Puts a descriptor at a number; what was there is returned, to be closed outside the lock.
    pub fn replace(&self, number: u64, slot: Slot, limit: u64) -> Result<Option<Slot>> {
        if number >= limit {
            return Err(Errno::EBADF);
        }
        let mut slots = self.0.lock();
        let index = number as usize;
        if index >= slots.len() {
            slots.resize(index + 1, None);
        }
        Ok(slots[index].replace(slot))
    }

    pub fn remove(&self, number: u64) -> Result<Slot> {
        let mut slots = self.0.lock();
        slots.get_mut(number as u32 as usize).and_then(Option::take).ok_or(Errno::EBADF)
    }

    pub fn set_close_on_exec(&self, number: u64, close_on_exec: bool) -> Result<()> {
        match self.0.lock().get_mut(number as u32 as usize) {
            Some(Some(slot)) => {
                slot.close_on_exec = close_on_exec;
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// Numbers that the table has room for as Linux would have it: 64, or the next power of two above
    /// all numbers in use so far.
    pub fn room(&self) -> usize {
        self.0.lock().len().next_power_of_two().max(64)
    }

    /// Numbers in use.
    pub fn numbers(&self) -> Vec<u64> {
        let slots = self.0.lock();
        slots.iter().enumerate().filter(|(_, slot)| slot.is_some()).map(|(number, _)| number as u64).collect()
    }

    /// Takes out what a new program must not inherit.
    pub fn take_close_on_exec(&self) -> Vec<Slot> {
        let mut slots = self.0.lock();
        slots.iter_mut().filter_map(|slot| slot.take_if(|slot| slot.close_on_exec)).collect()
    }
}
