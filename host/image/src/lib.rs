//! From programs and directories to what a machine boots.
//!
//! [`Files`] finds what a program needs of a root directory; [`service`] joins kernel, start information and
//! files into one bootable file, and [`Disk`] puts that on a disk with a boot loader. Same input, same output,
//! byte for byte.
#![forbid(unsafe_code)]

mod disk;
mod error;
mod fat;
mod files;
mod library;
mod loader;
pub mod service;

pub use disk::Disk;
pub use error::Error;
pub use files::Files;
pub use loader::Loader;
