//! virtio over PCI: finding the devices, and the modern interface (virtio 1.2, 4.1; PCI 3.0, 6).
//!
//! Firmware has given the devices their addresses. Registers are touched only where a device has said that it
//! has some: one that lies of where its bells are is not rung into other memory. Interrupts are messages
//! (MSI-X), one vector for all, so there is nothing to acknowledge and no line to share.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use spin::Mutex;

use super::queue::{Doorbell, Rings};
use super::{Registers, Transport, Unusable};
use crate::boot;
use crate::cpu::block::FIRST;
use crate::cpu::{port, stub::vector};
use crate::memory::map;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLED: u32 = 1 << 31;

const VENDOR: u32 = 0x1af4;
/// Device numbers of modern devices begin here; those of transitional ones are below.
const MODERN: u32 = 0x1040;

const COMMAND: u32 = 4;
const MEMORY_AND_MASTER: u32 = 6;
const HEADER: u32 = 0xc;
const BARS: u32 = 0x10;
const SUBSYSTEM: u32 = 0x2c;
const CAPABILITIES: u32 = 0x34;
const VENDOR_CAPABILITY: u8 = 9;
const MSIX: u8 = 0x11;
const MSIX_ENABLED: u32 = 1 << 31;
const MSIX_MASKED: u32 = 1 << 30;

/// Where interrupt messages go (SDM vol. 3, 12.11).
const MESSAGES: u64 = 0xfee0_0000;
const NO_VECTOR: u16 = 0xffff;

/// Offsets in the common configuration.
mod common {
    pub const FEATURES_PART: u64 = 0;
    pub const FEATURES: u64 = 4;
    pub const ACCEPTED_PART: u64 = 8;
    pub const ACCEPTED: u64 = 12;
    pub const CHANGE_VECTOR: u64 = 16;
    pub const STATUS: u64 = 20;
    pub const QUEUE: u64 = 22;
    pub const QUEUE_LENGTH: u64 = 24;
    pub const QUEUE_VECTOR: u64 = 26;
    pub const QUEUE_READY: u64 = 28;
    pub const QUEUE_DOORBELL: u64 = 30;
    pub const QUEUE_DESCRIPTORS: u64 = 32;
    pub const QUEUE_AVAILABLE: u64 = 40;
    pub const QUEUE_USED: u64 = 48;
    /// Bytes up to here.
    pub const LENGTH: u64 = 56;
}

/// A bus: its number, and where its configuration space is mapped, if it is.
#[derive(Clone, Copy)]
struct Bus {
    number: u8,
    space: Option<u64>,
}

impl Bus {
    fn new(number: u8) -> Self {
        const LENGTH: u64 = 1 << 20;
        let told = boot::configuration_space().filter(|(_, last)| number <= *last);
        let space = told.and_then(|(base, _)| map::device(base + LENGTH * u64::from(number), LENGTH).ok());
        Self { number, space }
    }

    /// All functions of all its devices.
    fn functions(self) -> impl Iterator<Item = Function> {
        const MANY: u32 = 0x80_0000;
        (0..32).flat_map(move |device| {
            let function = move |number: u32| Function { bus: self, number: device << 11 | number << 8 };
            let first = function(0);
            let count = match first.read(0) {
                u32::MAX => 0,
                _ if first.read(HEADER) & MANY != 0 => 8,
                _ => 1,
            };
            (0..count).map(function).filter(|function| function.read(0) != u32::MAX)
        })
    }
}

/// A function: device and function number, as configuration addresses have them.
#[derive(Clone, Copy)]
struct Function {
    bus: Bus,
    number: u32,
}

static PORTS: Mutex<()> = Mutex::new(());

impl Function {
    fn read(self, offset: u32) -> u32 {
        if let Some(space) = self.bus.space {
            let at = space + u64::from(self.number) * 16 + u64::from(offset);
            // SAFETY: the bus's configuration space is mapped for ever.
            return unsafe { (at as *const u32).read_volatile() };
        }
        let _ports = PORTS.lock();
        // SAFETY: selecting a configuration register and reading it.
        unsafe {
            port::write_long(ADDRESS, self.address(offset));
            port::read_long(DATA)
        }
    }

    fn write(self, offset: u32, value: u32) {
        if let Some(space) = self.bus.space {
            let at = space + u64::from(self.number) * 16 + u64::from(offset);
            // SAFETY: as in `read`.
            unsafe { (at as *mut u32).write_volatile(value) };
            return;
        }
        let _ports = PORTS.lock();
        // SAFETY: selecting a configuration register and writing it.
        unsafe {
            port::write_long(ADDRESS, self.address(offset));
            port::write_long(DATA, value);
        }
    }

    fn address(self, offset: u32) -> u32 {
        ENABLED | u32::from(self.bus.number) << 16 | self.number | offset
    }

