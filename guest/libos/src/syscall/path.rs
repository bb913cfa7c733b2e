//! Calls on names: opening, looking, making, removing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::Future;
use core::sync::atomic::Ordering;

use abi::file::{Attributes, Change, SetTime, Statistics};
use abi::request::{Reply, Request};

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Description, Slot, flag};
use crate::file_system::{
    self, DirectoryFile, Follow, Kind, Location, change_attributes, happened, make, make_directory,
    make_hard_link, make_link, permits, remove, rename, walk, walk_parent, want,
};
use crate::thread::Thread;
use crate::user;

pub(super) const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u32 = 0x100;
const AT_EACCESS: u32 = 0x200;
const AT_SYMLINK_FOLLOW: u32 = 0x400;
const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_EMPTY_PATH: u32 = 0x1000;
/// How fresh the answer of statx(2) shall be; it always is.
const AT_STATX_SYNC_TYPE: u32 = 0x6000;

/// A directory descriptor and a path, taken from the program.
pub(super) struct Named {
    pub start: Location,
    pub path: Vec<u8>,
}

/// Where a relative path starts.
fn start(call: &Call<'_>, directory: i32, path: &[u8]) -> Result<Location> {
    if directory == AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(call.process().directory.lock().clone());
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
    async fn find(&self, thread: &Arc<Thread>, follow: Follow, empty: bool) -> Result<Location> {
        if self.path.is_empty() {
            return if empty { Ok(self.start.clone()) } else { Err(Errno::ENOENT) };
        }
        walk(thread, &self.start, &self.path, follow).await
    }
    async fn find_parent(&self, thread: &Arc<Thread>) -> Result<file_system::Found> {
        walk_parent(thread, &self.start, &self.path).await
    }
}

/// Fails if there are other flags than these.
fn only(flags: u32, known: u32) -> Result<()> {
    if flags & !known == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn follow_unless(flags: u32, bit: u32) -> Follow {
    if flags & bit != 0 { Follow::No } else { Follow::Yes }
}

/// Runs a call that ends without a value.
fn act<F>(call: &Call<'_>, future: F) -> Outcome
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    call.wait(async move { future.await.map(|()| 0) })
}

fn open_at(call: &mut Call<'_>, directory: i32, address: u64, flags: u32, mode: u32) -> Outcome {
    let Named { start, path } = attempt!(named(call, directory, address));
    let thread = call.thread.clone();
    if path.is_empty() {
        return Err::<u64, _>(Errno::ENOENT).into();
    }
    call.wait(async move {
        let process = &thread.process;
        let description = if flags & flag::TEMPORARY == flag::TEMPORARY {
            file_system::temporary(&thread, &start, &path, flags, mode).await?
        } else {
            file_system::opened(&thread, &start, &path, flags, mode).await?
        };
        let slot = Slot { description, close_on_exec: flags & flag::CLOSE_ON_EXEC != 0 };
        process.files.add(slot, 0, process.limit(7))
    })
}

pub fn open(call: &mut Call<'_>) -> Outcome {
    let (address, flags, mode) = (call.arguments[0], call.word(1), call.word(2));
    open_at(call, AT_FDCWD, address, flags, mode)
}
pub fn openat(call: &mut Call<'_>) -> Outcome {
    let (directory, address, flags, mode) = (call.int(0), call.arguments[1], call.word(2), call.word(3));
    open_at(call, directory, address, flags, mode)
}
pub fn creat(call: &mut Call<'_>) -> Outcome {
    let (address, mode) = (call.arguments[0], call.word(1));
    open_at(call, AT_FDCWD, address, flag::CREATE | flag::WRONLY | flag::TRUNCATE, mode)
}

/// `struct stat` of x86-64.
fn encode_stat(a: &Attributes) -> [u8; 144] {
    let mut bytes = [0; 144];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, &a.device.to_le_bytes());
    put(8, &a.inode.to_le_bytes());
    put(16, &u64::from(a.links).to_le_bytes());
    put(24, &a.mode.to_le_bytes());
    put(28, &a.user.to_le_bytes());
    put(32, &a.group.to_le_bytes());
    put(40, &a.special.to_le_bytes());
    put(48, &a.size.to_le_bytes());
    put(56, &u64::from(a.block_size).to_le_bytes());
    put(64, &a.blocks.to_le_bytes());
    for (index, time_ns) in [a.accessed_ns, a.modified_ns, a.changed_ns].into_iter().enumerate() {
        put(72 + index * 16, &time_ns.div_euclid(1_000_000_000).to_le_bytes());
        put(80 + index * 16, &time_ns.rem_euclid(1_000_000_000).to_le_bytes());
    }
    bytes
}

