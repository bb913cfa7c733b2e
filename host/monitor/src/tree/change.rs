//! chmod, chown, truncate and utimensat, by path or by opened file.

use std::os::fd::AsFd;

use abi::file::{At, Change, SetTime};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, chmodat, chownat,
    fstat, ftruncate, utimensat,
};
use rustix::io::Errno;

use super::lookup::Found;
use super::{GrantedTree, Relative};
use crate::identity::Identity;

impl GrantedTree {
    /// Changes a file by path.
    pub fn change(&self, at: At, change: Change) -> Result<(), Errno> {
        self.for_writing()?;
        let found = self.find(Relative::check(at.path)?)?;
        if let Some(size) = change.size {
            if found.kind() == FileType::Directory {
                return Err(Errno::ISDIR);
            }
            let file = found.open(OFlags::WRONLY)?;
            ftruncate(&file, size)?;
        }
        apply(found, change, self.identity())
    }
}

/// Changes everything about a file but its size.
pub fn apply(found: Found, change: Change, identity: Identity) -> Result<(), Errno> {
    set_owner(&found.place, change, identity)?;
    if let Some(mode) = change.mode {
        set_mode(&found, mode)?;
    }
    set_times(&found.place, change)
}

fn set_owner(place: impl AsFd, change: Change, identity: Identity) -> Result<(), Errno> {
    if change.user.is_none() && change.group.is_none() {
        return Ok(());
    }
    let user =
        change.user.map(|user| identity.user(user).filter(|&user| user != u32::MAX).ok_or(Errno::PERM));
    let group =
        change.group.map(|group| identity.group(group).filter(|&group| group != u32::MAX).ok_or(Errno::PERM));
    let (user, group) = (user.transpose()?.map(Uid::from_raw), group.transpose()?.map(Gid::from_raw));
    chownat(place, "", user, group, AtFlags::EMPTY_PATH)
}

/// Set-user-ID and set-group-ID of files are dropped silently: they would lend the caller's rights to
/// others of this machine.
fn set_mode(found: &Found, mode: u32) -> Result<(), Errno> {
    let mask = match found.kind() {
        FileType::Directory => 0o3777,
        FileType::RegularFile => 0o1777,
        _ => return Err(Errno::OPNOTSUPP),
    };
    chmodat(rustix::fs::CWD, found.itself(), Mode::from_raw_mode(mode & mask), AtFlags::empty())
}

fn set_times(place: impl AsFd, change: Change) -> Result<(), Errno> {
    if change.accessed.is_none() && change.modified.is_none() {
        return Ok(());
    }
    let times =
        Timestamps { last_access: timespec(change.accessed), last_modification: timespec(change.modified) };
    utimensat(place, "", &times, AtFlags::EMPTY_PATH)
}

fn timespec(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(ns)) => {
            Timespec { tv_sec: ns.div_euclid(1_000_000_000), tv_nsec: ns.rem_euclid(1_000_000_000) }
        }
    }
}

impl Found {
    /// What an opened file is, found again through its descriptor.
    pub fn of(file: impl AsFd) -> Result<Self, Errno> {
        let place = rustix::io::fcntl_dupfd_cloexec(&file, 0)?;
        let stat = fstat(&place)?;
        Ok(Self { place, stat })
    }
}
