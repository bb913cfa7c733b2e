//! The process that is a virtual machine: CPUs by KVM, devices by virtio.
//!
//! It stands where a picoprocess stands: confined, with the same channel to the monitor and the same
//! descriptors granted, which it holds in the guest's stead. The guest reaches them by virtqueues alone.
//!
//! Invariants: guest memory is hostile and changes while it is looked at, so a value is read once, then
//! judged; nothing a guest does ends in a panic.

mod boot;
mod cpu;
mod error;
mod image;
mod machine;
mod memory;

pub use error::Error;
pub use machine::{End, Machine, Settings};

pub struct RunSettings<'a> { pub kernel: &'a [u8], pub control: u32, pub start: u32, pub device: u32, pub granted: std::ops::Range<u32> }
pub fn run(_: &RunSettings<'_>) -> u8 { 125 }
