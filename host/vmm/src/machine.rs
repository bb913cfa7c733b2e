//! A virtual machine: memory, interrupt controllers, CPUs.

use std::sync::Arc;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::cpu::{self, Cpu};
use crate::error::refused;
use crate::memory::{self, Memory};
use crate::{Error, boot, image};

/// What is wanted.
pub struct Settings<'a> {
    pub image: &'a [u8],
    pub module: &'a [u8],
    pub command_line: &'a str,
    /// Bytes.
    pub memory: u64,
    pub cpus: u16,
}

/// A machine that has not started.
pub struct Machine {
    vm: Arc<VmFd>,
    memory: Memory,
    cpus: Vec<Cpu>,
}

/// How a machine ends.
#[derive(Debug)]
pub enum End {
    /// It was reset, which is how the guest goes.
    Reset,
    /// KVM cannot go on with it.
    Failed(String),
}

impl Machine {
    pub fn new(kvm: &Kvm, settings: &Settings<'_>) -> Result<Self, Error> {
        let vm = kvm.create_vm().map_err(refused("a virtual machine"))?;
        vm.create_irq_chip().map_err(refused("interrupt controllers"))?;
        let memory = memory::make(settings.memory)?;
        for (slot, region) in memory.iter().enumerate() {
            let described = kvm_userspace_memory_region {
                slot: slot as u32,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
                flags: 0,
            };
            // SAFETY: the mapping lives as long as `memory`, which the machine keeps beside the VM.
            unsafe { vm.set_user_memory_region(described) }.map_err(refused("the guest's memory"))?;
        }
        let (direct, end) = image::load(&memory, settings.image)?;
        let information = boot::write(&memory, end, settings.command_line, settings.module)?;
        let cpuid = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES).map_err(refused("CPUID"))?;
        let cpus = (0..settings.cpus).map(|number| Cpu::new(&vm, number, &cpuid)).collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = cpus.first() {
            first.start(&direct, information)?;
        }
        Ok(Self { vm: Arc::new(vm), memory, cpus })
    }

    /// Runs until it ends.
    pub fn run(self) -> Result<End, Error> {
        let Self { vm, memory, cpus } = self;
        let end = cpu::run(cpus)?;
        drop((vm, memory));
        Ok(end)
    }
}
