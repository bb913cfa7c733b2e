//! The devices: each is written once, behind the trait that the transport knows.

pub mod balloon;
pub mod file;
pub mod random;
pub mod socket;
