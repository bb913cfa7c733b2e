//! What the monitor tells the guest before its first instruction.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::Handle;
use crate::network::{Address, Protocol};

/// Everything the library OS needs to start the service. Byte strings are Linux paths and words: any
/// bytes but NUL.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Boot {
    /// The program as the user named it; a name without a slash is looked up in PATH by the guest.
    pub program: Vec<u8>,
    /// Arguments, the zeroth included.
    pub arguments: Vec<Vec<u8>>,
    /// Environment as `NAME=value` words.
    pub environment: Vec<Vec<u8>>,
    /// Working directory inside the island.
    pub directory: Vec<u8>,
    /// Host name inside the island.
    pub hostname: Vec<u8>,
    /// The user, the group and the further groups the service starts with, as the island sees them.
    pub user: u32,
    pub group: u32,
    pub groups: Vec<u32>,
    /// Number of virtual CPUs, at least 1.
    pub cpus: u16,
    /// Memory the island may use, in bytes: the limit, or what the machine has.
    pub memory: u64,
    /// Bytes the in-guest file systems (overlay and tmpfs) may hold together.
    pub scratch: u64,
    /// Granted trees and where they appear, outermost first. The first is always "/".
    pub mounts: Vec<Mount>,
    /// Granted disks, in the order of their names.
    pub disks: Vec<Disk>,
    /// Limits of the first process (getrlimit(2)), where they are not the usual ones.
    pub limits: Vec<Limit>,
    /// The program is the second process; the first one takes in orphans and waits for them.
    pub init: bool,
    /// Standard input, output and error.
    pub streams: [Stream; 3],
    /// Ports the monitor has bound for this island.
    pub published: Vec<Published>,
    /// Whether anything outside may be connected to at all.
    pub outgoing: bool,
    /// Where system calls are traced to, as strace prints them.
    pub trace: Option<Handle>,
    /// Where the names of the first tree's files go that are looked up, each once and ended by NUL.
    pub record: Option<Handle>,
    /// A debugger is awaited, on [`DEBUGGER_PORT`].
    pub debugger: Option<Debugger>,
    /// Random bytes that no other island has.
    pub seed: [u8; 32],
}

/// A resource limit, by Linux's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub resource: u8,
    pub soft: u64,
    pub hard: u64,
}

/// The number of a granted directory tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tree(pub u16);

/// A granted tree and where it appears.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the island, without `.`, `..` or a trailing slash.
    pub path: Vec<u8>,
    pub tree: Tree,
    pub kind: MountKind,
}

/// How a granted tree may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// Read-only below, an overlay in the guest's memory above it for writes.
    Overlay,
    /// Read-only; writes answer EROFS.
    ReadOnly,
    /// Writes go to the host.
    Writable,
}

/// A granted disk. Its handle is read and written at any offset, and mapped; what was written is stored when
/// [`crate::request::Request::Synchronise`] has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    pub handle: Handle,
    /// Bytes.
    pub length: u64,
    /// Bytes that the disk takes at once, and those that it stores at once.
    pub sector: u32,
    pub physical: u32,
    pub writable: bool,
}

/// What one of the three standard streams is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Nothing: behaves as /dev/null.
    Null,
    /// A host file read or written at its own position.
    File(Handle),
    /// A non-blocking pipe or socket.
    Pipe(Handle),
    /// The terminal side of a pseudo-terminal of the monitor's, non-blocking.
    Terminal(Handle),
}

/// Where the library OS listens for the debugger: no port that a program could have. It is bound like a published
/// port and not told of as one.
pub const DEBUGGER_PORT: u16 = 0;

/// A debugger that will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debugger {
    /// Where the machine listens for it, if the user is to be told.
    pub announced: Option<Address>,
}

/// No port has this number.
pub const EVERY_PORT: u16 = 0;

/// A port that the monitor has bound, and that listens once the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub protocol: Protocol,
    /// The port inside the island; [`EVERY_PORT`]: each, because the island has addresses of its own.
    pub port: u16,
}
