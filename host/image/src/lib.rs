//! From programs and directories to what a machine boots.
//!
//! [`Files`] finds what a program needs of a root directory; [`service`] joins kernel, start information and
//! files into one bootable file. Same input, same output, byte for byte.
#![forbid(unsafe_code)]

mod error;
mod files;
mod library;
pub mod service;

pub use error::Error;
pub use files::Files;
