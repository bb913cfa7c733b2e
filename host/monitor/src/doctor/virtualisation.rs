//! What virtual machines could use. Islands in a picoprocess need none of it.

use api::report::{Check, State};
use rustix::fs::{Access, access};

use super::check;
use crate::engine;

/// Whether /dev/kvm is there, and whether it is the processor's or emulated by software.
pub fn kvm() -> Check {
    let hardware = engine::is_hardware();
    let device = std::path::Path::new("/dev/kvm");
    let usable = access(device, Access::READ_OK | Access::WRITE_OK).is_ok();
    let (found, remedy) = match (device.exists(), usable, hardware) {
        (true, true, true) => ("/dev/kvm, by the processor", None),
        (true, true, false) => {
            ("/dev/kvm, but the processor shows neither vmx nor svm: emulated, and slow", None)
        }
        (true, false, _) => ("/dev/kvm, but you may not open it", Some("add yourself to the group kvm")),
        (false, _, true) => {
            ("no /dev/kvm, though the processor could", Some("modprobe kvm-intel or kvm-amd"))
        }
        (false, _, false) => ("no /dev/kvm", None),
    };
    check("KVM", State::Noted, found, remedy)
}

/// What `--engine auto` takes here, and why.
pub fn engine() -> Check {
    let found = match engine::by_processor() {
        Ok(_) => "auto takes kvm: the processor virtualises, and you may use it".to_owned(),
        Err(why) => format!("auto takes pico: {why}"),
    };
    check("engine", State::Noted, found, None)
}

/// Whether `--engine qemu` can be had.
pub fn qemu() -> Check {
    match engine::qemu() {
        Some(path) => check("QEMU", State::Noted, path.to_string_lossy(), None),
        None => check(
            "QEMU",
            State::Noted,
            "not installed: no --engine qemu",
            Some("apt install qemu-system-x86"),
        ),
    }
}
