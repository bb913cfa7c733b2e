//! The virtual machine's kernel: `trait Machine` over a processor and devices of its own.
//!
//! It boots as the only software of a virtual machine. The library OS and its service live in ring 3; ring 0
//! holds stubs of a few instructions, so that it runs at full speed on hypervisors that emulate ring 0,
//! and is plain architecture on all others. One privilege level is on purpose: the wall is around the
//! guest, not inside it.
//!
//! Where to read on: `boot` comes from the boot loader, `cpu` has traps, clocks and CPUs, `memory` has
//! frames, tables and the applications' space, `device` talks to the outside. Only vector instructions of
//! SSE2 may be in this image.
#![no_std]
#![no_main]

extern crate alloc;

mod boot;
mod code;
#[cfg(feature = "conformance")]
mod conformance;
mod cpu;
mod device;
mod heap;
mod memory;
mod virtio;
mod vm;
mod vmm;

#[cfg(feature = "conformance")]
use conformance::run;
#[cfg(not(feature = "conformance"))]
use device::run;

#[panic_handler]
fn panic(information: &core::panic::PanicInfo<'_>) -> ! {
    vm::broken(format_args!("{information}"))
}