/// `struct statx` (statx(2)).
fn encode_statx(a: &Attributes) -> [u8; 256] {
    let mut bytes = [0; 256];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, &0x7ff_u32.to_le_bytes());
    put(4, &a.block_size.to_le_bytes());
    put(16, &a.links.to_le_bytes());
    put(20, &a.user.to_le_bytes());
    put(24, &a.group.to_le_bytes());
    put(28, &(a.mode as u16).to_le_bytes());
    put(32, &a.inode.to_le_bytes());
    put(40, &a.size.to_le_bytes());
    put(48, &a.blocks.to_le_bytes());
    for (offset, time_ns) in [(64, a.accessed_ns), (96, a.changed_ns), (112, a.modified_ns)] {
        put(offset, &time_ns.div_euclid(1_000_000_000).to_le_bytes());
        put(offset + 8, &(time_ns.rem_euclid(1_000_000_000) as u32).to_le_bytes());
    }
    let major = |device: u64| (device >> 8 & 0xfff) as u32;
    let minor = |device: u64| (device & 0xff | device >> 12 & 0xfff00) as u32;
    put(128, &major(a.special).to_le_bytes());
    put(132, &minor(a.special).to_le_bytes());
    put(136, &major(a.device).to_le_bytes());
    put(140, &minor(a.device).to_le_bytes());
    bytes
}

#[derive(Clone, Copy)]
enum Format {
    Stat,
    Statx,
}

fn stat_at(call: &mut Call<'_>, directory: i32, path: u64, to: u64, flags: u32, format: Format) -> Outcome {
    let freshness = if matches!(format, Format::Statx) { AT_STATX_SYNC_TYPE } else { 0 };
    attempt!(only(flags, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | freshness));
    let named = if path == 0 && flags & AT_EMPTY_PATH != 0 {
        Named { start: attempt!(start(call, AT_FDCWD, b"")), path: Vec::new() }
    } else {
        let path = attempt!(user::read_path(call.thread, path));
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 && directory != AT_FDCWD {
            return stat_descriptor(call, directory as u32 as u64, to, format);
        }
        Named { start: attempt!(start(call, directory, &path)), path }
    };
    let thread = call.thread.clone();
    act(call, async move {
        let entry = named
            .find(&thread, follow_unless(flags, AT_SYMLINK_NOFOLLOW), flags & AT_EMPTY_PATH != 0)
            .await?;
        write_stat(&thread, to, &file_system::attributes(&thread, &entry).await?, format)
    })
}

fn write_stat(thread: &Arc<Thread>, to: u64, attributes: &Attributes, format: Format) -> Result<()> {
    match format {
        Format::Stat => user::write(thread, to, &encode_stat(attributes)),
        Format::Statx => user::write(thread, to, &encode_statx(attributes)),
    }
}

fn stat_descriptor(call: &mut Call<'_>, number: u64, to: u64, format: Format) -> Outcome {
    let description = attempt!(call.process().files.any(number));
    let attributes = description.file.attributes(call.thread);
    let thread = call.thread.clone();
    act(call, async move {
        let attributes = attributes.await?;
        drop(description);
        write_stat(&thread, to, &attributes, format)
    })
}

