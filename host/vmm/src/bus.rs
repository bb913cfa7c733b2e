//! Where devices' registers are, and which line each interrupts (`abi::vm`, Linux's virtio_mmio.device).

use std::sync::Arc;
use std::time::Duration;

use abi::vm::register;
use kvm_ioctls::{IoEventAddress, VmFd};

use vm_memory::{Bytes, GuestAddress};

use crate::Error;
use crate::error::refused;
use crate::memory::Memory;
use crate::sleep::{Attention, Sleepers};
use crate::transport::Port;

const FIRST: u64 = 0xd000_0000;
const LENGTH: u64 = 0x1000;
const FIRST_LINE: u32 = 5;
/// The register that is rung, whose value is the queue's number.
const NOTIFY: u64 = 0x50;

/// All ports, in order of their addresses.
pub struct Bus {
    ports: Vec<Arc<Port>>,
    memory: Arc<Memory>,
    sleepers: Arc<Sleepers>,
}

impl Bus {
    /// A bus without devices, whose guest has this memory and so many CPUs.
    pub fn new(memory: &Arc<Memory>, cpus: usize) -> Self {
        Self { ports: Vec::new(), memory: memory.clone(), sleepers: Arc::new(Sleepers::new(cpus)) }
    }

    /// Puts a device at the next address, and has KVM ring its bells and pass its interrupts on.
    pub fn plug(&mut self, vm: &VmFd, port: Arc<Port>) -> Result<(), Error> {
        let number = self.ports.len();
        let notify = IoEventAddress::Mmio(FIRST + number as u64 * LENGTH + NOTIFY);
        for (queue, bell) in port.doorbells.iter().enumerate() {
            vm.register_ioevent(bell, &notify, queue as u32).map_err(refused("a doorbell"))?;
        }
        port.heard_at(&self.sleepers);
        vm.register_irqfd(&port.interrupt, FIRST_LINE + number as u32).map_err(refused("an interrupt"))?;
        self.ports.push(port);
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
        Some((self.ports.get((offset / LENGTH) as usize)?, offset % LENGTH))
    }

    pub fn read(&self, address: u64, bytes: &mut [u8]) {
        match self.find(address) {
            Some((port, offset)) => port.read(offset, bytes),
            None => bytes.fill(0xff),
        }
    }

    /// A CPU writes; our own registers may make it wait.
    pub fn write(&self, cpu: usize, address: u64, bytes: &[u8]) {
        if let Some((port, offset)) = self.find(address) {
            port.write(offset, bytes);
        } else if let Ok(bytes) = <[u8; 8]>::try_from(bytes) {
            let value = u64::from_le_bytes(bytes);
            match address.wrapping_sub(register::PAGE) {
                register::LIST => self.go_through(value),
                register::WAIT => {
                    let time = value & register::FOREVER;
                    let patience = (time != register::FOREVER).then(|| Duration::from_nanos(time));
                    let attention = match value {
                        _ if value & register::ATTENTIVE != 0 => Attention::Attentive,
                        _ if value & register::CURIOUS != 0 => Attention::Curious,
                        _ => Attention::None,
                    };
                    self.sleepers.wait(cpu, attention, patience);
                }
                register::CALL => self.sleepers.call(value),
                _ => {}
            }
        }
    }

    /// Does what a list says ([`register::LIST`]), as far as it lies in memory.
    fn go_through(&self, list: u64) {
        const MASK: u64 = register::LIST_MOST as u64;
        let mut at = GuestAddress(list & !0xfff);
        for _ in 0..list & MASK {
            let mut entry = [0; register::ENTRY];
            if self.memory.read_slice(&mut entry, at).is_err() {
                return;
            }
            let [register, rest] =
                [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|byte| entry[at + byte])));
            let (value, what) = (rest as u32, (rest >> 32) as u32);
            let found = self.find(register);
            match (what, found) {
                (register::WRITE, Some((port, offset))) => port.write(offset, &value.to_le_bytes()),
                (register::READ, Some((port, offset))) => {
                    let mut value = [0; 4];
                    port.read(offset, &mut value);
                    // What was just read from can be written to.
                    let _ = self.memory.write_slice(&value, GuestAddress(at.0 + 8));
                }
                _ => {}
            }
            at = GuestAddress(at.0 + register::ENTRY as u64);
        }
    }
}
