//! What guest and monitor say to each other: the whole of it, and nothing else.
//!
//! Invariants: no logic beyond encoding; every value that arrives over this interface is a claim of
//! the other side and is checked by the receiver; messages are postcard-encoded and at most
//! [`MESSAGE_MAX`] bytes long, so that one fits a single sequenced packet.
//! Deliberately absent: versioning (guest and monitor are built together, and the monitor embeds
//! the guest image).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod address;
pub mod boot;
pub mod exit;
pub mod file;
pub mod message;
pub mod network;
pub mod pico;
pub mod request;
pub mod terminal;
pub mod vm;

/// Bytes in the longest message of either direction.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// A granted object: a capability the monitor has handed to the guest, opaque to the library OS.
///
/// On pico the low half is the host descriptor and the high half is the number the monitor knows the
/// object by (zero: the monitor keeps nothing for it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Handle(pub u64);

impl Handle {
    /// Joins a host descriptor with the number the monitor knows the object by.
    pub const fn new(descriptor: u32, object: u32) -> Self {
        Self((object as u64) << 32 | descriptor as u64)
    }
    /// The host descriptor of this object.
    pub const fn descriptor(self) -> u32 {
        self.0 as u32
    }
    /// The number the monitor knows this object by; zero if it keeps nothing.
    pub const fn object(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// An error number as Linux numbers them (errno(3)), claimed by the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Code(pub u16);
