//! Files of a granted tree, as both sides name and describe them.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::boot::Tree;

/// A place in a granted tree. The path is relative to the tree's root (empty: the root itself), has no
/// `.`, no `..` and no empty component, and no component of it but the last may be a symbolic link: the
/// guest resolves links itself, the monitor refuses to follow any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At<'a> {
    pub tree: Tree,
    pub path: &'a [u8],
}

/// What stat(2) tells of a file. Times are nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    pub device: u64,
    pub inode: u64,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u32,
    pub links: u32,
    /// Owner as the island sees it.
    pub user: u32,
    pub group: u32,
    /// Device number of a device node.
    pub special: u64,
    pub size: u64,
    pub block_size: u32,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    pub accessed_ns: i64,
    pub modified_ns: i64,
    pub changed_ns: i64,
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    Read,
    Write,
    ReadWrite,
    /// For reading, provided that it is still this file (ESTALE): how a file that the guest has opened
    /// itself becomes one that the monitor knows.
    Again {
        device: u64,
        inode: u64,
    },
}

impl Access {
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }
}

/// How much is stored when a file is synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// What is needed to read its data back (fdatasync(2)).
    Data,
    /// All of it (fsync(2)).
    File,
    /// The file system that it is in (syncfs(2)), provided that its tree may be written to.
    FileSystem,
}

/// Who a new file belongs to, as the island sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub user: u32,
    pub group: u32,
}

/// What to change about a file; `None` leaves a thing as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub size: Option<u64>,
    pub accessed: Option<SetTime>,
    pub modified: Option<SetTime>,
}

/// A time to set, as utimensat(2) has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetTime {
    Now,
    /// Nanoseconds since the epoch.
    At(i64),
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: Vec<u8>,
    pub inode: u64,
    /// File type as in `d_type` (readdir(3)).
    pub kind: u8,
}

/// What statfs(2) tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    pub kind: u64,
    pub block_size: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_length: u64,
}
