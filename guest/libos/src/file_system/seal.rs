//! Seals of memory files (fcntl(2), "File Sealing"): what can no longer be done to one, for good.

use core::sync::atomic::{AtomicU32, Ordering};

use super::{DiskFile, MemoryFile};
use crate::errno::{Errno, Result};
use crate::file::Description;

// As fcntl(2) numbers them.
pub const SEAL: u32 = 1;
pub const SHRINK: u32 = 2;
pub const GROW: u32 = 4;
pub const WRITE: u32 = 8;
pub const FUTURE_WRITE: u32 = 0x10;
pub const EXECUTE: u32 = 0x20;

/// The seals of one file. A file that was not made to be sealed is sealed against sealing.
pub struct Seals(AtomicU32);

impl Default for Seals {
    fn default() -> Self {
        Self(AtomicU32::new(SEAL))
    }
}

impl Seals {
    /// Seals may be added from now on; with `execute` the mode cannot come to allow execution.
    pub fn allow(&self, execute: bool) {
        self.0.store(if execute { EXECUTE } else { 0 }, Ordering::SeqCst);
    }

    pub fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Adds seals, and says which there were.
    pub fn add(&self, added: u32) -> Result<u32> {
        if added & !0x3f != 0 {
            return Err(Errno::EINVAL);
        }
        let open = |seals: u32| (seals & SEAL == 0).then_some(seals | added);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, open).map_err(|_| Errno::EPERM)
    }

    /// Takes back what was added when there were those of `before`.
    pub fn take_back(&self, added: u32, before: u32) {
        self.0.fetch_and(!(added & !before), Ordering::SeqCst);
    }

    pub fn may_write(&self) -> Result<()> {
        self.refuse(WRITE | FUTURE_WRITE)
    }

    /// Whether the size may go from one to another.
    pub fn may_resize(&self, from: u64, to: u64) -> Result<()> {
        match from.cmp(&to) {
            core::cmp::Ordering::Less => self.refuse(GROW),
            core::cmp::Ordering::Equal => Ok(()),
            core::cmp::Ordering::Greater => self.refuse(SHRINK),
        }
    }

    fn refuse(&self, seals: u32) -> Result<()> {
        if self.get() & seals == 0 { Ok(()) } else { Err(Errno::EPERM) }
    }
}

/// The seals of an open file, if it can have any.
pub fn seals(description: &Description) -> Option<&Seals> {
    description.file_as::<MemoryFile>().map(|file| &file.seals)
}

/// Whether nobody may begin to write an open file's content: it is sealed, or a disk that takes no writes.
pub fn is_sealed(description: &Description) -> bool {
    let disk = description.file_as::<DiskFile>();
    let refuses = disk.is_some_and(|disk| !disk.is_writable());
    refuses || seals(description).is_some_and(|seals| seals.may_write().is_err())
}
