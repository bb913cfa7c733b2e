//! What a guest asks, and what it is answered.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::Handle;
use crate::file::{Access, At, Attributes, Change, Entry, Extent, Owner, Statistics};
use crate::network::{Address, Protocol};
use crate::terminal::{Settings, When, Window};

/// A request of the guest. Every one is checked against the plan: nothing that was not granted can be
/// named, and what is named is not thereby granted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Request<'a> {
    /// lstat(2) → [`Reply::Attributes`].
    Attributes {
        at: At<'a>,
    },
    /// Opens an existing regular file or directory, never a link, a device or a pipe (ELOOP, ENXIO) →
    /// [`Reply::Opened`]. A directory's descriptor stays with the monitor (a way up would go with it):
    /// its handle serves only as the subject of further requests.
    Open {
        at: At<'a>,
        access: Access,
    },
    /// Creates a regular file and opens it; with `exclusive` an existing one answers EEXIST →
    /// [`Reply::Opened`].
    Create {
        at: At<'a>,
        access: Access,
        mode: u32,
        exclusive: bool,
        owner: Owner,
    },
    /// Lists a directory from a cookie on (0: from the start) → [`Reply::Entries`].
    List {
        at: At<'a>,
        cookie: u64,
    },
    /// readlink(2) → [`Reply::Bytes`].
    ReadLink {
        at: At<'a>,
    },
    MakeDirectory {
        at: At<'a>,
        mode: u32,
        owner: Owner,
    },
    /// symlink(2).
    MakeLink {
        at: At<'a>,
        target: &'a [u8],
        owner: Owner,
    },
    /// link(2), within one tree.
    HardLink {
        from: At<'a>,
        to: At<'a>,
    },
    /// renameat2(2) with its flags (RENAME_NOREPLACE, RENAME_EXCHANGE), within one tree.
    Rename {
        from: At<'a>,
        to: At<'a>,
        flags: u32,
    },
    /// unlink(2), or rmdir(2) with `directory`.
    Remove {
        at: At<'a>,
        directory: bool,
    },
    /// chmod, chown, truncate, utimensat by path; links are not followed.
    Change {
        at: At<'a>,
        change: Change,
    },
    /// statfs(2) → [`Reply::Statistics`].
    Statistics {
        at: At<'a>,
    },
    /// getxattr(2) in the `user.` name space → [`Reply::Bytes`].
    GetExtended {
        at: At<'a>,
        name: &'a [u8],
    },
    /// setxattr(2); `flags` as there.
    SetExtended {
        at: At<'a>,
        name: &'a [u8],
        value: &'a [u8],
        flags: u32,
    },
    /// listxattr(2) → [`Reply::Bytes`], names ended by NUL.
    ListExtended {
        at: At<'a>,
    },
    RemoveExtended {
        at: At<'a>,
        name: &'a [u8],
    },

    /// fstat(2) → [`Reply::Attributes`].
    HandleAttributes {
        handle: Handle,
    },
    /// fchmod, fchown, ftruncate, futimens.
    HandleChange {
        handle: Handle,
        change: Change,
    },
    /// fsync(2), fdatasync(2) or syncfs(2).
    Synchronise {
        handle: Handle,
        extent: Extent,
    },
    /// fallocate(2) with its mode.
    Allocate {
        handle: Handle,
        mode: u32,
        offset: u64,
        length: u64,
    },
    /// lseek(2) with SEEK_DATA, or SEEK_HOLE with `hole` → [`Reply::Number`].
    Seek {
        handle: Handle,
        offset: u64,
        hole: bool,
    },
    /// The guest has closed its descriptor; the monitor forgets the object. No reply.
    Forget {
        object: u32,
    },
    /// A new memory object of `length` bytes that reads, writes and maps like a file →
    /// [`Reply::Opened`].
    MakeMemory {
        length: u64,
    },

    /// Starts to listen on a published port → [`Reply::Socket`].
    Listen {
        port: u16,
        backlog: u32,
    },
    /// The datagram socket bound to a published port, or (port 0) a fresh one → [`Reply::Socket`]; its
    /// descriptor carries packets with a header ([`crate::network::DATAGRAM_HEADER`]).
    Datagram {
        port: u16,
    },
    /// Connects to a granted destination; answers when the connection stands or failed →
    /// [`Reply::Socket`].
    Connect {
        protocol: Protocol,
        destination: Address,
    },
    /// Sends one datagram from a granted socket to a granted destination, or to a peer it has heard
    /// from → [`Reply::Number`].
    SendDatagram {
        handle: Handle,
        destination: Address,
        data: &'a [u8],
    },
    /// Answers one DNS message for granted names only → [`Reply::Bytes`].
    Resolve {
        message: &'a [u8],
    },

    /// tcgetattr → [`Reply::Terminal`].
    TerminalSettings {
        handle: Handle,
    },
    SetTerminalSettings {
        handle: Handle,
        settings: Settings,
        when: When,
    },
    SetTerminalWindow {
        handle: Handle,
        window: Window,
    },
    /// tcflush(3) with its queue selector.
    FlushTerminal {
        handle: Handle,
        queue: u32,
    },

    /// How much memory the guest holds → [`Reply::MemoryUse`].
    MemoryUse,
    /// One line for the user on standard error. No reply.
    Say {
        text: &'a str,
    },
    /// The guest has taken a signal (Linux number) that it was told of. No reply.
    Heard {
        signal: u8,
    },
}

impl Request<'_> {
    /// Whether the monitor answers it with nothing.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Forget { .. } | Self::Say { .. } | Self::Heard { .. })
    }
}

/// An answer; which variant belongs to which request stands there. Requests without a note answer
/// [`Reply::Done`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Attributes(Attributes),
    /// An opened file; on pico its descriptor travels with the message, and the handle's descriptor
    /// half is for the receiver to fill in. Directories come without (half: `u32::MAX`). `made`: there was no such
    /// file before.
    Opened {
        handle: Handle,
        attributes: Attributes,
        made: bool,
    },
    /// Entries without `.` and `..`, and the cookie to go on from.
    Entries {
        entries: Vec<Entry>,
        next: Option<u64>,
    },
    Bytes(Vec<u8>),
    Number(u64),
    Statistics(Statistics),
    /// A socket with its own and (if connected) its peer's address.
    Socket {
        handle: Handle,
        local: Address,
        peer: Option<Address>,
    },
    Terminal {
        settings: Settings,
        window: Window,
    },
    /// Bytes that are resident, and the most that ever were.
    MemoryUse {
        resident: u64,
        peak: u64,
    },
}
