//! What stat(2) tells, as the island sees it.

use abi::file::{At, Attributes, Owner, Statistics};
use rustix::fs::{Stat, fstatfs};
use rustix::io::Errno;

use super::{GrantedTree, Relative};
use crate::identity::Identity;

/// Describes a file to the island.
pub fn describe(stat: &Stat, identity: Identity) -> Attributes {
    let owner = identity.show(Owner { user: stat.st_uid, group: stat.st_gid });
    Attributes {
        device: stat.st_dev,
        inode: stat.st_ino,
        mode: stat.st_mode,
        links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        user: owner.user,
        group: owner.group,
        special: stat.st_rdev,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        block_size: u32::try_from(stat.st_blksize).unwrap_or(4096),
        blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
        accessed_ns: nanoseconds(stat.st_atime, stat.st_atime_nsec),
        modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
        changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn nanoseconds(seconds: i64, part: impl TryInto<i64>) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(part.try_into().unwrap_or(0))
}

impl GrantedTree {
    /// lstat(2).
    pub fn attributes(&self, at: At) -> Result<Attributes, Errno> {
        let found = self.find(Relative::check(at.path)?)?;
        Ok(describe(&found.stat, self.shown()))
    }

    /// Describes what was opened in this tree.
    pub fn describe(&self, stat: &Stat) -> Attributes {
        describe(stat, self.shown())
    }

    /// readlink(2).
    pub fn read_link(&self, at: At) -> Result<Vec<u8>, Errno> {
        let found = self.find(Relative::check(at.path)?)?;
        if found.kind() != rustix::fs::FileType::Symlink {
            return Err(Errno::INVAL);
        }
        rustix::fs::readlinkat(&found.place, "", Vec::new()).map(|target| target.into_bytes())
    }

    /// statfs(2).
    pub fn statistics(&self, at: At) -> Result<Statistics, Errno> {
        let found = self.find(Relative::check(at.path)?)?;
        let told = fstatfs(&found.place)?;
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        Ok(Statistics {
            kind: number(told.f_type),
            block_size: number(told.f_bsize),
            blocks: told.f_blocks,
            blocks_free: told.f_bfree,
            blocks_available: told.f_bavail,
            files: told.f_files,
            files_free: told.f_ffree,
            name_length: number(told.f_namelen),
        })
    }
}
