//! What islands run on, as `eyot do --engine` names it. Who plays a case by which is the suite's to say.

use crate::package::{KVM, Need, QEMU};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A confined process.
    Pico,
    /// A virtual machine by KVM.
    Kvm,
    /// A virtual machine in QEMU, which emulates the processor.
    Qemu,
}

impl Engine {
    pub const ALL: [Self; 3] = [Self::Pico, Self::Kvm, Self::Qemu];

    /// The word for `--engine`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pico => "pico",
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// What this machine needs for it.
    pub fn needs(self) -> &'static [Need] {
        match self {
            Self::Pico => &[],
            Self::Kvm => &[KVM],
            Self::Qemu => &[QEMU],
        }
    }

    /// How much longer than by a picoprocess a case may take.
    pub fn patience(self) -> u32 {
        match self {
            Self::Pico => 1,
            Self::Kvm => 2,
            Self::Qemu => 6,
        }
    }
}
