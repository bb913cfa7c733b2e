//! Calls on names: looking, making, removing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::flag;
use crate::file_system::{
    self, BLOCK, Bounds, CHARACTER, Device, Follow, Kind, Location, make, make_directory, make_hard_link,
    make_link, permits, remove, rename, walk, walk_parent, want,
};
use crate::thread::Thread;
use crate::user;

pub(super) const AT_FDCWD: i32 = -100;
pub(super) const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EACCESS: u32 = 0x200;
const AT_SYMLINK_FOLLOW: u32 = 0x400;
pub(super) const AT_NO_AUTOMOUNT: u32 = 0x800;
pub(super) const AT_EMPTY_PATH: u32 = 0x1000;

/// A directory descriptor and a path, taken from the program.
pub(super) struct Named {
    pub start: Location,
    pub path: Vec<u8>,
}

/// Where a relative path starts.
pub(super) fn start(call: &Call<'_>, directory: i32, path: &[u8]) -> Result<Location> {
    if directory == AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(call.thread.file_system().directory());
    }
    let description = call.process().files.any(directory as u32 as u64)?;
    description.location.clone().ok_or(Errno::ENOTDIR)
}

pub(super) fn named(call: &Call<'_>, directory: i32, address: u64) -> Result<Named> {
    let path = user::read_path(call.thread, address)?;
    let start = start(call, directory, &path)?;
    Ok(Named { start, path })
}

impl Named {
    /// The entry; an empty path names the start itself if `empty` allows it.
    pub(super) async fn find(&self, thread: &Arc<Thread>, follow: Follow, empty: bool) -> Result<Location> {
        if self.path.is_empty() {
            return if empty { Ok(self.start.clone()) } else { Err(Errno::ENOENT) };
        }
        walk(thread, &self.start, &self.path, follow).await
    }
    pub(super) async fn find_parent(&self, thread: &Arc<Thread>) -> Result<file_system::Found> {
        walk_parent(thread, &self.start, &self.path).await
    }
}

/// Fails if there are other flags than these.
pub(super) fn only(flags: u32, known: u32) -> Result<()> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

pub(super) fn follow_unless(flags: u32, bit: u32) -> Follow {
    if flags & bit != 0 { Follow::No } else { Follow::Yes }
}

/// Runs a call that ends without a value.
pub(super) fn act<F>(call: &Call<'_>, future: F) -> Outcome
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    call.wait(async move { future.await.map(|()| 0) })
}

