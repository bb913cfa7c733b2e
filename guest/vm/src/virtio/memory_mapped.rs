//! virtio over memory-mapped registers, version 2 and the legacy one (virtio 1.2, 4.2).

use alloc::boxed::Box;

use super::queue::{Doorbell, Rings};
use super::{Transport, Unusable};
use crate::memory::map;

const MAGIC: u64 = 0;
const VERSION: u64 = 4;
const KIND: u64 = 8;
const VENDOR: u64 = 0xc;
const FEATURES: u64 = 0x10;
const FEATURES_PART: u64 = 0x14;
const ACCEPTED: u64 = 0x20;
const ACCEPTED_PART: u64 = 0x24;
const PAGE_SIZE: u64 = 0x28;
const QUEUE: u64 = 0x30;
const QUEUE_LONGEST: u64 = 0x34;
const QUEUE_LENGTH: u64 = 0x38;
const QUEUE_ALIGNMENT: u64 = 0x3c;
const QUEUE_PAGE: u64 = 0x40;
const QUEUE_READY: u64 = 0x44;
const NOTIFY: u64 = 0x50;
const INTERRUPT: u64 = 0x60;
const INTERRUPT_TAKEN: u64 = 0x64;
const STATUS: u64 = 0x70;
const QUEUE_DESCRIPTORS: u64 = 0x80;
const QUEUE_AVAILABLE: u64 = 0x90;
const QUEUE_USED: u64 = 0xa0;
const CONFIGURATION: u64 = 0x100;

const SIGNATURE: u32 = u32::from_le_bytes(*b"virt");
/// Our own VMM: its interrupts are pulses, which need no answer.
const EYOT: u32 = u32::from_le_bytes(*b"EYOT");
const PAGE: u32 = 4096;

pub struct MemoryMapped {
    registers: u64,
    legacy: bool,
    pulses: bool,
}

impl MemoryMapped {
    /// The device at a physical address, if there is one.
    pub fn find(address: u64, length: u64) -> Result<Option<Box<dyn Transport>>, Unusable> {
        let registers = map::device(address, length).map_err(|_| Unusable("there is no memory for it"))?;
        let mut device = Self { registers, legacy: false, pulses: false };
        if device.read(MAGIC) != SIGNATURE || device.read(KIND) == 0 {
            return Ok(None);
        }
        device.legacy = match device.read(VERSION) {
            1 => true,
            2 => false,
            _ => return Err(Unusable("its registers are of an unknown version")),
        };
        device.pulses = device.read(VENDOR) == EYOT;
        if device.legacy {
            device.write(PAGE_SIZE, PAGE);
        }
        Ok(Some(Box::new(device)))
    }

    fn read(&self, register: u64) -> u32 {
        // SAFETY: a register of the device's page, which is mapped for ever.
        unsafe { ((self.registers + register) as *const u32).read_volatile() }
    }

    fn write(&self, register: u64, value: u32) {
        // SAFETY: as in `read`.
        unsafe { ((self.registers + register) as *mut u32).write_volatile(value) };
    }

    fn write_wide(&self, register: u64, value: u64) {
        self.write(register, value as u32);
        self.write(register + 4, (value >> 32) as u32);
    }
}

impl Transport for MemoryMapped {
    fn kind(&self) -> u32 {
        self.read(KIND)
    }

    fn status(&self) -> u8 {
        self.read(STATUS) as u8
    }

    fn set_status(&self, status: u8) {
        self.write(STATUS, status.into());
    }

    fn features(&self) -> u64 {
        let part = |part: u32| {
            self.write(FEATURES_PART, part);
            u64::from(self.read(FEATURES))
        };
        if self.legacy { part(0) } else { part(0) | part(1) << 32 }
    }

    fn accept(&self, features: u64) {
        for part in 0..if self.legacy { 1 } else { 2 } {
            self.write(ACCEPTED_PART, part);
            self.write(ACCEPTED, (features >> (32 * part)) as u32);
        }
    }

    fn is_modern(&self) -> bool {
        !self.legacy
    }

    fn longest(&self, queue: u16) -> u16 {
        self.write(QUEUE, queue.into());
        self.read(QUEUE_LONGEST).min(1 << 15) as u16
    }

    fn set_queue(&self, queue: u16, rings: Rings) {
        self.write(QUEUE, queue.into());
        self.write(QUEUE_LENGTH, rings.size.into());
        if self.legacy {
            self.write(QUEUE_ALIGNMENT, PAGE);
            self.write(QUEUE_PAGE, (rings.descriptors / u64::from(PAGE)) as u32);
        } else {
            self.write_wide(QUEUE_DESCRIPTORS, rings.descriptors);
            self.write_wide(QUEUE_AVAILABLE, rings.available);
            self.write_wide(QUEUE_USED, rings.used);
            self.write(QUEUE_READY, 1);
        }
    }

    fn doorbell(&self, queue: u16) -> Option<Doorbell> {
        Some(Doorbell { register: self.registers + NOTIFY, value: queue, narrow: false })
    }

    fn configuration(&self, offset: u16) -> u8 {
        // SAFETY: as in `read`; the configuration follows the registers, in the same page.
        unsafe { ((self.registers + CONFIGURATION + u64::from(offset)) as *const u8).read_volatile() }
    }

    fn acknowledge(&self) {
        if !self.pulses {
            let taken = self.read(INTERRUPT);
            if taken != 0 {
                self.write(INTERRUPT_TAKEN, taken);
            }
        }
    }
}
