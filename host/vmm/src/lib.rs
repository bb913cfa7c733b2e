//! The process that is a virtual machine: CPUs by KVM, devices by virtio.
//!
//! It stands where a picoprocess stands: confined, with the same channel to the monitor and the same
//! descriptors granted, which it holds in the guest's stead. The guest reaches them by virtqueues alone.
//!
//! Invariants: guest memory is hostile and changes while it is looked at, so a value is read once, then
//! judged; nothing a guest does ends in a panic.

mod boot;
mod bus;
mod channel;
mod confine;
mod cpu;
mod descriptor;
mod device;
mod error;
mod host;
mod image;
#[cfg(test)]
mod kvm_tests;
mod machine;
mod memory;
mod outside;
mod pool;
mod run;
mod serve;
mod sleep;
mod slot;
// For tests and fuzzing.
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
mod transport;

pub use confine::{Unconfined, confine};
pub use error::Error;
pub use machine::End;
pub use run::{Engine, Settings, run};
