//! The image's other service: the checks that every machine must pass, run where the library OS would.

use alloc::format;
use alloc::sync::Arc;

use abi::exit::Exit;
use machine::{Machine, conformance};

pub fn run() -> ! {
    let machine: Arc<dyn Machine> = Arc::new(crate::vm::Vm::new([7; 32]));
    machine.halt(match conformance::check(machine.as_ref()) {
        Ok(count) => Exit::Status(u8::try_from(count).unwrap_or(u8::MAX)),
        Err(failures) => Exit::Broken { message: format!("the machine breaks its contract:{failures}") },
    })
}
