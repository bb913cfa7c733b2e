//! What an island runs on: chosen and opened while the plan is made.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use api::spec;
use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::io::Errno;

use crate::sandbox::Image;

/// The kernel of virtual machines.
pub static KERNEL: &[u8] = include_bytes!(env!("EYOT_VM_IMAGE"));

const KVM: &str = "/dev/kvm";

/// What will run the island.
pub enum Engine {
    /// A confined process that executes this image.
    Pico(Image),
    /// A confined process that is a virtual machine, and this kernel in it.
    Kvm { kernel: &'static [u8], device: OwnedFd },
    /// This kernel in QEMU, a confined process with devices of another.
    Qemu { kernel: &'static [u8], program: &'static CStr },
}

/// Why an engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("there is no KVM on this machine (no {KVM}): use --engine pico")]
    NoKvm,
    #[error("you may not open {KVM}: add yourself to the group that owns it, or use --engine pico")]
    Forbidden,
    #[error("{KVM} cannot be opened: {0}")]
    Unusable(Errno),
    #[error(
        "there is no qemu-system-x86_64 in /usr/bin: install it (Debian: qemu-system-x86), or use --engine pico"
    )]
    NoQemu,
}

impl Engine {
    /// The wanted engine with the built-in images, or another image in its stead.
    pub fn resolve(wanted: spec::Engine, image: Option<&'static [u8]>) -> Result<Self, EngineError> {
        match wanted {
            spec::Engine::Qemu => Ok(Self::Qemu {
                kernel: image.unwrap_or(KERNEL),
                program: qemu().ok_or(EngineError::NoQemu)?,
            }),
            spec::Engine::Kvm => Ok(Self::Kvm { kernel: image.unwrap_or(KERNEL), device: kvm()? }),
            spec::Engine::Pico => Ok(Self::Pico(image.map_or_else(Image::built_in, Image::new))),
            spec::Engine::Auto => Ok(match by_processor() {
                Ok(device) => Self::Kvm { kernel: image.unwrap_or(KERNEL), device },
                Err(_) => Self::Pico(image.map_or_else(Image::built_in, Image::new)),
            }),
        }
    }
}

impl Engine {
    /// Bytes of memory without which not even a small program runs.
    pub fn least_memory(&self) -> u64 {
        match self {
            Self::Pico(_) | Self::Kvm { .. } => 6 << 20,
            // The kernel's image takes its part there.
            Self::Qemu { .. } => 12 << 20,
        }
    }
}

/// Where QEMU is. Its process sees no programs but those below /usr.
pub fn qemu() -> Option<&'static CStr> {
    [c"/usr/bin/qemu-system-x86_64", c"/usr/local/bin/qemu-system-x86_64"]
        .into_iter()
        .find(|path| access(*path, Access::EXEC_OK).is_ok())
}

fn kvm() -> Result<OwnedFd, EngineError> {
    open(KVM, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|error| match error {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => EngineError::NoKvm,
        Errno::ACCESS | Errno::PERM => EngineError::Forbidden,
        error => EngineError::Unusable(error),
    })
}

/// KVM where the processor is under it, or why it is not what is best here.
pub fn by_processor() -> Result<OwnedFd, String> {
    if !is_hardware() {
        return Err(
            "the processor shows neither vmx nor svm, and emulated KVM is slower than a process".into()
        );
    }
    kvm().map_err(|error| error.to_string())
}

/// Whether the processor virtualises: without, KVM is emulated and slower than a process.
pub fn is_hardware() -> bool {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = information.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm"))
}
