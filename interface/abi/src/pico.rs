//! What only a picoprocess and its monitor share: descriptor numbers, the boot page.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::boot::{Boot, Tree};
use crate::file::Owner;

/// The library OS's state: one shared mapping of [`descriptor::STATE`], on which heap and stacks live.
pub const STATE_BASE: u64 = 0x7e10_0000_0000;

/// The signal with which the guest takes its threads back from the application (SIGURG).
pub const KICK: u32 = 23;

/// Descriptors every picoprocess starts with.
pub mod descriptor {
    /// Sequenced-packet socket to the monitor, non-blocking.
    pub const CONTROL: u32 = 3;
    /// Memory file holding [`super::Start`], read-only.
    pub const BOOT: u32 = 4;
    /// Memory file for the library OS's state, sealed against growing and shrinking.
    pub const STATE: u32 = 5;
    /// The epoll instance for granted descriptors.
    pub const EPOLL: u32 = 6;
    /// The event counter that ends an idle wait.
    pub const WAKE: u32 = 7;
    /// The epoll instance for the ends of the guest's processes.
    pub const ENDS: u32 = 8;
    /// The one for the end of the first of them.
    pub const FIRST: u32 = 9;
    /// Where the granted descriptors start that [`super::Start::boot`] names. Descriptors 0 to 2 are
    /// /dev/null.
    pub const FIRST_FREE: u32 = 10;
}

/// What the image reads from [`descriptor::BOOT`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    pub boot: Boot,
    /// Parts of trees that the guest may look up directly with openat, newfstatat, getdents64 and
    /// readlinkat. Empty: none, and the filter allows none of these calls.
    pub direct: Vec<Direct>,
    /// Length of the state file in bytes.
    pub state_length: u64,
    /// The seccomp filter to install before the first application instruction: one
    /// `struct sock_filter` each.
    pub filter: Vec<u64>,
    /// The number of logical CPUs the process may run on.
    pub host_cpus: u16,
    /// How many address spaces there may be, so that none lacks a thread.
    pub spaces: u32,
}

/// A part of a tree that the guest looks up itself. Everything else of the tree is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Direct {
    pub tree: Tree,
    /// The part: a path relative to the tree's root, as in [`crate::file::At`]; empty: all of it.
    pub part: Vec<u8>,
    /// Where the part is in the process's own root: an absolute path.
    pub path: Vec<u8>,
    /// Paths relative to the part that are empty here and must be asked for.
    pub except: Vec<Vec<u8>>,
    pub owners: Owners,
}

/// What the owners that are seen mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owners {
    /// Themselves.
    Same,
    /// Those that are hidden (the user namespace shows 65534 for them) are root, the others themselves.
    HiddenAreRoot,
    /// Only `outside` is known, as `inside`; everybody else is nobody.
    Kept { outside: Owner, inside: Owner },
}
