//! Read-only file system images in Linux's EROFS format: reading them anywhere, writing them on a host.
//!
//! [`Image`] reads, over any [`Source`] of bytes, without std and without keeping anything but the
//! superblock. Every value of an image is untrusted: whatever the bytes are, an operation ends after work
//! that its own arguments and the tree's breadth bound, allocates no more than one name list, link or
//! attribute value (64 KiB), and answers with an [`Error`] instead of panicking. What is stored as whole
//! pages can be mapped instead of being read: [`Image::run`] tells where it lies.
//!
//! What is read: uncompressed images of 4096-byte blocks on one device; both forms of inodes; flat, inline
//! and chunked files; extended attributes, inline and shared. Everything else is refused by name.
//! What an image cannot promise and a reader of trees must not expect: that directories form a tree. They
//! may contain each other.
//!
//! `write` (feature `write`, std) makes images that this crate, Linux and erofs-utils read; the same tree
//! gives the same bytes.
//!
//! Source: Linux, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "write")]
extern crate std;

mod checksum;
mod data;
mod directory;
mod error;
mod extended;
mod format;
mod image;
mod inode;
mod map;
mod source;
mod superblock;
#[cfg(feature = "write")]
pub mod write;

pub use data::LINK_MAX;
pub use directory::{Entry, Found};
pub use error::Error;
pub use extended::{NAMES_MAX, VALUE_MAX};
pub use format::{Kind, NAME_MAX, PAGE, Time};
pub use image::Image;
pub use inode::Inode;
pub use map::{Page, Run};
pub use source::Source;
pub use superblock::Superblock;
