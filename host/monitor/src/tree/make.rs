//! Making, moving and removing names in writable trees.

use std::os::fd::OwnedFd;

use abi::file::{Access, At, Owner};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Uid, chownat, fchown, fstat, openat2};
use rustix::io::Errno;

use super::lookup::{Found, flags};
use super::{GrantedTree, Relative};

/// Permission bits a guest may give: never set-user-ID or set-group-ID, which would lend the caller's
/// rights to others of this machine.
fn permissions(mode: u32, directory: bool) -> Mode {
    Mode::from_raw_mode(mode & if directory { 0o3777 } else { 0o1777 })
}

impl GrantedTree {
    /// Creates a regular file, or opens the one that is there unless it must be new; whether it is.
    pub fn create(
        &self,
        at: At,
        access: Access,
        mode: u32,
        exclusive: bool,
        owner: Owner,
    ) -> Result<(OwnedFd, Found, bool), Errno> {
        self.for_writing()?;
        let path = Relative::check(at.path)?;
        let existing = || self.open_existing(path, access).map(|(file, found)| (file, found, false));
        if path.is_root() {
            return if exclusive { Err(Errno::EXIST) } else { existing() };
        }
        let (parent, name) = self.find_parent(path)?;
        match self.create_new(&parent, name, access, mode) {
            Ok(file) => {
                self.give(owner, |user, group| fchown(&file, user, group))?;
                let stat = fstat(&file)?;
                let place = self.step(&parent, name)?;
                Ok((file, Found { place, stat }, true))
            }
            Err(Errno::EXIST) if !exclusive => existing(),
            Err(error) => Err(error),
        }
    }

    /// O_EXCL always: it is what makes sure that the file is new and no link was followed.
    fn create_new(&self, parent: &OwnedFd, name: &[u8], access: Access, mode: u32) -> Result<OwnedFd, Errno> {
        let always = OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NONBLOCK
            | OFlags::NOCTTY;
        openat2(parent, name, flags(access) | always, permissions(mode, false), super::lookup::BENEATH)
    }

    pub fn make_directory(&self, at: At, mode: u32, owner: Owner) -> Result<(), Errno> {
        self.for_writing()?;
        let (parent, name) = self.find_parent(Relative::check(at.path)?).map_err(exists)?;
        rustix::fs::mkdirat(&parent, name, permissions(mode, true))?;
        self.give(owner, |user, group| chownat(&parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW))
    }

    pub fn make_link(&self, at: At, target: &[u8], owner: Owner) -> Result<(), Errno> {
        self.for_writing()?;
        let (parent, name) = self.find_parent(Relative::check(at.path)?).map_err(exists)?;
        rustix::fs::symlinkat(target, &parent, name)?;
        self.give(owner, |user, group| chownat(&parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW))
    }

    /// link(2). The source is linked by its name in its directory, never through a link.
    pub fn hard_link(&self, from: At, to: At) -> Result<(), Errno> {
        self.for_writing()?;
        let (from, from_name) = self.find_parent(Relative::check(from.path)?)?;
        let (to, to_name) = self.find_parent(Relative::check(to.path)?).map_err(exists)?;
        rustix::fs::linkat(&from, from_name, &to, to_name, AtFlags::empty())
    }

    pub fn rename(&self, from: At, to: At, flags: u32) -> Result<(), Errno> {
        self.for_writing()?;
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        let (from, from_name) = self.find_parent(Relative::check(from.path)?)?;
        let (to, to_name) = self.find_parent(Relative::check(to.path)?)?;
        rustix::fs::renameat_with(&from, from_name, &to, to_name, flags)
    }

    pub fn remove(&self, at: At, directory: bool) -> Result<(), Errno> {
        self.for_writing()?;
        let (parent, name) = self.find_parent(Relative::check(at.path)?)?;
        rustix::fs::unlinkat(&parent, name, if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() })
    }

    /// Gives something new to whom the island says, where owners can be chosen.
    fn give(
        &self,
        owner: Owner,
        chown: impl FnOnce(Option<Uid>, Option<Gid>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        match self.identity().creator(owner) {
            Some(Owner { user: 0, group: 0 }) | None => Ok(()),
            Some(Owner { user: u32::MAX, .. } | Owner { group: u32::MAX, .. }) => Err(Errno::INVAL),
            Some(owner) => chown(Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group))),
        }
    }
}

/// The root itself cannot be made anew: it is there.
fn exists(error: Errno) -> Errno {
    if error == Errno::BUSY { Errno::EXIST } else { error }
}
