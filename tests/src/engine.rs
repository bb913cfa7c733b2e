//! What islands run on, as `eyot do --engine` names it. Who plays a case by which is the suite's to say.

use crate::package::{KVM, Need};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A confined process.
    Pico,
    /// A virtual machine by KVM.
    Kvm,
}

impl Engine {
    pub const ALL: [Self; 2] = [Self::Pico, Self::Kvm];

    /// The word for `--engine`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pico => "pico",
            Self::Kvm => "kvm",
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
        }
    }

    /// How much longer than by a picoprocess a case may take.
    pub fn patience(self) -> u32 {
        match self {
            Self::Pico => 1,
            Self::Kvm => 2,
        }
    }
}
