//! The image's other service: the checks that every machine must pass, run where the library OS would.
//!
//! Only in images built for the test of the monitor that judges them; the status is the number of checks
//! that hold.

use alloc::format;
use alloc::sync::Arc;

use abi::boot::Boot;
use abi::exit::Exit;
use libos::HostClock;
use machine::{Machine, conformance};

pub fn run(machine: Arc<dyn Machine>, _: Boot, _: HostClock) -> ! {
    machine.halt(match conformance::check(machine.as_ref()) {
        Ok(count) => Exit::Status(u8::try_from(count).unwrap_or(u8::MAX)),
        Err(failures) => Exit::Broken { message: format!("the machine breaks its contract:{failures}") },
    })
}