pub fn stat(call: &mut Call<'_>) -> Outcome {
    stat_at(call, AT_FDCWD, call.arguments[0], call.arguments[1], 0, Format::Stat)
}
pub fn lstat(call: &mut Call<'_>) -> Outcome {
    stat_at(call, AT_FDCWD, call.arguments[0], call.arguments[1], AT_SYMLINK_NOFOLLOW, Format::Stat)
}
pub fn fstat(call: &mut Call<'_>) -> Outcome {
    stat_descriptor(call, call.arguments[0], call.arguments[1], Format::Stat)
}
pub fn newfstatat(call: &mut Call<'_>) -> Outcome {
    stat_at(call, call.int(0), call.arguments[1], call.arguments[2], call.word(3), Format::Stat)
}
pub fn statx(call: &mut Call<'_>) -> Outcome {
    if call.word(3) & 0x8000_0000 != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    stat_at(call, call.int(0), call.arguments[1], call.arguments[4], call.word(2), Format::Statx)
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
        let mut identity = thread.process.identity.lock().clone();
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

fn make_node_at(call: &mut Call<'_>, directory: i32, path: u64, mode: u32) -> Outcome {
    let named = attempt!(named(call, directory, path));
    let thread = call.thread.clone();
    act(call, async move {
        let found = named.find_parent(&thread).await?;
        let permissions = mode & 0o7777 & !thread.process.file_mask.load(Ordering::Relaxed);
        match mode & 0o170000 {
            0 | 0o100000 => {
                let flags = flag::CREATE | flag::EXCLUSIVE | flag::WRONLY;
                file_system::opened(&thread, &named.start, &named.path, flags, mode & 0o7777).await.map(drop)
            }
            0o010000 => {
                let kind = |_: &_| Kind::Fifo(Default::default());
                make(&thread, &found.parent, &found.name, 0o010000 | permissions, kind).await.map(drop)
            }
            0o140000 => make(&thread, &found.parent, &found.name, 0o140000 | permissions, |_| Kind::Socket)
                .await
                .map(drop),
            _ => Err(Errno::EPERM),
        }
    })
}
pub fn mknod(call: &mut Call<'_>) -> Outcome {
    make_node_at(call, AT_FDCWD, call.arguments[0], call.word(1))
}
pub fn mknodat(call: &mut Call<'_>) -> Outcome {
    make_node_at(call, call.int(0), call.arguments[1], call.word(2))
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

fn change_at(call: &mut Call<'_>, directory: i32, path: u64, flags: u32, change: Change) -> Outcome {
    attempt!(only(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
    let named = attempt!(named(call, directory, path));
    if named.path.is_empty() && flags & AT_EMPTY_PATH != 0 && directory != AT_FDCWD {
        let description = attempt!(call.process().files.any(directory as u32 as u64));
        return change_opened(call, description, change);
    }
    let thread = call.thread.clone();
    act(call, async move {
        let follow = follow_unless(flags, AT_SYMLINK_NOFOLLOW);
        let entry = named.find(&thread, follow, flags & AT_EMPTY_PATH != 0).await?;
        change_attributes(&thread, &entry, change).await
    })
}

fn change_descriptor(call: &mut Call<'_>, number: u64, change: Change) -> Outcome {
    let description = attempt!(call.process().files.get(number));
    change_opened(call, description, change)
}

fn change_opened(call: &Call<'_>, description: Arc<Description>, change: Change) -> Outcome {
    let promise = description.file.change(call.thread, change);
    let thread = call.thread.clone();
    act(call, async move {
        promise.await?;
        // A directory's change goes by its place, and is told there.
        if let Some(location) = &description.location
            && description.file_as::<DirectoryFile>().is_none()
        {
            file_system::tell_changed(&thread, location, &change);
        }
        Ok(())
    })
}

fn mode_change(mode: u32) -> Change {
    Change { mode: Some(mode & 0o7777), ..Change::default() }
}
fn owner_change(user: u32, group: u32) -> Change {
    let given = |number: u32| (number != u32::MAX).then_some(number);
    Change { user: given(user), group: given(group), ..Change::default() }
}

pub fn chmod(call: &mut Call<'_>) -> Outcome {
    change_at(call, AT_FDCWD, call.arguments[0], 0, mode_change(call.word(1)))
}
pub fn fchmod(call: &mut Call<'_>) -> Outcome {
    change_descriptor(call, call.arguments[0], mode_change(call.word(1)))
}
pub fn fchmodat(call: &mut Call<'_>) -> Outcome {
    change_at(call, call.int(0), call.arguments[1], 0, mode_change(call.word(2)))
}
pub fn fchmodat2(call: &mut Call<'_>) -> Outcome {
    change_at(call, call.int(0), call.arguments[1], call.word(3), mode_change(call.word(2)))
}
pub fn chown(call: &mut Call<'_>) -> Outcome {
    change_at(call, AT_FDCWD, call.arguments[0], 0, owner_change(call.word(1), call.word(2)))
}
pub fn lchown(call: &mut Call<'_>) -> Outcome {
    change_at(
        call,
        AT_FDCWD,
        call.arguments[0],
        AT_SYMLINK_NOFOLLOW,
        owner_change(call.word(1), call.word(2)),
    )
}
pub fn fchown(call: &mut Call<'_>) -> Outcome {
    change_descriptor(call, call.arguments[0], owner_change(call.word(1), call.word(2)))
}
pub fn fchownat(call: &mut Call<'_>) -> Outcome {
    change_at(call, call.int(0), call.arguments[1], call.word(4), owner_change(call.word(2), call.word(3)))
}
pub fn truncate(call: &mut Call<'_>) -> Outcome {
    if call.arguments[1] > i64::MAX as u64 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let change = Change { size: Some(call.arguments[1]), ..Change::default() };
    change_at(call, AT_FDCWD, call.arguments[0], 0, change)
}

/// One `struct timespec` of utimensat, UTIME_NOW and UTIME_OMIT included.
fn set_time(seconds: u64, nanoseconds: u64) -> Result<Option<SetTime>> {
    match nanoseconds {
        0x3fff_ffff => Ok(Some(SetTime::Now)),
        0x3fff_fffe => Ok(None),
        nanoseconds if nanoseconds < 1_000_000_000 => {
            let time_ns = (seconds as i64).saturating_mul(1_000_000_000).saturating_add(nanoseconds as i64);
            Ok(Some(SetTime::At(time_ns)))
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn utimensat(call: &mut Call<'_>) -> Outcome {
    let times = call.arguments[2];
    let (accessed, modified) = if times == 0 {
        (Some(SetTime::Now), Some(SetTime::Now))
    } else {
        let [a, b, c, d] = attempt!(user::read_words::<4>(call.thread, times));
        (attempt!(set_time(a, b)), attempt!(set_time(c, d)))
    };
    let change = Change { accessed, modified, ..Change::default() };
    if call.arguments[1] == 0 {
        return change_descriptor(call, call.int(0) as u32 as u64, change);
    }
    change_at(call, call.int(0), call.arguments[1], call.word(3), change)
}

/// utime(2), utimes(2) and futimesat(2): seconds, or seconds and microseconds.
fn old_times(call: &mut Call<'_>, directory: i32, path: u64, times: u64, whole: bool) -> Outcome {
    let change = if times == 0 {
        Change { accessed: Some(SetTime::Now), modified: Some(SetTime::Now), ..Change::default() }
    } else {
        let at = |seconds: u64, microseconds: u64| {
            let ns = (seconds as i64).saturating_mul(1_000_000_000);
            Some(SetTime::At(ns.saturating_add((microseconds as i64).saturating_mul(1000))))
        };
        if whole {
            let [accessed, modified] = attempt!(user::read_words::<2>(call.thread, times));
            Change { accessed: at(accessed, 0), modified: at(modified, 0), ..Change::default() }
        } else {
            let [a, b, c, d] = attempt!(user::read_words::<4>(call.thread, times));
            Change { accessed: at(a, b), modified: at(c, d), ..Change::default() }
        }
    };
    change_at(call, directory, path, 0, change)
}
pub fn utime(call: &mut Call<'_>) -> Outcome {
    old_times(call, AT_FDCWD, call.arguments[0], call.arguments[1], true)
}
pub fn utimes(call: &mut Call<'_>) -> Outcome {
    old_times(call, AT_FDCWD, call.arguments[0], call.arguments[1], false)
}
pub fn futimesat(call: &mut Call<'_>) -> Outcome {
    old_times(call, call.int(0), call.arguments[1], call.arguments[2], false)
}

pub fn umask(call: &mut Call<'_>) -> Outcome {
    Ok(u64::from(call.process().file_mask.swap(call.word(0) & 0o777, Ordering::Relaxed))).into()
}

pub fn getcwd(call: &mut Call<'_>) -> Outcome {
    let directory = call.process().directory.lock().clone();
    if directory.is_removed() {
        return Err::<u64, _>(Errno::ENOENT).into();
    }
    let mut path = directory.path();
    path.push(0);
    if path.len() as u64 > call.arguments[1] {
        return Err::<u64, _>(Errno::ERANGE).into();
    }
    attempt!(user::write(call.thread, call.arguments[0], &path));
    Ok(path.len() as u64).into()
}

fn may_enter(thread: &Arc<Thread>, entry: &Location) -> Result<()> {
    if !entry.node.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    permits(&thread.process.identity.lock(), &entry.node.attributes(), want::EXECUTE)
}

pub fn chdir(call: &mut Call<'_>) -> Outcome {
    let named = attempt!(named(call, AT_FDCWD, call.arguments[0]));
    let thread = call.thread.clone();
    act(call, async move {
        let entry = named.find(&thread, Follow::Yes, false).await?;
        may_enter(&thread, &entry)?;
        *thread.process.directory.lock() = entry;
        Ok(())
    })
}

pub fn fchdir(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(call.process().files.any(call.arguments[0]));
    let entry =
        attempt!(description.file_as::<DirectoryFile>().map(|file| file.0.clone()).ok_or(Errno::ENOTDIR));
    attempt!(may_enter(call.thread, &entry));
    *call.process().directory.lock() = entry;
    Ok(0).into()
}

pub fn chroot(call: &mut Call<'_>) -> Outcome {
    if !call.process().identity.lock().privileged() {
        return Err::<u64, _>(Errno::EPERM).into();
    }
    let named = attempt!(named(call, AT_FDCWD, call.arguments[0]));
    let thread = call.thread.clone();
    act(call, async move {
        let entry = named.find(&thread, Follow::Yes, false).await?;
        may_enter(&thread, &entry)?;
        *thread.process.root.lock() = entry;
        Ok(())
    })
}

/// getdents64(2), from the listing taken when reading began.
pub fn getdents64(call: &mut Call<'_>) -> Outcome {
    let [number, to, length, ..] = call.arguments;
    let description = attempt!(call.process().files.get(number));
    let directory =
        attempt!(description.file_as::<DirectoryFile>().map(|file| file.0.clone()).ok_or(Errno::ENOTDIR));
    let thread = call.thread.clone();
    call.wait(async move {
        if description.listing.lock().is_none() {
            let listing = file_system::list(&thread, &directory).await?;
            *description.listing.lock() = Some(listing);
        }
        let mut bytes = Vec::new();
        let mut position = *description.position.lock() as usize;
        {
            let listing = description.listing.lock();
            let entries = listing.as_ref().map(|listing| listing.entries.as_slice()).unwrap_or(&[]);
            description.tell(happened::ACCESS);
            while let Some(entry) = entries.get(position) {
                let size = (19 + entry.name.len() + 1).next_multiple_of(8);
                if bytes.len() + size > (length as usize).min(1 << 20) {
                    break;
                }
                position += 1;
                let end = bytes.len() + size;
                bytes.extend_from_slice(&entry.inode.to_le_bytes());
                bytes.extend_from_slice(&(position as u64).to_le_bytes());
                bytes.extend_from_slice(&(size as u16).to_le_bytes());
                bytes.push(entry.kind);
                bytes.extend_from_slice(&entry.name);
                bytes.resize(end, 0);
            }
            if bytes.is_empty() && position < entries.len() {
                return Err(Errno::EINVAL);
            }
        }
        user::write(&thread, to, &bytes)?;
        *description.position.lock() = position as u64;
        Ok(bytes.len() as u64)
    })
}

/// `struct statfs`.
fn write_statistics(thread: &Arc<Thread>, to: u64, s: &Statistics) -> Result<()> {
    let words = [
        s.kind,
        s.block_size,
        s.blocks,
        s.blocks_free,
        s.blocks_available,
        s.files,
        s.files_free,
        0x2a,
        s.name_length,
        s.block_size,
        0,
        0,
        0,
        0,
        0,
    ];
    user::write_words(thread, to, &words)
}

async fn statistics(thread: &Arc<Thread>, entry: &Location) -> Result<Statistics> {
    let kernel = thread.kernel();
    let place = match &entry.node.kind {
        Kind::Host(leaf) if !leaf.overlay => Some(leaf.place.clone()),
        Kind::Directory(directory) if !directory.overlay => directory.place(),
        _ => None,
    };
    if let Some(place) = place {
        let reply = kernel.devices.request(kernel, Request::Statistics { at: place.at() }).await?;
        return if let Reply::Statistics(statistics) = reply { Ok(statistics) } else { Err(Errno::EIO) };
    }
    let (total, free) = (kernel.boot.scratch / 4096, kernel.file_systems.left() / 4096);
    Ok(Statistics {
        kind: 0x0102_1994,
        block_size: 4096,
        blocks: total,
        blocks_free: free,
        blocks_available: free,
        files: 1 << 20,
        files_free: 1 << 20,
        name_length: 255,
    })
}

pub fn statfs(call: &mut Call<'_>) -> Outcome {
    let named = attempt!(named(call, AT_FDCWD, call.arguments[0]));
    let (thread, to) = (call.thread.clone(), call.arguments[1]);
    act(call, async move {
        let entry = named.find(&thread, Follow::Yes, false).await?;
        let statistics = statistics(&thread, &entry).await?;
        write_statistics(&thread, to, &statistics)
    })
}

pub fn fstatfs(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(call.process().files.any(call.arguments[0]));
    let (thread, to) = (call.thread.clone(), call.arguments[1]);
    act(call, async move {
        let entry = description.location.clone().unwrap_or_else(|| thread.kernel().file_systems.root());
        let statistics = statistics(&thread, &entry).await?;
        write_statistics(&thread, to, &statistics)
    })
}
