//! The wall: what surrounds the guest's process before its first instruction.
//!
//! Order matters: name spaces first (they need rights), then the user, then what cannot be undone (no new
//! privileges, Landlock), then the image. The system call filter is installed by the image itself as its
//! last act before application code, since only it knows when its preparations are over; until then it is
//! our code alone that runs.

#[allow(unsafe_code)]
pub mod raw;

mod descriptor;
pub mod family;
pub mod filter;
mod image;
mod limit;
mod spawn;
mod view;
mod wall;

pub use image::Image;
pub use limit::{raise_descriptors, spaces};
pub use spawn::{Guest, Launch, Program, SpawnError, rehearse, spawn};
pub use view::{Part, Spaces, View};
