//! virtio over memory-mapped registers, version 2 (virtio 1.2, 4.2.2).
//!
//! Registers are written by CPUs while the loop may run the device; the port's lock stands between. Writes
//! that the standard forbids are ignored, as on a device that has no room for mistakes.

use std::sync::atomic::Ordering;

use super::Description;
use super::port::{Port, State};
use super::ring::Layout;

const SIGNATURE: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
/// Tells our own guest that interrupts are pulses, which need no acknowledgement.
const VENDOR: u32 = u32::from_le_bytes(*b"EYOT");

const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;
const NEEDS_RESET: u32 = 0x40;

const INDIRECT: u64 = 1 << 28;
pub(super) const EVENT_INDEX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;

/// Where the configuration starts.
const CONFIGURATION: u64 = 0x100;

/// What registers hold.
pub struct Registers {
    id: u32,
    features: u64,
    pub configuration: Vec<u8>,
    accepted: u64,
    features_part: u32,
    accepted_part: u32,
    queue: u32,
    layouts: Vec<Layout>,
    status: u32,
}

impl Registers {
    pub fn new(description: Description) -> Self {
        Self {
            id: description.id,
            features: description.features | VERSION_1 | EVENT_INDEX | INDIRECT,
            configuration: description.configuration,
            accepted: 0,
            features_part: 0,
            accepted_part: 0,
            queue: 0,
            layouts: vec![Layout::default(); description.queues.len()],
            status: 0,
        }
    }

    pub fn features(&self) -> u64 {
        self.features
    }

    /// Notes the features that the driver has as well; whether we have all of them.
    pub fn accept(&mut self, features: u64) -> bool {
        self.accepted = features;
        features & !self.features == 0
    }

    /// The features that both sides have.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Notes that the device cannot go on before a reset; whether the driver does not know yet.
    pub fn break_off(&mut self) -> bool {
        let known = self.status & NEEDS_RESET != 0;
        self.status |= NEEDS_RESET;
        !known
    }
}

fn set_low(value: &mut u64, low: u32) {
    *value = *value & !0xffff_ffff | u64::from(low);
}

fn set_high(value: &mut u64, high: u32) {
    *value = *value & 0xffff_ffff | u64::from(high) << 32;
}

impl Port {
    /// A CPU reads at an offset into the registers.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        bytes.fill(0);
        let state = self.lock();
        if let Some(at) = offset.checked_sub(CONFIGURATION) {
            let from = state.registers.configuration.get(at as usize..).unwrap_or_default();
            bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            return;
        }
        if let Ok(bytes) = <&mut [u8; 4]>::try_from(bytes) {
            *bytes = self.register(&state, offset).to_le_bytes();
        }
    }

    fn register(&self, state: &State, offset: u64) -> u32 {
        let registers = &state.registers;
        let ring = state.rings.get(registers.queue as usize);
        match offset {
            0x00 => SIGNATURE,
            0x04 => VERSION,
            0x08 => registers.id,
            0x0c => VENDOR,
            0x10 => match registers.features_part {
                0 => registers.features as u32,
                1 => (registers.features >> 32) as u32,
                _ => 0,
            },
            0x34 => ring.map_or(0, |ring| ring.most().into()),
            0x44 => ring.is_some_and(|ring| ring.is_ready()).into(),
            0x60 => self.causes.load(Ordering::SeqCst),
            0x70 => registers.status,
            // No shared memory: all ones in length and base.
            0xb0..=0xbc => u32::MAX,
            // The configuration never changes while it is read: its generation is always zero.
            _ => 0,
        }
    }

    /// A CPU writes at an offset into the registers.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let state = &mut *self.lock();
        if let Some(at) = offset.checked_sub(CONFIGURATION) {
            let to = state.registers.configuration.get_mut(at as usize..).unwrap_or_default();
            to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            state.configured = true;
            return self.call();
        }
        let Ok(bytes) = <[u8; 4]>::try_from(bytes) else { return };
        let value = u32::from_le_bytes(bytes);
        match offset {
            0x14 => state.registers.features_part = value,
            0x24 => state.registers.accepted_part = value,
            0x20 if state.registers.status & FEATURES_OK == 0 => match state.registers.accepted_part {
                0 => set_low(&mut state.registers.accepted, value),
                1 => set_high(&mut state.registers.accepted, value),
                _ => {}
            },
            0x30 => state.registers.queue = value,
            0x64 => {
                self.causes.fetch_and(!value, Ordering::SeqCst);
            }
            // A bell that KVM has not rung itself.
            0x50 => {
                if let Some(bell) = self.doorbells.get(value as usize) {
                    let _ = bell.write(1);
                }
            }
            0x70 => self.set_status(state, value),
            _ => set_queue(state, offset, value),
        }
    }

    fn set_status(&self, state: &mut State, value: u32) {
        let registers = &mut state.registers;
        if value == 0 {
            state.rings.iter_mut().for_each(super::Ring::reset);
            registers.layouts.fill(Layout::default());
            (registers.accepted, registers.status, registers.queue) = (0, 0, 0);
            self.causes.store(0, Ordering::SeqCst);
            if std::mem::take(&mut state.active) {
                state.generation += 1;
                self.call();
            }
            return;
        }
        // Bits are only ever added, and the device's own is not the driver's to set.
        let mut added = value & !registers.status & !NEEDS_RESET;
        if added & FEATURES_OK != 0
            && (!registers.accept(registers.accepted) || registers.accepted & VERSION_1 == 0)
        {
            added &= !FEATURES_OK;
        }
        registers.status |= added;
        if added & DRIVER_OK != 0 && registers.status & FEATURES_OK != 0 {
            state.active = true;
            state.generation += 1;
            for ring in &mut state.rings {
                ring.set_event_index(registers.accepted & EVENT_INDEX != 0);
            }
            self.call();
        }
    }
}

fn set_queue(state: &mut State, offset: u64, value: u32) {
    let number = state.registers.queue as usize;
    let (Some(layout), Some(ring)) = (state.registers.layouts.get_mut(number), state.rings.get_mut(number))
    else {
        return;
    };
    if offset == 0x44 && value == 0 {
        return ring.end();
    }
    if ring.is_ready() || ring.is_broken() || state.active {
        return;
    }
    match offset {
        0x38 => layout.size = value,
        0x80 => set_low(&mut layout.descriptors, value),
        0x84 => set_high(&mut layout.descriptors, value),
        0x90 => set_low(&mut layout.available, value),
        0x94 => set_high(&mut layout.available, value),
        0xa0 => set_low(&mut layout.used, value),
        0xa4 => set_high(&mut layout.used, value),
        0x44 => ring.begin(*layout),
        _ => {}
    }
}
