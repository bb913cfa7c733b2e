//! A device's port: its registers' state and its queues, shared by those who touch them.
//!
//! CPUs write registers, the loop's thread runs the device, threads that waited for a disk give chains back.
//! Each takes the lock for as long; none waits for anything while it holds it. A reset begins a new
//! generation: chains of an older one are not given back any more.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::mmio::Registers;
use super::{Broken, Description, Device, Ring};
use crate::memory::Memory;
use crate::outside::Outside;
use crate::sleep::Sleepers;

/// Interrupt causes (virtio 1.2, 4.2.2).
pub const USED: u32 = 1;
pub const CONFIGURATION: u32 = 2;

/// A device's port.
pub struct Port {
    state: Mutex<State>,
    /// One for each queue, rung by KVM.
    pub doorbells: Vec<EventFd>,
    /// Becomes an interrupt, unless CPUs wait for devices here.
    pub interrupt: EventFd,
    sleepers: OnceLock<Arc<Sleepers>>,
    /// Causes that the driver has not acknowledged.
    pub causes: AtomicU32,
    /// Calls the loop.
    call: Arc<EventFd>,
}

/// What the lock holds.
pub struct State {
    pub registers: Registers,
    pub rings: Vec<Ring>,
    pub generation: u64,
    /// The driver has said that the device may run.
    pub active: bool,
    /// The driver wrote to the configuration.
    pub configured: bool,
    /// Who is told of a queue's chains in place of the interrupt: a front end gives each queue its own.
    pub calls: Vec<Option<File>>,
}

/// The right to give a chain back later.
pub struct Ticket {
    port: Arc<Port>,
    generation: u64,
    queue: usize,
    head: u16,
}

impl Ticket {
    /// Gives the chain back.
    pub fn used(self, length: usize) {
        let mut state = self.port.lock();
        if state.generation == self.generation {
            let used = state.rings[self.queue].used(self.head, length);
            self.port.settle(&mut state, used.map(|()| true));
        }
    }
}

impl Port {
    pub fn new(
        description: Description,
        memory: &Arc<Memory>,
        call: &Arc<EventFd>,
    ) -> std::io::Result<Arc<Self>> {
        let counter = || EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK);
        let calls = description.queues.iter().map(|_| None).collect();
        let rings: Vec<_> = description.queues.iter().map(|most| Ring::new(*most, memory)).collect();
        let doorbells = description.queues.iter().map(|_| counter()).collect::<Result<_, _>>()?;
        let state = State {
            rings,
            registers: Registers::new(description),
            generation: 0,
            active: false,
            configured: false,
            calls,
        };
        Ok(Arc::new(Self {
            state: Mutex::new(state),
            doorbells,
            interrupt: counter()?,
            sleepers: OnceLock::new(),
            causes: AtomicU32::new(0),
            call: call.clone(),
        }))
    }

    /// CPUs wait there for what this device has to say.
    pub fn heard_at(&self, sleepers: &Arc<Sleepers>) {
        // A port is plugged in once.
        let _ = self.sleepers.set(sleepers.clone());
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the loop's thread, because registers have changed.
    pub fn call(&self) {
        // It is full only if nobody has heard the last 2^64 calls.
        let _ = self.call.write(1);
    }

    pub fn ticket(self: &Arc<Self>, generation: u64, queue: usize, head: u16) -> Ticket {
        Ticket { port: self.clone(), generation, queue, head }
    }

    pub fn interrupt(&self, cause: u32) {
        self.causes.fetch_or(cause, Ordering::SeqCst);
        if !self.sleepers.get().is_some_and(|sleepers| sleepers.tell()) {
            let _ = self.interrupt.write(1);
        }
    }

    /// Tells the driver what it is to know after something was done.
    pub fn settle(&self, state: &mut State, done: Result<bool, Broken>) -> bool {
        if done.is_err() && state.registers.break_off() {
            self.interrupt(CONFIGURATION);
        }
        let mut tell = false;
        for (ring, call) in state.rings.iter_mut().zip(&state.calls) {
            if ring.must_tell() {
                match call.as_ref() {
                    // It is full only if the last 2^64 calls were not heard.
                    Some(mut call) => _ = call.write(&1u64.to_ne_bytes()),
                    None => tell = true,
                }
            }
        }
        if tell {
            self.interrupt(USED);
        }
        done.unwrap_or(true)
    }

    /// Notes what is available in all queues.
    pub fn look(&self) {
        let state = &mut *self.lock();
        if state.active {
            let looked = state.rings.iter_mut().try_for_each(Ring::look);
            self.settle(state, looked.map(|()| false));
        }
    }

    /// Runs the device on everything that is available, or was at the last look.
    pub fn process(&self, device: &mut dyn Device, generation: &mut u64, outside: &mut Outside) -> bool {
        let state = &mut *self.lock();
        if *generation != state.generation {
            *generation = state.generation;
            device.activate(state.registers.accepted(), state.generation, outside);
        }
        if std::mem::take(&mut state.configured) {
            device.configured(&state.registers.configuration);
        }
        if !state.active {
            return false;
        }
        let mut done = Ok(false);
        for queue in 0..state.rings.len() {
            done = done.and_then(|done| Ok(device.process(queue, &mut state.rings, outside)? | done));
        }
        self.settle(state, done)
    }

    /// The guest need not ring, because somebody looks.
    pub fn hush(&self) {
        self.lock().rings.iter_mut().for_each(Ring::hush);
    }

    /// The guest is to ring; true if it need not, because there is something already.
    pub fn listen(&self, device: &dyn Device) -> bool {
        let state = &mut *self.lock();
        let mut any = false;
        if state.active {
            for (queue, ring) in state.rings.iter_mut().enumerate() {
                any |= device.listens(queue) && ring.listen();
            }
        }
        any
    }
}