fn access_at(call: &mut Call<'_>, directory: i32, path: u64, mode: u32, flags: u32) -> Outcome {
    attempt!(only(flags, AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
    if mode & !7 != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let named = attempt!(named(call, directory, path));
    let thread = call.thread.clone();
    act(call, async move {
        let entry = named
            .find(&thread, follow_unless(flags, AT_SYMLINK_NOFOLLOW), flags & AT_EMPTY_PATH != 0)
            .await?;
        let mut identity = thread.process.who();
        if flags & AT_EACCESS == 0 {
            identity.user = identity.real_user;
            identity.group = identity.real_group;
        }
        if mode & want::WRITE != 0 && read_only(&entry) {
            return Err(Errno::EROFS);
        }
        permits(&identity, &entry.node.attributes(), mode)
    })
}

/// Whether an entry lies on a tree that takes no writes at all.
fn read_only(entry: &Location) -> bool {
    match &entry.node.kind {
        Kind::Host(leaf) => !leaf.overlay && !leaf.writable,
        Kind::Directory(directory) => !directory.overlay && !directory.writable,
        _ => false,
    }
}

pub fn access(call: &mut Call<'_>) -> Outcome {
    access_at(call, AT_FDCWD, call.arguments[0], call.word(1), 0)
}
pub fn faccessat(call: &mut Call<'_>) -> Outcome {
    access_at(call, call.int(0), call.arguments[1], call.word(2), 0)
}
pub fn faccessat2(call: &mut Call<'_>) -> Outcome {
    access_at(call, call.int(0), call.arguments[1], call.word(2), call.word(3))
}

fn read_link_at(call: &mut Call<'_>, directory: i32, path: u64, to: u64, length: u64) -> Outcome {
    if length as i32 <= 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let named = attempt!(named(call, directory, path));
    let thread = call.thread.clone();
    call.wait(async move {
        let entry = named.find(&thread, Follow::No, true).await?;
        let target = file_system::link_text(&thread, &entry).await?;
        let length = target.len().min(length as usize);
        user::write(&thread, to, &target[..length])?;
        Ok(length as u64)
    })
}

pub fn readlink(call: &mut Call<'_>) -> Outcome {
    read_link_at(call, AT_FDCWD, call.arguments[0], call.arguments[1], call.arguments[2])
}
pub fn readlinkat(call: &mut Call<'_>) -> Outcome {
    read_link_at(call, call.int(0), call.arguments[1], call.arguments[2], call.arguments[3])
}

fn make_directory_at(call: &mut Call<'_>, directory: i32, path: u64, mode: u32) -> Outcome {
    let named = attempt!(named(call, directory, path));
    let thread = call.thread.clone();
    act(call, async move {
        let found = named.find_parent(&thread).await?;
        make_directory(&thread, &found, mode).await
    })
}
pub fn mkdir(call: &mut Call<'_>) -> Outcome {
    make_directory_at(call, AT_FDCWD, call.arguments[0], call.word(1))
}
pub fn mkdirat(call: &mut Call<'_>) -> Outcome {
    make_directory_at(call, call.int(0), call.arguments[1], call.word(2))
}

fn make_node_at(call: &mut Call<'_>, directory: i32, path: u64, mode: u32, number: u32) -> Outcome {
    let special = u64::from(number);
    let named = attempt!(named(call, directory, path));
    let thread = call.thread.clone();
    act(call, async move {
        let found = named.find_parent(&thread).await?;
        let permissions = thread.file_system().masked(mode & 0o7777);
        match mode & 0o170000 {
            0 | 0o100000 => {
                let flags = flag::CREATE | flag::EXCLUSIVE | flag::WRONLY;
                let bounds = Bounds::default();
                file_system::opened(&thread, &bounds, &named.start, &named.path, flags, mode & 0o7777)
                    .await
                    .map(drop)
            }
            0o010000 => {
                let kind = |_: &_| Kind::Fifo(Default::default());
                make(&thread, &found.parent, &found.name, 0o010000 | permissions, kind).await.map(drop)
            }
            0o140000 => make(&thread, &found.parent, &found.name, 0o140000 | permissions, |_| Kind::Socket)
                .await
                .map(drop),
            kind @ (CHARACTER | BLOCK) => {
                let device = Kind::Device(Device::numbered(kind, special));
                if !thread.process.identity.lock().privileged() {
                    return Err(Errno::EPERM);
                }
                let made = make(&thread, &found.parent, &found.name, kind | permissions, |_| device).await?;
                made.node.meta.lock().special = special;
                Ok(())
            }
            0o040000 => Err(Errno::EPERM),
            _ => Err(Errno::EINVAL),
        }
    })
}
pub fn mknod(call: &mut Call<'_>) -> Outcome {
    make_node_at(call, AT_FDCWD, call.arguments[0], call.word(1), call.word(2))
}
pub fn mknodat(call: &mut Call<'_>) -> Outcome {
    make_node_at(call, call.int(0), call.arguments[1], call.word(2), call.word(3))
}

fn remove_at(call: &mut Call<'_>, directory: i32, path: u64, whole: bool) -> Outcome {
    let named = attempt!(named(call, directory, path));
    let thread = call.thread.clone();
    act(call, async move {
        let found = named.find_parent(&thread).await?;
        if found.slash && !whole {
            return Err(Errno::ENOTDIR);
        }
        remove(&thread, &found, whole).await
    })
}
pub fn unlink(call: &mut Call<'_>) -> Outcome {
    remove_at(call, AT_FDCWD, call.arguments[0], false)
}
pub fn rmdir(call: &mut Call<'_>) -> Outcome {
    remove_at(call, AT_FDCWD, call.arguments[0], true)
}
pub fn unlinkat(call: &mut Call<'_>) -> Outcome {
    if call.word(2) & !0x200 != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    remove_at(call, call.int(0), call.arguments[1], call.word(2) & 0x200 != 0)
}

fn rename_at(call: &mut Call<'_>, from: (i32, u64), to: (i32, u64), flags: u32) -> Outcome {
    attempt!(only(flags, file_system::NO_REPLACE | file_system::EXCHANGE));
    if flags == file_system::NO_REPLACE | file_system::EXCHANGE {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let from = attempt!(named(call, from.0, from.1));
    let to = attempt!(named(call, to.0, to.1));
    let thread = call.thread.clone();
    act(call, async move {
        let source = from.find_parent(&thread).await?;
        let target = to.find_parent(&thread).await?;
        rename(&thread, &source, &target, flags).await
    })
}
pub fn rename_(call: &mut Call<'_>) -> Outcome {
    rename_at(call, (AT_FDCWD, call.arguments[0]), (AT_FDCWD, call.arguments[1]), 0)
}
pub fn renameat(call: &mut Call<'_>) -> Outcome {
    rename_at(call, (call.int(0), call.arguments[1]), (call.int(2), call.arguments[3]), 0)
}
pub fn renameat2(call: &mut Call<'_>) -> Outcome {
    rename_at(call, (call.int(0), call.arguments[1]), (call.int(2), call.arguments[3]), call.word(4))
}

fn link_at(call: &mut Call<'_>, from: (i32, u64), to: (i32, u64), flags: u32) -> Outcome {
    attempt!(only(flags, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH));
    let from = attempt!(named(call, from.0, from.1));
    let to = attempt!(named(call, to.0, to.1));
    let thread = call.thread.clone();
    act(call, async move {
        let follow = if flags & AT_SYMLINK_FOLLOW != 0 { Follow::Yes } else { Follow::No };
        let source = from.find(&thread, follow, flags & AT_EMPTY_PATH != 0).await?;
        let found = to.find_parent(&thread).await?;
        make_hard_link(&thread, &source, &found).await
    })
}
pub fn link(call: &mut Call<'_>) -> Outcome {
    link_at(call, (AT_FDCWD, call.arguments[0]), (AT_FDCWD, call.arguments[1]), 0)
}
pub fn linkat(call: &mut Call<'_>) -> Outcome {
    link_at(call, (call.int(0), call.arguments[1]), (call.int(2), call.arguments[3]), call.word(4))
}

fn symlink_at(call: &mut Call<'_>, target: u64, directory: i32, path: u64) -> Outcome {
    let target = attempt!(user::read_path(call.thread, target));
    let named = attempt!(named(call, directory, path));
    let thread = call.thread.clone();
    act(call, async move {
        if target.is_empty() {
            return Err(Errno::ENOENT);
        }
        let found = named.find_parent(&thread).await?;
        make_link(&thread, &found, &target).await
    })
}
pub fn symlink(call: &mut Call<'_>) -> Outcome {
    symlink_at(call, call.arguments[0], AT_FDCWD, call.arguments[1])
}
pub fn symlinkat(call: &mut Call<'_>) -> Outcome {
    symlink_at(call, call.arguments[0], call.int(1), call.arguments[2])
}
