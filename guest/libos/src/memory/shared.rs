//! What processes that share an address space share of it: the machine's space, and the map of it.
//!
//! Mostly one process has it. A child made by vfork(2) runs in its parent's until it executes a program or
//! ends. Whoever leaves last has the machine end the space; the first space stays, empty, because the machine
//! needs it.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::lock::{Mutex, MutexGuard};
use alloc::sync::Arc;
use machine::{Cpu, Machine, Space};

use super::AddressSpace;
use crate::errno::Result;

/// One address space.
pub struct Memory {
    pub space: Space,
    map: Mutex<AddressSpace>,
    /// Processes that have it.
    users: AtomicU32,
}

impl Memory {
    /// The first one.
    pub fn first(machine: &dyn Machine) -> Arc<Self> {
        Self::with(Space::FIRST, AddressSpace::new(machine.user_end()))
    }

    /// What a process has that runs nothing.
    pub fn none(machine: &dyn Machine) -> Arc<Self> {
        let none = Self::first(machine);
        none.users.store(0, Ordering::SeqCst);
        none
    }

    /// A new, empty one.
    pub fn new(machine: &dyn Machine, cpu: Cpu) -> Result<Arc<Self>> {
        let space = machine.make_space(cpu)?;
        Ok(Self::with(space, AddressSpace::new(machine.user_end())))
    }

    fn with(space: Space, map: AddressSpace) -> Arc<Self> {
        Arc::new(Self { space, map: Mutex::new(map), users: AtomicU32::new(1) })
    }

    pub fn lock(&self) -> MutexGuard<'_, AddressSpace> {
        self.map.lock()
    }

    /// A copy for a new process; this one is the CPU's active one.
    pub fn copied(&self, machine: &dyn Machine, cpu: Cpu) -> Result<Arc<Self>> {
        let map = self.lock();
        let space = machine.copy_space(cpu)?;
        Ok(Self::with(space, map.inherited()))
    }

    /// One more process has it.
    pub fn share(self: &Arc<Self>) -> Arc<Self> {
        self.users.fetch_add(1, Ordering::SeqCst);
        self.clone()
    }

    /// Keeps it for a while for somebody who is not of the process, until [`Memory::leave`]; false if it is
    /// nobody's any more.
    pub fn hold(&self) -> bool {
        let more = |users: u32| users.checked_add(1).filter(|_| users > 0);
        self.users.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    pub fn is_shared(&self) -> bool {
        self.users.load(Ordering::SeqCst) > 1
    }

    /// A process does not need it any more. If it was the last one, the CPU has another space active
    /// afterwards. The CPU's context is complete.
    pub fn leave(&self, machine: &dyn Machine, cpu: Cpu) {
        if self.users.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        if self.space == Space::FIRST {
            machine.activate(cpu, self.space);
            self.lock().clear(machine, self.space);
        } else {
            *self.lock() = AddressSpace::new(machine.user_end());
            machine.drop_space(cpu, self.space);
        }
    }
}
