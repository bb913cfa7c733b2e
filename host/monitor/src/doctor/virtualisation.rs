//! What later engines could use. Islands in a picoprocess need none of it.

use api::report::{Check, State};
use rustix::fs::{Access, access};

use super::{check, program};

/// Whether /dev/kvm is there, and whether it is the processor's or emulated by software.
pub fn kvm() -> Check {
    let hardware = crate::engine::is_hardware();
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

pub fn qemu() -> Check {
    let found: Vec<String> = ["qemu-system-x86_64", "qemu-system-microvm"]
        .into_iter()
        .filter_map(program)
        .map(|path| path.display().to_string())
        .collect();
    if found.is_empty() {
        check("QEMU", State::Noted, "not installed", None)
    } else {
        check("QEMU", State::Noted, found.join(", "), None)
    }
}
