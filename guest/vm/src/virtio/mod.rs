//! virtio: devices, however they are reached (virtio 1.2).

pub mod memory_mapped;
pub mod pci;
pub mod queue;
mod register;

use alloc::boxed::Box;
use core::sync::atomic::{Ordering::SeqCst, fence};

use queue::{Doorbell, Queue, Rings};

/// Device types (5).
pub mod kind {
    pub const NETWORK: u32 = 1;
    pub const BLOCK: u32 = 2;
    pub const CONSOLE: u32 = 3;
    pub const RANDOM: u32 = 4;
    pub const BALLOON: u32 = 5;
    pub const SOCKET: u32 = 19;
    pub const FILE: u32 = 26;
}

/// Feature bits of all devices (6).
mod feature {
    pub const EVENT_INDEX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
}

/// Steps of initialisation (2.1).
mod status {
    pub const ACKNOWLEDGE: u8 = 1;
    pub const DRIVER: u8 = 2;
    pub const READY: u8 = 4;
    pub const FEATURES: u8 = 8;
}

/// Registers of a device.
pub trait Transport: Send + Sync {
    fn kind(&self) -> u32;

    fn status(&self) -> u8;

    /// Zero resets the device.
    fn set_status(&self, status: u8);

    fn features(&self) -> u64;

    fn accept(&self, features: u64);

    /// Whether the device follows version 1 of the standard.
    fn is_modern(&self) -> bool;

    /// The longest that a queue may be; zero: there is none.
    fn longest(&self, queue: u16) -> u16;

    fn set_queue(&self, queue: u16, rings: Rings);

    /// Where the device is told of a queue, if it has said so.
    fn doorbell(&self, queue: u16) -> Option<Doorbell>;

    /// A byte of the device's configuration.
    fn configuration(&self, offset: u16) -> u8;

    /// Takes note of an interrupt, where the device wants that.
    fn acknowledge(&self);
}

/// A device that is being set up.
pub struct Device {
    transport: Box<dyn Transport>,
    features: u64,
}

/// What a device does not fulfil.
#[derive(Clone, Copy, Debug)]
pub struct Unusable(pub &'static str);

/// A device's registers, or why they are of no use.
pub type Registers = Result<Box<dyn Transport>, Unusable>;

impl Device {
    /// Agrees on features: `wanted` of the device's own.
    pub fn begin(transport: Box<dyn Transport>, wanted: u64) -> Result<Self, Unusable> {
        transport.set_status(0);
        transport.set_status(status::ACKNOWLEDGE);
        transport.set_status(status::ACKNOWLEDGE | status::DRIVER);
        let wanted =
            wanted | feature::EVENT_INDEX | if transport.is_modern() { feature::VERSION_1 } else { 0 };
        let features = transport.features() & wanted;
        if transport.is_modern() && features & feature::VERSION_1 == 0 {
            return Err(Unusable("it does not offer version 1"));
        }
        transport.accept(features);
        if transport.is_modern() {
            let status = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES;
            transport.set_status(status);
            if transport.status() & status::FEATURES == 0 {
                return Err(Unusable("it takes back what it offered"));
            }
        }
        Ok(Self { transport, features })
    }

    pub fn has(&self, feature: u64) -> bool {
        self.features & feature == feature
    }

    pub fn is_modern(&self) -> bool {
        self.transport.is_modern()
    }

    pub fn configuration<const N: usize>(&self, offset: u16) -> [u8; N] {
        core::array::from_fn(|at| self.transport.configuration(offset + at as u16))
    }

    /// Sets a queue up, of at most `most` descriptors.
    pub fn queue(&self, number: u16, most: u16) -> Result<Queue, Unusable> {
        let longest = self.transport.longest(number);
        if longest == 0 {
            return Err(Unusable("it lacks a queue"));
        }
        // The legacy interface knows one length only: the longest.
        let size = if self.transport.is_modern() { longest.min(most) } else { longest };
        if !size.is_power_of_two() {
            return Err(Unusable("a queue's length is no power of two"));
        }
        let doorbell = self.transport.doorbell(number).ok_or(Unusable("a queue's bell is nowhere"))?;
        let queue = Queue::new(size, self.has(feature::EVENT_INDEX), doorbell);
        self.transport.set_queue(number, queue.rings());
        Ok(queue)
    }

    /// The device may begin.
    pub fn finish(self) -> Box<dyn Transport> {
        let set_up = status::ACKNOWLEDGE | status::DRIVER | status::READY;
        fence(SeqCst);
        let features = if self.transport.is_modern() { status::FEATURES } else { 0 };
        self.transport.set_status(set_up | features);
        self.transport
    }
}