    /// The bus behind this function, if it is a bridge that firmware has set up.
    fn behind(self) -> Option<Bus> {
        const BRIDGE: u8 = 1;
        const BEHIND: u32 = 0x19;
        let kind = self.byte(HEADER + 2) & 0x7f;
        let number = if kind == BRIDGE { self.byte(BEHIND) } else { 0 };
        // Buses are numbered from the root: one that leads back leads nowhere.
        (number > self.bus.number).then(|| Bus::new(number))
    }

    fn byte(self, offset: u32) -> u8 {
        (self.read(offset & !3) >> ((offset & 3) * 8)) as u8
    }

    /// The address behind a base address register.
    fn base(self, number: u8) -> Option<u64> {
        if number > 5 {
            return None;
        }
        let offset = BARS + u32::from(number) * 4;
        let low = self.read(offset);
        let is_port = low & 1 != 0;
        let is_wide = low & 6 == 4;
        let high = if is_wide && number < 5 { self.read(offset + 4) } else { 0 };
        let address = u64::from(low & !15) | u64::from(high) << 32;
        (!is_port && address != 0).then_some(address)
    }

    /// Its capabilities, by kind.
    fn capabilities(self) -> Vec<(u8, u32)> {
        const MOST: usize = 48;
        let mut found = Vec::new();
        let mut at = u32::from(self.byte(CAPABILITIES)) & !3;
        while at >= 0x40 && found.len() < MOST {
            let head = self.read(at);
            found.push((head as u8, at));
            at = head >> 8 & 0xfc;
        }
        found
    }
}

/// A part of a device's registers that is mapped for ever.
#[derive(Clone, Copy)]
struct Area {
    start: u64,
    length: u64,
}

/// No device of ours has more registers in one part.
const AREA_MOST: u64 = 1 << 20;

impl Area {
    fn map(address: u64, length: u64) -> Option<Self> {
        let sound = (1..=AREA_MOST).contains(&length) && address.checked_add(AREA_MOST).is_some();
        let start = sound.then(|| map::device(address, length).ok())??;
        Some(Self { start, length })
    }

    /// The address of so many bytes at an offset, if they are in here.
    fn at(self, offset: u64, length: u64) -> Option<u64> {
        (offset.checked_add(length)? <= self.length).then(|| self.start + offset)
    }
}

/// A device's registers.
pub struct Pci {
    kind: u32,
    common: u64,
    configuration: Option<Area>,
    notify: Area,
    multiplier: u32,
}

/// The virtio devices of these kinds, on the first bus and on those behind its bridges.
pub fn find(kinds: &[u32]) -> Vec<(u32, Registers)> {
    let mut found = Vec::new();
    let mut buses = vec![Bus::new(0)];
    while let Some(bus) = buses.pop() {
        for function in bus.functions() {
            buses.extend(function.behind());
            let identity = function.read(0);
            if identity & 0xffff != VENDOR {
                continue;
            }
            let number = identity >> 16;
            let kind = if number >= MODERN { number - MODERN } else { function.read(SUBSYSTEM) >> 16 };
            if kinds.contains(&kind) {
                let registers = Pci::new(function, kind);
                found.push((kind, registers.map(|registers| Box::new(registers) as Box<dyn Transport>)));
            }
        }
    }
    found
}

/// Where a part of a device's registers is.
fn part(function: Function, capability: u32) -> Option<Area> {
    let base = function.base(function.byte(capability + 4))?;
    let (offset, length) = (function.read(capability + 8), function.read(capability + 12));
    Area::map(base.checked_add(offset.into())?, u64::from(length).min(AREA_MOST))
}

impl Pci {
    fn new(function: Function, kind: u32) -> Result<Self, Unusable> {
        let ([mut common, mut notify, mut configuration], mut multiplier) = ([None; 3], 0);
        let capabilities = function.capabilities();
        let own = capabilities.iter().filter(|(kind, _)| *kind == VENDOR_CAPABILITY);
        if own.clone().next().is_none() {
            return Err(Unusable("a PCI device has only virtio's legacy interface; QEMU's default has both"));
        }
        for &(_, at) in own {
            let place = match function.byte(at + 3) {
                1 => &mut common,
                2 => {
                    multiplier = function.read(at + 16);
                    &mut notify
                }
                4 => &mut configuration,
                _ => continue,
            };
            if place.is_none() {
                *place = part(function, at);
            }
        }
        let common = common.and_then(|common: Area| common.at(0, common::LENGTH));
        // Its registers are as wide as eight bytes.
        let common = common.filter(|address| address.is_multiple_of(8));
        let (Some(common), Some(notify)) = (common, notify) else {
            return Err(Unusable("firmware has given a PCI device no addresses"));
        };
        function.write(COMMAND, function.read(COMMAND) | MEMORY_AND_MASTER);
        let messages = capabilities.iter().find(|(kind, _)| *kind == MSIX);
        let Some(&(_, messages)) = messages else { return Err(Unusable("a PCI device lacks MSI-X")) };
        take_messages(function, messages).ok_or(Unusable("a PCI device's interrupts cannot be set"))?;
        Ok(Self { kind, common, configuration, notify, multiplier })
    }

