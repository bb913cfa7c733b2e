//! The driver's side of virtio: what a guest believes of its devices.
//!
//! No device is trusted. What it says is read once and judged here, without unsafe code and without a machine,
//! so that tests can lie in a device's stead; the machine lends memory ([`queue::Memory`]) and ends the guest
//! when it hears of a [`Lie`]. What makes no sense but harms nobody is dropped instead.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
pub mod disk;
mod frame;
mod packet;
pub mod pairs;
pub mod queue;

use core::fmt;

pub use answer::outcome;
pub use frame::{Format, Frame};
pub use packet::{Header, judge};
pub use pairs::Pairs;
pub use queue::Queue;

/// What no device that keeps to the rules says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It used a chain that it was not offered, or wrote more than there was room for.
    Chain { head: u32, written: u32 },
    /// It answered so many bytes and called them another number.
    Answer { written: usize, length: usize },
    /// It sent a packet too short, for somebody else, or of another length than it says.
    Packet { length: usize },
}

impl fmt::Display for Lie {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain { head, written } => {
                write!(to, "a device used chain {head} of {written} bytes, which it was not offered")
            }
            Self::Answer { written, length } => {
                write!(to, "the VMM answered {written} bytes and called them {length}")
            }
            Self::Packet { length } => {
                write!(to, "the VMM sent a packet of {length} bytes for somebody else, or of another length")
            }
        }
    }
}
