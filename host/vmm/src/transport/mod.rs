//! How devices and a driver meet: queues of chains, registers, and what every device has to say.

pub mod chain;
mod mmio;
mod port;
pub mod ring;
mod user;

pub use chain::{Chain, Parts};
pub use port::{Port, Ticket};
pub use ring::{Broken, Ring};
pub use user::{Configuration, Front, Heard};

use crate::outside::Outside;

/// What a driver is told of a device.
pub struct Description {
    /// The type (virtio 1.2, 5).
    pub id: u32,
    /// Its own features; those of the transport are added.
    pub features: u64,
    pub configuration: Vec<u8>,
    /// The longest that each queue may be.
    pub queues: &'static [u16],
}

/// A device. It belongs to the loop's thread; its queues are lent to it.
pub trait Device {
    fn description(&self) -> Description;

    /// The driver has set the device up, or reset it: chains of before are gone.
    fn activate(&mut self, features: u64, generation: u64, outside: &mut Outside);

    /// Does what a queue asks for, as far as can be done without waiting; whether that was anything.
    fn process(&mut self, queue: usize, rings: &mut [Ring], outside: &mut Outside) -> Result<bool, Broken>;

    /// Whether the guest is to ring when it adds to a queue.
    fn listens(&self, queue: usize) -> bool;

    /// The driver wrote to the configuration.
    fn configured(&mut self, _configuration: &[u8]) {}
}
