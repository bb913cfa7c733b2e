//! Virtual CPUs: how the first starts, and what leads out of them.

use std::num::NonZeroU64;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use abi::vm::Direct;
use kvm_bindings::{CpuId, Msrs, kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_xcr, kvm_xcrs};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use rustix::thread::set_current_timer_slack;
use vmm_sys_util::eventfd::EventFd;

use crate::Error;
use crate::bus::Bus;
use crate::error::refused;
use crate::machine::End;
use crate::slot::{Slots, Touched};

/// What the kernel's own first instructions would set (guest/vm/src/boot/entry.rs).
const CR0: u64 = 0x8005_0033;
const CR4: u64 = 0x5_0620;
const EFER: u64 = 0xd01;
const STAR: u64 = 0x0023_0008_0000_0000;
/// Not the interrupt flag: where the call lands in ring 3, nothing could set it again.
const CALL_MASK: u64 = 0x4_7500;
const XCR0: u64 = 0xe7;

const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_SFMASK: u32 = 0xc000_0084;

const SERIAL: u16 = 0x3f8;
const SERIAL_STATUS: u16 = SERIAL + 5;
const ROOM: u8 = 0x20;

const STACK: usize = 128 * 1024;

/// A virtual CPU that does not run yet.
pub struct Cpu {
    fd: VcpuFd,
    number: usize,
    extended: u64,
}

impl Cpu {
    pub fn new(vm: &VmFd, number: u16, cpuid: &CpuId) -> Result<Self, Error> {
        let fd = vm.create_vcpu(u64::from(number)).map_err(refused("a CPU"))?;
        let mut cpuid = cpuid.clone();
        let mut extended = 3;
        for entry in cpuid.as_mut_slice() {
            match (entry.function, entry.index) {
                (1, _) => entry.ebx = entry.ebx & 0x00ff_ffff | u32::from(number) << 24,
                (0xb | 0x1f, _) => entry.edx = u32::from(number),
                (0xd, 0) => extended = u64::from(entry.eax) & XCR0,
                _ => {}
            }
        }
        fd.set_cpuid2(&cpuid).map_err(refused("CPUID"))?;
        Ok(Self { fd, number: number.into(), extended })
    }

    /// Puts the first CPU at the kernel's first function.
    pub fn start(&self, direct: &Direct, information: u64) -> Result<(), Error> {
        let mut special = self.fd.get_sregs().map_err(refused("registers"))?;
        let code = segment(0x33, 11, true);
        let data = segment(0x2b, 3, false);
        special.cs = code;
        (special.ds, special.es, special.ss) = (data, data, data);
        special.fs = data;
        special.gs = kvm_segment { base: direct.block, ..data };
        special.tr = kvm_segment {
            base: direct.task,
            limit: 0x67,
            selector: 0x40,
            type_: 11,
            present: 1,
            ..kvm_segment::default()
        };
        special.gdt = kvm_dtable { base: direct.gdt, limit: 79, ..kvm_dtable::default() };
        special.idt = kvm_dtable { base: direct.idt, limit: 4095, ..kvm_dtable::default() };
        (special.cr0, special.cr3, special.cr4, special.efer) = (CR0, direct.tables, CR4, EFER);
        self.fd.set_sregs(&special).map_err(refused("registers"))?;
        let mut components = kvm_xcrs { nr_xcrs: 1, ..kvm_xcrs::default() };
        components.xcrs[0] = kvm_xcr { xcr: 0, value: self.extended, ..kvm_xcr::default() };
        self.fd.set_xcrs(&components).map_err(refused("registers"))?;
        let register = |index, data| kvm_msr_entry { index, data, ..kvm_msr_entry::default() };
        let registers =
            [register(MSR_STAR, STAR), register(MSR_LSTAR, direct.call), register(MSR_SFMASK, CALL_MASK)];
        let registers = Msrs::from_entries(&registers).expect("invariant: few registers");
        self.fd.set_msrs(&registers).map_err(refused("registers"))?;
        let general = kvm_regs {
            rip: direct.main,
            rsp: direct.stack,
            rflags: 0x202,
            rsi: information,
            ..kvm_regs::default()
        };
        self.fd.set_regs(&general).map_err(refused("registers"))
    }

    /// Ticks of the time-stamp counter in a millisecond, if they are known.
    pub fn kilohertz(&self) -> Option<u64> {
        self.fd.get_tsc_khz().ok().filter(|kilohertz| *kilohertz > 0).map(u64::from)
    }

    fn run(&mut self, bus: &Bus, slots: &Slots) -> End {
        loop {
            match self.fd.run() {
                Ok(VcpuExit::IoOut(SERIAL, bytes)) => {
                    use std::io::Write;
                    let _ = std::io::stderr().write_all(bytes);
                }
                Ok(VcpuExit::IoIn(SERIAL_STATUS, bytes)) => bytes.fill(ROOM),
                Ok(VcpuExit::IoIn(_, bytes)) => bytes.fill(0xff),
                Ok(VcpuExit::IoOut(..)) => {}
                Ok(VcpuExit::MmioRead(address, bytes)) => match slots.read(address, bytes) {
                    Ok(Touched::Memory) => {}
                    Ok(Touched::Nothing) => bus.read(address, bytes),
                    Err(error) => return End::Failed(error.to_string()),
                },
                Ok(VcpuExit::MmioWrite(address, bytes)) => match slots.write(address, bytes) {
                    Ok(Touched::Memory) => {}
                    Ok(Touched::Nothing) => bus.write(self.number, address, bytes),
                    Err(error) => return End::Failed(error.to_string()),
                },
                Ok(VcpuExit::Shutdown | VcpuExit::Hlt) => return End::Reset,
                Ok(exit) => {
                    let what = format!("{exit:?}");
                    let registers = self.fd.get_regs();
                    return End::Failed(format!("{what} {registers:x?}"));
                }
                Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {}
                Err(error) => return End::Failed(format!("KVM_RUN: {error}")),
            }
        }
    }
}

/// A flat segment of ring 3.
fn segment(selector: u16, type_: u8, long: bool) -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 3,
        s: 1,
        l: u8::from(long),
        db: u8::from(!long),
        g: 1,
        ..kvm_segment::default()
    }
}

/// What a CPU's thread keeps alive: devices' registers, and the machine with its memory.
type Kept = Arc<(Bus, Slots)>;

/// Starts all of a machine's CPUs, each on a thread of its own, which waits at the line twice: when it is
/// there, and until all may run. Secondary ones wait in their interrupt controllers until the first wakes
/// them.
pub fn start(
    cpus: Vec<Cpu>,
    kept: &Kept,
    sender: &mpsc::Sender<End>,
    call: Option<&Arc<EventFd>>,
    line: &Arc<Barrier>,
) -> Result<(), Error> {
    for (number, mut cpu) in cpus.into_iter().enumerate() {
        let (sender, kept, call, line) = (sender.clone(), kept.clone(), call.cloned(), line.clone());
        let body = move || {
            // A wait (`crate::sleep`) ends when it is to: what slack a program has is the guest's affair.
            let _ = set_current_timer_slack(NonZeroU64::new(1));
            line.wait();
            line.wait();
            // Whoever waited for the end is gone only when all is over.
            let _ = sender.send(cpu.run(&kept.0, &kept.1));
            if let Some(call) = call {
                let _ = call.write(1);
            }
        };
        let builder = thread::Builder::new().name(format!("cpu {number}")).stack_size(STACK);
        builder.spawn(body).map_err(Error::Thread)?;
    }
    Ok(())
}
