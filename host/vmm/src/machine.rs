//! A virtual machine: memory, interrupt controllers, CPUs, devices' registers.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};

use kvm_ioctls::{Kvm, VmFd};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::Bus;
use crate::cpu::{self, Cpu};
use crate::error::refused;
use crate::memory::{self, Memory};
use crate::slot::Slots;
use crate::transport::Port;
use crate::{Error, boot, image};

/// A machine that has not started.
pub struct Machine {
    vm: Arc<VmFd>,
    memory: Arc<Memory>,
    slots: Slots,
    cpus: Vec<Cpu>,
    bus: Bus,
}

/// How a machine ends.
#[derive(Debug)]
pub enum End {
    /// It was reset, which is how the guest goes.
    Reset,
    /// KVM cannot go on with it.
    Failed(String),
    /// The monitor is gone.
    Gone,
}

impl Machine {
    /// A machine whose memory, of so many bytes, is empty.
    pub fn new(kvm: &Kvm, memory: u64, cpus: u16) -> Result<Self, Error> {
        let vm = Arc::new(kvm.create_vm().map_err(refused("a virtual machine"))?);
        let memory = Arc::new(memory::make(memory)?);
        // Memory first: behind the interrupt controllers it would wait some milliseconds for what KVM puts off
        // when it makes those.
        let slots = Slots::new(vm.clone(), memory.clone())?;
        vm.create_irq_chip().map_err(refused("interrupt controllers"))?;
        let cpuid = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES).map_err(refused("CPUID"))?;
        let cpus = (0..cpus).map(|number| Cpu::new(&vm, number, &cpuid)).collect::<Result<Vec<_>, _>>()?;
        let bus = Bus::new(&memory, cpus.len());
        Ok(Self { vm, memory, slots, cpus, bus })
    }

    /// Loads a kernel, and puts the first CPU at its first function.
    pub fn load(&mut self, image: &[u8], command_line: &str, module: &[u8]) -> Result<(), Error> {
        let (direct, end) = image::load(&self.memory, image)?;
        let information = boot::write(&self.memory, end, command_line, module)?;
        if let Some(first) = self.cpus.first() {
            first.start(&direct, information)?;
        }
        Ok(())
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Ticks of the time-stamp counter in a millisecond, if they are known.
    pub fn kilohertz(&self) -> Option<u64> {
        self.cpus.first().and_then(Cpu::kilohertz)
    }

    /// Plugs a device in.
    pub fn plug(&mut self, port: Arc<Port>) -> Result<(), Error> {
        self.bus.plug(&self.vm, port)
    }

    /// Makes the CPUs' threads. The machine lives on in them.
    pub fn start(self, call: Option<Arc<EventFd>>) -> Result<Started, Error> {
        let Self { slots, cpus, bus, .. } = self;
        let (sender, ends) = channel();
        let line = Arc::new(Barrier::new(cpus.len() + 1));
        cpu::start(cpus, &Arc::new((bus, slots)), &sender, call.as_ref(), &line)?;
        // A thread that begins asks for what it may not ask for later.
        line.wait();
        Ok(Started { ends, line })
    }
}

/// A machine whose threads wait to be let go.
pub struct Started {
    ends: Receiver<End>,
    line: Arc<Barrier>,
}

impl Started {
    /// Lets the CPUs run. The first of them that ends says how, and calls.
    pub fn go(self) -> Receiver<End> {
        self.line.wait();
        self.ends
    }
}
