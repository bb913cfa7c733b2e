//! Granted trees: a root descriptor, and what may be done below it.
//!
//! Every look-up starts at the root descriptor, stays beneath it and follows no link of any kind: the
//! kernel refuses, so no race of renames against look-ups leads out. Only regular files and directories
//! are ever opened; a device or a pipe is described but not touched.

mod attributes;
mod change;
mod extended;
mod list;
mod lookup;
mod make;
mod path;

use std::os::fd::OwnedFd;

use abi::file::Owner;
use abi::pico::Owners;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::caller::Caller;
use crate::identity::Identity;

pub use attributes::describe;
pub use change::apply;
pub use list::list;
pub use lookup::{Found, open_named};
pub use path::Relative;

/// What may be done below a tree's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// What an unprivileged user without groups could read, without the masked names at the root: every
    /// directory on the way is searchable by others, what is read is readable by others.
    Others { masked: &'static [&'static str] },
    /// What the caller may read.
    Read,
    /// What the caller may read and write.
    Write,
}

/// A granted tree. Its root may be a single file.
#[derive(Debug)]
pub struct GrantedTree {
    root: OwnedFd,
    directory: bool,
    rights: Rights,
    identity: Identity,
}

impl GrantedTree {
    /// Opens the root; links on the way to it are the caller's own and are followed.
    pub fn open(path: &[u8], rights: Rights, identity: Identity) -> Result<Self, Errno> {
        let root = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let kind = FileType::from_raw_mode(fstat(&root)?.st_mode);
        match kind {
            FileType::Directory | FileType::RegularFile => {
                Ok(Self { root, directory: kind == FileType::Directory, rights, identity })
            }
            _ => Err(Errno::NXIO),
        }
    }

    pub fn is_writable(&self) -> bool {
        self.rights == Rights::Write
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Device and inode number of the root, if it is a directory.
    pub fn directory_identity(&self) -> Result<Option<(u64, u64)>, Errno> {
        let stat = fstat(&self.root)?;
        Ok(self.directory.then_some((stat.st_dev, stat.st_ino)))
    }

    /// How a guest of this caller that looks around itself knows owners: root's sees them as they are,
    /// anybody else's lives in a user name space.
    pub fn owners(&self, caller: Caller) -> Owners {
        match self.shown() {
            Identity::Same if caller.is_root() => Owners::Same,
            Identity::Same => Owners::HiddenAreRoot,
            Identity::Kept { caller, inside } => {
                let outside = Owner { user: caller.user, group: caller.group };
                Owners::Kept { outside, inside }
            }
        }
    }

    /// An error unless the tree may be written to.
    fn for_writing(&self) -> Result<(), Errno> {
        if self.is_writable() { Ok(()) } else { Err(Errno::ROFS) }
    }

    /// Owners are shown as they are where everybody may look, and mapped where the caller's rights count.
    fn shown(&self) -> Identity {
        match self.rights {
            Rights::Others { .. } => Identity::Same,
            Rights::Read | Rights::Write => self.identity,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
