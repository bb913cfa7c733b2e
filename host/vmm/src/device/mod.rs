//! The devices: each is written once, behind the trait that the transport knows.

pub mod file;
pub mod socket;
