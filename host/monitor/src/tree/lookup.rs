//! Finding and opening files below a tree's root.
//!
//! A file is found first without being opened (O_PATH), judged by what it is, and then opened through
//! that very descriptor: between the two nothing can be exchanged.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use abi::file::Access;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, chmodat, fstat, fstatfs, open, openat2,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::{GrantedTree, Relative, Rights};

pub(super) const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const OTHERS_READ: u32 = 0o4;
const OTHERS_SEARCH: u32 = 0o1;
const SET_ID: u32 = 0o6000;

/// A file that was found but not opened.
pub struct Found {
    pub place: OwnedFd,
    pub stat: Stat,
}

impl Found {
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// A path that leads to the found file itself, whatever its name is by now.
    pub fn itself(&self) -> String {
        format!("/proc/self/fd/{}", self.place.as_raw_fd())
    }

    /// Opens a regular file or a directory.
    pub fn open(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.kind() {
            FileType::RegularFile | FileType::Directory => {}
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
            self.drop_privileges()?;
        }
        let always = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        open(self.itself(), flags | always, Mode::empty())
    }
}

impl Found {
    /// Takes set-user-ID and set-group-ID from a file that the island is about to write to. The kernel does
    /// so at a write, but not for memory that is mapped, nor for root's monitor.
    fn drop_privileges(&self) -> Result<(), Errno> {
        if self.stat.st_mode & SET_ID == 0 || self.kind() != FileType::RegularFile {
            return Ok(());
        }
        chmodat(
            CWD,
            self.itself(),
            Mode::from_raw_mode(self.stat.st_mode & !SET_ID & 0o7777),
            AtFlags::empty(),
        )
    }
}

/// How a file is opened for an access.
pub fn flags(access: Access) -> OFlags {
    match access {
        Access::Read | Access::Again { .. } => OFlags::RDONLY,
        Access::Write => OFlags::WRONLY,
        Access::ReadWrite => OFlags::RDWR,
    }
}

impl GrantedTree {
    /// Finds a file; a link is found itself, never what it leads to.
    pub fn find(&self, path: Relative) -> Result<Found, Errno> {
        let place = match self.rights {
            Rights::Others { masked } => self.walk(path, masked)?,
            Rights::Read | Rights::Write => self.step(&self.root, path.bytes())?,
        };
        let stat = fstat(&place)?;
        if matches!(self.rights, Rights::Others { .. }) && is_kernels(&place)? {
            return Err(Errno::NOENT);
        }
        Ok(Found { place, stat })
    }

    /// Finds the directory a path is in.
    pub fn find_parent<'a>(&self, path: Relative<'a>) -> Result<(OwnedFd, &'a [u8]), Errno> {
        let (parent, name) = path.split().ok_or(Errno::BUSY)?;
        Ok((self.find(parent)?.place, name))
    }

    /// Opens a regular file or a directory for an access.
    pub fn open_existing(&self, path: Relative, access: Access) -> Result<(OwnedFd, Found), Errno> {
        if access.writes() {
            self.for_writing()?;
        }
        let found = self.find(path)?;
        self.check_readable(&found)?;
        if let Access::Again { device, inode } = access
            && (device, inode) != (found.stat.st_dev, found.stat.st_ino)
        {
            return Err(Errno::STALE);
        }
        let file = found.open(flags(access))?;
        Ok((file, found))
    }

    /// An error if others may not read what was found, where that is the rule.
    pub fn check_readable(&self, found: &Found) -> Result<(), Errno> {
        match self.rights {
            Rights::Others { .. }
                if found.kind() != FileType::Symlink && found.stat.st_mode & OTHERS_READ == 0 =>
            {
                Err(Errno::ACCESS)
            }
            _ => Ok(()),
        }
    }

    /// One kernel look-up beneath a directory.
    pub(super) fn step(&self, from: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
        if path.is_empty() {
            return fcntl_dupfd_cloexec(from, 0);
        }
        if !self.directory {
            return Err(Errno::NOTDIR);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(from, path, flags, Mode::empty(), BENEATH)
    }

    /// A look-up as somebody without any rights of their own: each directory must be open to others.
    fn walk(&self, path: Relative, masked: &[&str]) -> Result<OwnedFd, Errno> {
        let mut place = self.step(&self.root, b"")?;
        for (depth, name) in path.components().enumerate() {
            let stat = fstat(&place)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                && stat.st_mode & OTHERS_SEARCH == 0
            {
                return Err(Errno::ACCESS);
            }
            let first = path.components().next().unwrap_or_default();
            if depth == 1 && masked.iter().any(|masked| masked.as_bytes() == first) {
                return Err(Errno::NOENT);
            }
            place = self.step(&place, name)?;
        }
        Ok(place)
    }

    /// Whether a directory is one of the masked ones, which are empty.
    pub fn is_masked(&self, path: Relative) -> bool {
        let Rights::Others { masked } = self.rights else { return false };
        masked.iter().any(|masked| masked.as_bytes() == path.bytes())
    }
}

/// Whether this lies in a file system that tells of the kernel and its processes: /proc and /sys are masked
/// at the root, but may be mounted elsewhere, for instance for a chroot.
fn is_kernels(place: &OwnedFd) -> Result<bool, Errno> {
    let kind = fstatfs(place)?.f_type;
    Ok([libc::PROC_SUPER_MAGIC, libc::SYSFS_MAGIC, libc::CGROUP_SUPER_MAGIC, libc::CGROUP2_SUPER_MAGIC]
        .contains(&kind)
        || [libc::DEBUGFS_MAGIC, libc::TRACEFS_MAGIC, libc::SECURITYFS_MAGIC, libc::BPF_FS_MAGIC]
            .contains(&kind))
}

/// Opens what the caller named, for the caller: links are followed, rights are the caller's.
pub fn open_named(path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, mode)
}
