//! Changes to the tree: making, removing, renaming, and what chmod and its kin do.
//!
//! Overlay directories are changed here, with `None` among the children hiding what lies below; volumes
//! are changed by the monitor, which checks again.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use abi::file::{Attributes, Change};
use abi::request::Request;

use super::node::{DIRECTORY, TYPE};
use super::open::{copy_up, owner};
use super::{Directory, Entry, Found, Kind, Location, Meta, Node, permits, step, want};
use crate::errno::{Errno, Result};
use crate::thread::Thread;

/// Now, in nanoseconds since the epoch.
pub fn now_ns(thread: &Arc<Thread>) -> i64 {
    thread.kernel().machine.now().realtime_ns as i64
}

/// Whether names in a directory may be changed.
pub fn may_change(thread: &Arc<Thread>, parent: &Location) -> Result<()> {
    let directory = parent.node.directory()?;
    permits(&thread.process.identity.lock(), &parent.node.attributes(), want::WRITE | want::EXECUTE)?;
    if directory.overlay || directory.writable { Ok(()) } else { Err(Errno::EROFS) }
}

/// The sticky bit: only owners may remove or rename (unlink(2)).
fn may_remove(thread: &Arc<Thread>, parent: &Attributes, child: &Attributes) -> Result<()> {
    let identity = thread.process.identity.lock();
    let sticky = parent.mode & 0o1000 != 0;
    if sticky && !identity.privileged() && identity.user != parent.user && identity.user != child.user {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

fn touch(thread: &Arc<Thread>, directory: &Location) {
    let now_ns = now_ns(thread);
    let mut meta = directory.node.meta.lock();
    meta.modified_ns = now_ns;
    meta.changed_ns = now_ns;
}

/// Makes a node under a name that must not exist, in an overlay directory.
pub async fn make(
    thread: &Arc<Thread>,
    parent: &Location,
    name: &[u8],
    mode: u32,
    kind: impl FnOnce(&Directory) -> Kind,
) -> Result<Location> {
    may_change(thread, parent)?;
    match step(thread, parent, name).await {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let directory = parent.node.directory()?;
    if !directory.overlay {
        return Err(Errno::EROFS);
    }
    let kernel = thread.kernel();
    let (mut owner, parent_attributes) = (owner(thread), parent.node.attributes());
    if parent_attributes.mode & 0o2000 != 0 {
        owner.group = parent_attributes.group;
    }
    let meta = Meta::new(kernel.file_systems.next_number(), mode, owner.user, owner.group, now_ns(thread));
    let entry = Entry::new(name, Some(parent.clone()), Node::new(meta, kind(directory)));
    let mut children = directory.children.lock();
    if let Some(Some(_)) = children.get(name) {
        return Err(Errno::EEXIST);
    }
    children.insert(name.to_vec(), Some(entry.clone()));
    drop(children);
    if mode & TYPE == DIRECTORY {
        parent.node.meta.lock().links += 1;
    }
    touch(thread, parent);
    Ok(entry)
}

/// A volume's place for a name, if the directory is a volume's.
fn volume_place(parent: &Location, name: &[u8]) -> Result<Option<super::Place>> {
    let directory = parent.node.directory()?;
    match &directory.place {
        Some(place) if directory.writable && !directory.overlay => Ok(Some(place.below(name))),
        _ => Ok(None),
    }
}

/// mkdir(2).
pub async fn make_directory(thread: &Arc<Thread>, found: &Found, mode: u32) -> Result<()> {
    if found.name.is_empty() || found.name == b"." || found.name == b".." {
        return Err(Errno::EEXIST);
    }
    let mode = mode & 0o1777 & !thread.process.file_mask.load(Ordering::Relaxed);
    if let Some(place) = volume_place(&found.parent, &found.name)? {
        may_change(thread, &found.parent)?;
        let request = Request::MakeDirectory { at: place.at(), mode, owner: owner(thread) };
        thread.kernel().devices.request(thread.kernel(), request).await?;
        return Ok(());
    }
    let made = make(thread, &found.parent, &found.name, DIRECTORY | mode, |above| {
        let below = Directory::new(above.place.as_ref().map(|place| place.below(&found.name)), true, false);
        *below.opaque.lock() = true;
        Kind::Directory(below)
    });
    made.await.map(|_| ())
}

/// symlink(2).
pub async fn make_link(thread: &Arc<Thread>, found: &Found, target: &[u8]) -> Result<()> {
    if found.name.is_empty() || found.slash {
        return Err(Errno::ENOENT);
    }
    if let Some(place) = volume_place(&found.parent, &found.name)? {
        may_change(thread, &found.parent)?;
        let request = Request::MakeLink { at: place.at(), target, owner: owner(thread) };
        thread.kernel().devices.request(thread.kernel(), request).await?;
        return Ok(());
    }
    let mode = super::node::LINK | 0o777;
    make(thread, &found.parent, &found.name, mode, |_| Kind::Link(target.to_vec())).await.map(|_| ())
}

/// Brings a leaf of the lower side up, so that it can be changed; other entries are returned as they are.
pub async fn own(thread: &Arc<Thread>, entry: &Location) -> Result<Location> {
    match &entry.node.kind {
        Kind::Host(leaf) if leaf.overlay && leaf.attributes.mode & TYPE == super::node::REGULAR => {
            copy_up(thread, entry, leaf, true).await
        }
        Kind::Host(leaf) if leaf.overlay && leaf.attributes.mode & TYPE == super::node::LINK => {
            let super::walk::Target::Path(target) = super::walk::target(thread, entry).await? else {
                return Err(Errno::EIO);
            };
            let parent = entry.parent.lock().clone().ok_or(Errno::EROFS)?;
            let name = entry.name.lock().clone();
            let up = Entry::new(
                &name,
                Some(parent.clone()),
                Node::new(Meta::of(&leaf.attributes), Kind::Link(target)),
            );
            parent.node.directory()?.children.lock().insert(name, Some(up.clone()));
            Ok(up)
        }
        Kind::Host(leaf) if !leaf.writable => Err(Errno::EROFS),
        _ => Ok(entry.clone()),
    }
}

/// link(2).
pub async fn make_hard_link(thread: &Arc<Thread>, from: &Location, found: &Found) -> Result<()> {
    if from.node.is_directory() {
        return Err(Errno::EPERM);
    }
    may_change(thread, &found.parent)?;
    if let (Some(to), Kind::Host(leaf)) = (volume_place(&found.parent, &found.name)?, &from.node.kind) {
        if to.tree != leaf.place.tree {
            return Err(Errno::EXDEV);
        }
        let request = Request::HardLink { from: leaf.place.at(), to: to.at() };
        thread.kernel().devices.request(thread.kernel(), request).await?;
        return Ok(());
    }
    let directory = found.parent.node.directory()?;
    if !directory.overlay {
        return Err(Errno::EXDEV);
    }
    match step(thread, &found.parent, &found.name).await {
        Err(Errno::ENOENT) => {}
        Ok(_) => return Err(Errno::EEXIST),
        Err(errno) => return Err(errno),
    }
    let from = own(thread, from).await?;
    if matches!(from.node.kind, Kind::Host(_)) {
        return Err(Errno::EXDEV);
    }
    let entry = Entry::new(&found.name, Some(found.parent.clone()), from.node.clone());
    directory.children.lock().insert(found.name.clone(), Some(entry));
    from.node.meta.lock().links += 1;
    touch(thread, &found.parent);
    Ok(())
}

/// unlink(2) and rmdir(2).
pub async fn remove(thread: &Arc<Thread>, found: &Found, directory: bool) -> Result<()> {
    match found.name.as_slice() {
        b"" => return Err(if directory { Errno::EBUSY } else { Errno::EISDIR }),
        b"." => return Err(Errno::EINVAL),
        b".." => return Err(Errno::ENOTEMPTY),
        _ => {}
    }
    let entry = step(thread, &found.parent, &found.name).await?;
    if directory != entry.node.is_directory() {
        return Err(if directory { Errno::ENOTDIR } else { Errno::EISDIR });
    }
    may_change(thread, &found.parent)?;
    may_remove(thread, &found.parent.node.attributes(), &entry.node.attributes())?;
    let parent = found.parent.node.directory()?;
    if let Some(place) = volume_place(&found.parent, &found.name)? {
        let request = Request::Remove { at: place.at(), directory };
        thread.kernel().devices.request(thread.kernel(), request).await?;
        parent.children.lock().remove(&found.name);
        return Ok(());
    }
    if directory && super::listing::list(thread, &entry).await?.entries.len() > 2 {
        return Err(Errno::ENOTEMPTY);
    }
    hide(parent, &found.name);
    {
        let mut meta = entry.node.meta.lock();
        meta.links = if directory { 0 } else { meta.links.saturating_sub(1) };
        meta.changed_ns = now_ns(thread);
    }
    if directory {
        let mut meta = found.parent.node.meta.lock();
        meta.links = meta.links.saturating_sub(1);
    }
    touch(thread, &found.parent);
    Ok(())
}

/// Takes a name away; what lies below stays hidden.
fn hide(parent: &Directory, name: &[u8]) {
    let mut children = parent.children.lock();
    if parent.visible_place().is_some() {
        children.insert(name.to_vec(), None);
    } else {
        children.remove(name);
    }
}

/// renameat2(2).
pub async fn rename(thread: &Arc<Thread>, from: &Found, to: &Found, flags: u32) -> Result<()> {
    if [&from.name, &to.name].iter().any(|name| matches!(name.as_slice(), b"" | b"." | b"..")) {
        return Err(Errno::EBUSY);
    }
    let source = step(thread, &from.parent, &from.name).await?;
    let target = match step(thread, &to.parent, &to.name).await {
        Ok(_) if flags & 1 != 0 => return Err(Errno::EEXIST),
        Ok(entry) => Some(entry),
        Err(Errno::ENOENT) if flags & 2 != 0 => return Err(Errno::ENOENT),
        Err(Errno::ENOENT) => None,
        Err(errno) => return Err(errno),
    };
    may_change(thread, &from.parent)?;
    may_change(thread, &to.parent)?;
    may_remove(thread, &from.parent.node.attributes(), &source.node.attributes())?;
    if target.as_ref().is_some_and(|target| Arc::ptr_eq(&target.node, &source.node)) {
        return Ok(());
    }
    let mut above = Some(to.parent.clone());
    while let Some(ancestor) = above {
        if Arc::ptr_eq(&ancestor, &source) {
            return Err(Errno::EINVAL);
        }
        above = ancestor.parent.lock().clone();
    }
    match (volume_place(&from.parent, &from.name)?, volume_place(&to.parent, &to.name)?) {
        (Some(old), Some(new)) if old.tree == new.tree => {
            let request = Request::Rename { from: old.at(), to: new.at(), flags };
            thread.kernel().devices.request(thread.kernel(), request).await?;
            from.parent.node.directory()?.children.lock().remove(&from.name);
            to.parent.node.directory()?.children.lock().remove(&to.name);
            return Ok(());
        }
        (None, None) => {}
        _ => return Err(Errno::EXDEV),
    }
    if flags & 2 != 0 {
        return Err(Errno::EINVAL);
    }
    if let Some(target) = &target {
        may_remove(thread, &to.parent.node.attributes(), &target.node.attributes())?;
        match (source.node.is_directory(), target.node.is_directory()) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            (true, true) if super::listing::list(thread, target).await?.entries.len() > 2 => {
                return Err(Errno::ENOTEMPTY);
            }
            _ => {}
        }
    }
    // A directory that is partly on the host cannot move: overlayfs says the same without redirect_dir.
    if source.node.is_directory() && source.node.directory()?.visible_place().is_some() {
        return Err(Errno::EXDEV);
    }
    let moved = own(thread, &source).await?;
    hide(from.parent.node.directory()?, &from.name);
    *moved.name.lock() = to.name.clone();
    *moved.parent.lock() = Some(to.parent.clone());
    let replaced = to.parent.node.directory()?.children.lock().insert(to.name.clone(), Some(moved.clone()));
    if let Some(Some(replaced)) = replaced {
        let mut meta = replaced.node.meta.lock();
        meta.links = meta.links.saturating_sub(1);
    }
    moved.node.meta.lock().changed_ns = now_ns(thread);
    touch(thread, &from.parent);
    touch(thread, &to.parent);
    Ok(())
}

/// chmod(2), chown(2), truncate(2), utimensat(2).
pub async fn change_attributes(thread: &Arc<Thread>, entry: &Location, change: Change) -> Result<()> {
    let attributes = entry.node.attributes();
    {
        let identity = thread.process.identity.lock();
        let owns = identity.privileged() || identity.user == attributes.user;
        let gives_away = change.user.is_some_and(|user| user != attributes.user)
            || change.group.is_some_and(|group| group != attributes.group && !identity.in_group(group));
        if gives_away && !identity.privileged() || (change.mode.is_some() && !owns) {
            return Err(Errno::EPERM);
        }
        let explicit = |time: &Option<abi::file::SetTime>| matches!(time, Some(abi::file::SetTime::At(_)));
        if (explicit(&change.accessed) || explicit(&change.modified)) && !owns {
            return Err(Errno::EPERM);
        }
        if change.size.is_some() || (change.modified.is_some() && !owns) {
            permits(&identity, &attributes, want::WRITE)?;
        }
    }
    let kernel = thread.kernel();
    let place = match &entry.node.kind {
        Kind::Host(leaf) if !leaf.overlay => Some((&leaf.place, leaf.writable)),
        Kind::Directory(directory) if !directory.overlay => {
            directory.place.as_ref().map(|place| (place, directory.writable))
        }
        _ => None,
    };
    if let Some((place, writable)) = place {
        if !writable {
            return Err(Errno::EROFS);
        }
        kernel.devices.request(kernel, Request::Change { at: place.at(), change }).await?;
        entry.node.meta.lock().apply(&change, now_ns(thread));
        return Ok(());
    }
    let entry = own(thread, entry).await?;
    match &entry.node.kind {
        Kind::Memory(file) => crate::file::File::change(file.as_ref(), thread, change).await,
        Kind::Directory(_) if change.size.is_some() => Err(Errno::EISDIR),
        Kind::Generated(_) => Err(Errno::EPERM),
        _ => {
            entry.node.meta.lock().apply(&change, now_ns(thread));
            Ok(())
        }
    }
}
