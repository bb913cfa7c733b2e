//! User memory, named but never dereferenced.

use abi::Handle;
use bitflags::bitflags;

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// An application's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space(pub u32);

impl Space {
    /// The one that is there from the start.
    pub const FIRST: Self = Self(0);
}

/// A range of user addresses, as an application claims it. It is not known to be mapped, nor to end
/// below `user_end`, nor even not to wrap around: only the machine's calls resolve it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRange {
    pub address: u64,
    pub length: u64,
}

impl UserRange {
    pub const fn new(address: u64, length: u64) -> Self {
        Self { address, length }
    }
    /// The first address behind the range; saturates instead of wrapping around.
    pub const fn end(self) -> u64 {
        self.address.saturating_add(self.length)
    }
}

bitflags! {
    /// What may be done with pages.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u8 {
        const READ = 1;
        const WRITE = 2;
        const EXECUTE = 4;
    }
}

/// Where the content of a mapping comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Zeroes, private.
    Anonymous,
    /// A granted file or memory object from a page-aligned offset on; private copies on write, or
    /// `shared` with every other mapping of it.
    File { handle: Handle, offset: u64, shared: bool },
}

/// What an application knows about its future use of pages (madvise(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// MADV_DONTNEED: the content is dropped at once.
    Discard,
    /// MADV_FREE: the content may be dropped.
    Free,
    /// MADV_WILLNEED.
    WillNeed,
    /// MADV_POPULATE_WRITE, for MAP_POPULATE and mlock.
    Populate,
    HugePages,
    SmallPages,
    /// MADV_REMOVE: a hole in the shared object behind the range.
    Remove,
}

/// A user address that cannot be read or written: EFAULT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;