    fn byte(&self, offset: u64) -> *mut u8 {
        (self.common + offset) as *mut u8
    }

    fn set_half(&self, offset: u64, value: u16) {
        // SAFETY: a register of the device's, which is mapped for ever.
        unsafe { self.byte(offset).cast::<u16>().write_volatile(value) };
    }

    fn half(&self, offset: u64) -> u16 {
        // SAFETY: as in `set_half`.
        unsafe { self.byte(offset).cast::<u16>().read_volatile() }
    }

    fn set_word(&self, offset: u64, value: u32) {
        // SAFETY: as in `set_half`.
        unsafe { self.byte(offset).cast::<u32>().write_volatile(value) };
    }

    fn word(&self, offset: u64) -> u32 {
        // SAFETY: as in `set_half`.
        unsafe { self.byte(offset).cast::<u32>().read_volatile() }
    }

    fn set_long(&self, offset: u64, value: u64) {
        self.set_word(offset, value as u32);
        self.set_word(offset + 4, (value >> 32) as u32);
    }
}

/// Sends the device's first interrupt message to the first CPU, and switches messages on.
fn take_messages(function: Function, capability: u32) -> Option<()> {
    let place = function.read(capability + 4);
    let base = function.base((place & 7) as u8)?;
    let table = Area::map(base.checked_add(u64::from(place & !7))?, 16)?.start;
    let controller = u64::from(FIRST.controller.load(core::sync::atomic::Ordering::Relaxed));
    let message = [MESSAGES | controller << 12, u64::from(vector::DEVICE)];
    // SAFETY: the first entry of the device's table, which is mapped for ever: address, data, not masked.
    unsafe {
        (table as *mut u32).write_volatile(message[0] as u32);
        ((table + 4) as *mut u32).write_volatile(0);
        ((table + 8) as *mut u32).write_volatile(message[1] as u32);
        ((table + 12) as *mut u32).write_volatile(0);
    }
    function.write(capability, function.read(capability) & !MSIX_MASKED | MSIX_ENABLED);
    Some(())
}

impl Transport for Pci {
    fn kind(&self) -> u32 {
        self.kind
    }

    fn status(&self) -> u8 {
        // SAFETY: as in `set_half`.
        unsafe { self.byte(common::STATUS).read_volatile() }
    }

    fn set_status(&self, status: u8) {
        // SAFETY: as in `set_half`.
        unsafe { self.byte(common::STATUS).write_volatile(status) };
    }

    fn features(&self) -> u64 {
        let part = |part: u32| {
            self.set_word(common::FEATURES_PART, part);
            u64::from(self.word(common::FEATURES))
        };
        part(0) | part(1) << 32
    }

    fn accept(&self, features: u64) {
        for part in 0..2 {
            self.set_word(common::ACCEPTED_PART, part);
            self.set_word(common::ACCEPTED, (features >> (32 * part)) as u32);
        }
    }

    fn is_modern(&self) -> bool {
        true
    }

    fn longest(&self, queue: u16) -> u16 {
        self.set_half(common::QUEUE, queue);
        self.half(common::QUEUE_LENGTH)
    }

    fn set_queue(&self, queue: u16, rings: Rings) {
        self.set_half(common::CHANGE_VECTOR, NO_VECTOR);
        self.set_half(common::QUEUE, queue);
        self.set_half(common::QUEUE_LENGTH, rings.size);
        self.set_half(common::QUEUE_VECTOR, 0);
        self.set_long(common::QUEUE_DESCRIPTORS, rings.descriptors);
        self.set_long(common::QUEUE_AVAILABLE, rings.available);
        self.set_long(common::QUEUE_USED, rings.used);
        self.set_half(common::QUEUE_READY, 1);
    }

    fn doorbell(&self, queue: u16) -> Option<Doorbell> {
        self.set_half(common::QUEUE, queue);
        let offset = u64::from(self.half(common::QUEUE_DOORBELL)) * u64::from(self.multiplier);
        let register = self.notify.at(offset, 2).filter(|register| register.is_multiple_of(2))?;
        Some(Doorbell { register, value: queue, narrow: true })
    }

    fn configuration(&self, offset: u16) -> u8 {
        let Some(byte) = self.configuration.and_then(|area| area.at(offset.into(), 1)) else { return 0 };
        // SAFETY: as in `set_half`.
        unsafe { (byte as *const u8).read_volatile() }
    }

    fn acknowledge(&self) {}
}
