//! Where devices' registers are, and which line each interrupts (`abi::vm`, Linux's virtio_mmio.device).

use std::sync::Arc;

use kvm_ioctls::{IoEventAddress, VmFd};

use crate::Error;
use crate::error::refused;
use crate::transport::Port;

const FIRST: u64 = 0xd000_0000;
const LENGTH: u64 = 0x1000;
const FIRST_LINE: u32 = 5;
/// The register that is rung, whose value is the queue's number.
const NOTIFY: u64 = 0x50;

/// All ports, in order of their addresses.
#[derive(Default)]
pub struct Bus(Vec<Arc<Port>>);

impl Bus {
    /// Puts a device at the next address, and has KVM ring its bells and pass its interrupts on.
    pub fn plug(&mut self, vm: &VmFd, port: Arc<Port>) -> Result<(), Error> {
        let number = self.0.len();
        let notify = IoEventAddress::Mmio(FIRST + number as u64 * LENGTH + NOTIFY);
        for (queue, bell) in port.doorbells.iter().enumerate() {
            vm.register_ioevent(bell, &notify, queue as u32).map_err(refused("a doorbell"))?;
        }
        vm.register_irqfd(&port.interrupt, FIRST_LINE + number as u32).map_err(refused("an interrupt"))?;
        self.0.push(port);
        Ok(())
    }

    /// The words that tell the kernel of each device.
    pub fn command_line(devices: usize) -> String {
        let word = |number: usize| {
            let (at, line) = (FIRST + number as u64 * LENGTH, FIRST_LINE as usize + number);
            format!("virtio_mmio.device=4K@{at:#x}:{line}")
        };
        (0..devices).map(word).collect::<Vec<_>>().join(" ")
    }

    fn find(&self, address: u64) -> Option<(&Port, u64)> {
        let offset = address.checked_sub(FIRST)?;
        Some((self.0.get((offset / LENGTH) as usize)?, offset % LENGTH))
    }

    pub fn read(&self, address: u64, bytes: &mut [u8]) {
        match self.find(address) {
            Some((port, offset)) => port.read(offset, bytes),
            None => bytes.fill(0xff),
        }
    }

    pub fn write(&self, address: u64, bytes: &[u8]) {
        if let Some((port, offset)) = self.find(address) {
            port.write(offset, bytes);
        }
    }
}
