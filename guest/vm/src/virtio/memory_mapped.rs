//! virtio over memory-mapped registers, version 2 and the legacy one (virtio 1.2, 4.2).

use alloc::boxed::Box;

use super::queue::{Doorbell, Rings};
use super::register::Bank;
use super::{Registers, Transport, Unusable, status};

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
/// Our own VMM: its interrupts are pulses, which need no answer, and it takes accesses by the list.
const EYOT: u32 = u32::from_le_bytes(*b"EYOT");
const PAGE: u32 = 4096;

pub struct MemoryMapped {
    registers: Bank,
    kind: u32,
    legacy: bool,
    pulses: bool,
}

impl MemoryMapped {
    /// The device at a physical address, if there is one: its type, and its registers if they can be used.
    pub fn find(address: u64, length: u64) -> Option<(u32, Registers)> {
        let mut registers = match Bank::map(address, length) {
            Ok(registers) => registers,
            Err(unusable) => return Some((0, Err(unusable))),
        };
        let ours = registers.read(VENDOR) == EYOT;
        if ours {
            registers.list(address);
        }
        let [signature, version, kind] =
            registers.read_all([MAGIC, VERSION, KIND].map(|register| (None, register)));
        if signature != SIGNATURE || kind == 0 {
            return None;
        }
        let legacy = match version {
            1 => true,
            2 => false,
            _ => return Some((kind, Err(Unusable("its registers are of an unknown version")))),
        };
        let device = Self { registers, kind, legacy, pulses: ours };
        if device.legacy {
            device.registers.write(PAGE_SIZE, PAGE);
        }
        Some((kind, Ok(Box::new(device))))
    }
}

impl Transport for MemoryMapped {
    fn kind(&self) -> u32 {
        self.kind
    }

    fn status(&self) -> u8 {
        self.registers.read(STATUS) as u8
    }

    fn set_status(&self, status: u8) {
        self.registers.write(STATUS, status.into());
        if status & status::READY != 0 {
            self.registers.settle();
        }
    }

    fn features(&self) -> u64 {
        let part = |part: u32| (Some((FEATURES_PART, part)), FEATURES);
        if self.legacy {
            return self.registers.read_all([part(0)])[0].into();
        }
        let [low, high] = self.registers.read_all([part(0), part(1)]);
        u64::from(low) | u64::from(high) << 32
    }

    fn accept(&self, features: u64) {
        for part in 0..if self.legacy { 1 } else { 2 } {
            self.registers.write(ACCEPTED_PART, part);
            self.registers.write(ACCEPTED, (features >> (32 * part)) as u32);
        }
    }

    fn is_modern(&self) -> bool {
        !self.legacy
    }

    fn longest(&self, queue: u16) -> u16 {
        let [longest] = self.registers.read_all([(Some((QUEUE, queue.into())), QUEUE_LONGEST)]);
        longest.min(1 << 15) as u16
    }

    fn set_queue(&self, queue: u16, rings: Rings) {
        self.registers.write(QUEUE, queue.into());
        self.registers.write(QUEUE_LENGTH, rings.size.into());
        if self.legacy {
            self.registers.write(QUEUE_ALIGNMENT, PAGE);
            self.registers.write(QUEUE_PAGE, (rings.descriptors / u64::from(PAGE)) as u32);
        } else {
            self.registers.write_wide(QUEUE_DESCRIPTORS, rings.descriptors);
            self.registers.write_wide(QUEUE_AVAILABLE, rings.available);
            self.registers.write_wide(QUEUE_USED, rings.used);
            self.registers.write(QUEUE_READY, 1);
        }
    }

    fn doorbell(&self, queue: u16) -> Option<Doorbell> {
        Some(Doorbell { register: self.registers.at(NOTIFY), value: queue, narrow: false })
    }

    fn configuration(&self, offset: u16) -> u8 {
        self.registers.byte(CONFIGURATION + u64::from(offset))
    }

    fn acknowledge(&self) {
        if !self.pulses {
            let taken = self.registers.read(INTERRUPT);
            if taken != 0 {
                self.registers.write(INTERRUPT_TAKEN, taken);
            }
        }
    }
}
