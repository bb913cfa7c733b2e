//! Changes to the tree: making, removing, renaming, and what chmod and its kin do.
//!
//! Overlay directories are changed here, with `None` among the children hiding what lies below; volumes
//! are changed by the monitor, which checks again.

use alloc::sync::Arc;

use abi::file::{Access, Attributes, Change, SetTime};
use abi::request::{Reply, Request};

use super::node::{DIRECTORY, Place, SET_GROUP, TYPE};
use super::open::owner;
use super::raising::own;
use super::walk::may_search;
use super::{Directory, Entry, Found, Kind, Location, Meta, Node, happened, permits, step, want};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::thread::Thread;

/// Only owners may remove names from such a directory.
const STICKY: u32 = 0o1000;

/// Now, in nanoseconds since the epoch.
pub fn now_ns(thread: &Arc<Thread>) -> i64 {
    thread.kernel().machine.now().realtime_ns as i64
}

/// Whether names in a directory may be changed.
pub fn may_change(thread: &Arc<Thread>, parent: &Location) -> Result<()> {
    let directory = parent.node.directory()?;
    if parent.is_removed() {
        return Err(Errno::ENOENT);
    }
    permits(&thread.process.identity.lock(), &parent.node.attributes(), want::WRITE | want::EXECUTE)?;
    if directory.overlay || directory.writable { Ok(()) } else { Err(Errno::EROFS) }
}

/// Whether a new name may be made in a directory: that it is there already counts before that it may not be.
async fn may_make(thread: &Arc<Thread>, parent: &Location, name: &[u8]) -> Result<()> {
    let Err(errno) = may_change(thread, parent) else { return Ok(()) };
    may_search(thread, parent)?;
    match step(thread, parent, name).await {
        Ok(_) => Err(Errno::EEXIST),
        Err(_) => Err(errno),
    }
}

/// The sticky bit: only owners may remove or rename (unlink(2)).
pub(super) fn may_remove(thread: &Arc<Thread>, parent: &Attributes, child: &Attributes) -> Result<()> {
    let identity = thread.process.identity.lock();
    let sticky = parent.mode & STICKY != 0;
    if sticky && !identity.privileged() && identity.user != parent.user && identity.user != child.user {
        Err(Errno::EPERM)
    } else {
        Ok(())
    }
}

/// A directory's names have changed.
pub(super) async fn touch(thread: &Arc<Thread>, directory: &Location) {
    let change = Change { modified: Some(SetTime::Now), ..Change::default() };
    let volume = directory.node.directory().ok().filter(|directory| directory.is_volume());
    if let Some(place) = volume.and_then(Directory::place) {
        // The name is changed all the same if the host does not tell so.
        let request = Request::Change { at: place.at(), change };
        let _ = thread.kernel().devices.request(thread.kernel(), request).await;
    }
    directory.node.meta.lock().apply(&change, now_ns(thread));
}

/// Makes a node under a name that must not exist, in the guest's memory: in an overlay directory, or, if
/// it is a pipe, a socket or a device, above a volume's.
pub async fn make(
    thread: &Arc<Thread>,
    parent: &Location,
    name: &[u8],
    mode: u32,
    kind: impl FnOnce(&Directory) -> Kind,
) -> Result<Location> {
    may_make(thread, parent, name).await?;
    match step(thread, parent, name).await {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    let directory = parent.node.directory()?;
    let above = !matches!(mode & TYPE, DIRECTORY | super::node::REGULAR | super::node::LINK);
    if !directory.overlay && !above {
        return Err(Errno::EROFS);
    }
    let kernel = thread.kernel();
    let (mut owner, parent_attributes) = (owner(thread), parent.node.attributes());
    let inherits = parent_attributes.mode & SET_GROUP != 0;
    if inherits {
        owner.group = parent_attributes.group;
    }
    let more = if inherits && mode & TYPE == DIRECTORY { SET_GROUP } else { 0 };
    let number = kernel.file_systems.next_number();
    let meta = Meta::new(number, mode | more, owner.user, owner.group, now_ns(thread));
    let meta = Meta { device: parent_attributes.device, ..meta };
    let node = Node::new(meta, kind(directory));
    if let Kind::Memory(file) = &node.kind {
        file.belong_to(&node);
    }
    let entry = Entry::new(name, Some(parent.clone()), node);
    kernel.file_systems.give_name(parent, name, &entry)?;
    if mode & TYPE == DIRECTORY {
        parent.node.meta.lock().links += 1;
    }
    touch(thread, parent).await;
    tell_made(thread, parent, name, mode & TYPE == DIRECTORY);
    Ok(entry)
}

/// Where a volume has a name that is to be made, if the directory is a volume's: the host does not know of what
/// lies above it.
fn new_volume_place(parent: &Location, name: &[u8]) -> Result<Option<Place>> {
    let place = volume_place(parent, name)?;
    let special = |child: &Option<Location>| child.as_ref().is_some_and(|child| child.node.is_special());
    let taken = place.is_some() && parent.node.directory()?.children.lock().get(name).is_some_and(special);
    if taken { Err(Errno::EEXIST) } else { Ok(place) }
}

pub(super) fn tell_made(thread: &Arc<Thread>, parent: &Location, name: &[u8], directory: bool) {
    let bit = if directory { happened::DIRECTORY } else { 0 };
    thread.kernel().file_systems.watches.tell_name(parent, name, happened::CREATE | bit);
}

/// Whether another tree, or a part of the guest's own, is attached here.
pub(super) fn is_mount(entry: &Location) -> bool {
    match &entry.node.kind {
        Kind::Directory(directory) => directory.place().is_some_and(|place| place.path.is_empty()),
        Kind::Host(leaf) => leaf.place.path.is_empty(),
        Kind::Generated(_) => true,
        _ => false,
    }
}

/// A volume's place for a name, if the directory is a volume's.
pub(super) fn volume_place(parent: &Location, name: &[u8]) -> Result<Option<super::Place>> {
    let directory = parent.node.directory()?;
    Ok(if directory.is_volume() { directory.below(name) } else { None })
}

/// mkdir(2).
pub async fn make_directory(thread: &Arc<Thread>, found: &Found, mode: u32) -> Result<()> {
    if found.name.is_empty() || found.name == b"." || found.name == b".." {
        return Err(Errno::EEXIST);
    }
    let mode = thread.file_system().masked(mode & 0o1777);
    if let Some(place) = new_volume_place(&found.parent, &found.name)? {
        may_make(thread, &found.parent, &found.name).await?;
        let request = Request::MakeDirectory { at: place.at(), mode, owner: owner(thread) };
        thread.kernel().devices.request(thread.kernel(), request).await?;
        tell_made(thread, &found.parent, &found.name, true);
        return Ok(());
    }
    let made =
        make(thread, &found.parent, &found.name, DIRECTORY | mode, |_| Kind::Directory(Directory::own()));
    made.await.map(|_| ())
}

/// symlink(2).
pub async fn make_link(thread: &Arc<Thread>, found: &Found, target: &[u8]) -> Result<()> {
    if found.name.is_empty() || found.slash {
        return Err(Errno::ENOENT);
    }
    if let Some(place) = new_volume_place(&found.parent, &found.name)? {
        may_make(thread, &found.parent, &found.name).await?;
        let request = Request::MakeLink { at: place.at(), target, owner: owner(thread) };
        thread.kernel().devices.request(thread.kernel(), request).await?;
        tell_made(thread, &found.parent, &found.name, false);
        return Ok(());
    }
    let mode = super::node::LINK | 0o777;
    make(thread, &found.parent, &found.name, mode, |_| Kind::Link(target.to_vec())).await.map(|_| ())
}

/// link(2).
pub async fn make_hard_link(thread: &Arc<Thread>, from: &Location, found: &Found) -> Result<()> {
    if from.node.is_directory() {
        return Err(Errno::EPERM);
    }
    may_make(thread, &found.parent, &found.name).await?;
    let to = new_volume_place(&found.parent, &found.name)?;
    if let (Some(to), Kind::Host(leaf)) = (&to, &from.node.kind) {
        if to.tree != leaf.place.tree {
            return Err(Errno::EXDEV);
        }
        let request = Request::HardLink { from: leaf.place.at(), to: to.at() };
        thread.kernel().devices.request(thread.kernel(), request).await?;
        tell_linked(thread, from, found);
        return Ok(());
    }
    let directory = found.parent.node.directory()?;
    if !directory.overlay && !lies_in_tree(from, to.as_ref()) {
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
    thread.kernel().file_systems.give_name(&found.parent, &found.name, &entry)?;
    {
        let mut meta = from.node.meta.lock();
        meta.links += 1;
        meta.changed_ns = now_ns(thread);
    }
    touch(thread, &found.parent).await;
    tell_linked(thread, &from, found);
    Ok(())
}

/// Whether what lies above a volume lies above the one that a place is in.
fn lies_in_tree(entry: &Location, place: Option<&Place>) -> bool {
    let parent = entry.parent.lock().clone();
    let directory = parent.as_ref().and_then(|parent| parent.node.directory().ok());
    let tree = directory.and_then(Directory::place).map(|place| place.tree);
    entry.node.is_special() && tree.is_some() && tree == place.map(|place| place.tree)
}

fn tell_linked(thread: &Arc<Thread>, from: &Location, found: &Found) {
    thread.kernel().file_systems.watches.tell_itself(from, happened::ATTRIBUTES);
    tell_made(thread, &found.parent, &found.name, false);
}

/// unlink(2) and rmdir(2).
pub async fn remove(thread: &Arc<Thread>, found: &Found, directory: bool) -> Result<()> {
    match found.name.as_slice() {
        b"" => return Err(if directory { Errno::EBUSY } else { Errno::EISDIR }),
        b"." => return Err(Errno::EINVAL),
        b".." => return Err(Errno::ENOTEMPTY),
        _ => {}
    }
    if !directory && remove_at_once(thread, found).await? {
        return Ok(());
    }
    // The name may come to be another's while it is looked at: then all is looked at anew.
    while !remove_once(thread, found, directory).await? {}
    Ok(())
}

async fn remove_once(thread: &Arc<Thread>, found: &Found, directory: bool) -> Result<bool> {
    let entry = step(thread, &found.parent, &found.name).await?;
    if directory != entry.node.is_directory() {
        return Err(if directory { Errno::ENOTDIR } else { Errno::EISDIR });
    }
    may_change(thread, &found.parent)?;
    may_remove(thread, &found.parent.node.attributes(), &entry.node.attributes())?;
    let parent = found.parent.node.directory()?;
    if is_mount(&entry) {
        return Err(Errno::EBUSY);
    }
    let special = entry.node.is_special();
    if let Some(place) = volume_place(&found.parent, &found.name)?.filter(|_| !special) {
        if directory && holds_own(entry.node.directory()?) {
            return Err(Errno::ENOTEMPTY);
        }
        let request = Request::Remove { at: place.at(), directory };
        thread.kernel().devices.request(thread.kernel(), request).await?;
        parent.children.lock().remove(&found.name);
        entry.set_removed();
        let last = directory || entry.node.attributes().links <= 1;
        tell_removed(thread, &entry, found, last);
        return Ok(true);
    }
    if directory && super::listing::list(thread, &entry).await?.entries.len() > 2 {
        return Err(Errno::ENOTEMPTY);
    }
    if !thread.kernel().file_systems.take_name(found, &entry)? {
        return Ok(false);
    }
    {
        let mut meta = entry.node.meta.lock();
        meta.links = if directory { 0 } else { meta.links.saturating_sub(1) };
        meta.changed_ns = now_ns(thread);
    }
    if directory {
        let mut meta = found.parent.node.meta.lock();
        meta.links = meta.links.saturating_sub(1);
    }
    touch(thread, &found.parent).await;
    tell_removed(thread, &entry, found, entry.node.attributes().links == 0);
    Ok(true)
}

/// Has a volume's file removed without looking it up first, where nobody asks what it was: one question less. False: the
/// long way decides.
async fn remove_at_once(thread: &Arc<Thread>, found: &Found) -> Result<bool> {
    let kernel = thread.kernel();
    let parent = &found.parent;
    let Some(place) = volume_place(parent, &found.name)? else { return Ok(false) };
    let matters = kernel.file_systems.watches.used()
        || parent.node.directory()?.children.lock().contains_key(&found.name)
        || may_change(thread, parent).is_err()
        || parent.node.attributes().mode & STICKY != 0;
    if matters {
        return Ok(false);
    }
    let request = Request::Remove { at: place.at(), directory: false };
    Ok(kernel.devices.request(kernel, request).await.is_ok())
}

/// Whether pipes, sockets or devices lie above a volume's directory, which the host takes for empty.
fn holds_own(directory: &Directory) -> bool {
    let children = directory.children.lock();
    children
        .iter()
        .any(|(name, child)| child.as_ref().is_some_and(|child| !directory.mirrors(name, &child.node)))
}

fn tell_removed(thread: &Arc<Thread>, entry: &Location, found: &Found, last: bool) {
    let watches = &thread.kernel().file_systems.watches;
    watches.tell_removed(entry, last);
    let bit = if entry.node.is_directory() { happened::DIRECTORY } else { 0 };
    watches.tell_name(&found.parent, &found.name, happened::DELETE | bit);
}

/// Tells of a change to what a place names (the events are those of fsnotify_change in Linux).
pub fn tell_changed(thread: &Arc<Thread>, entry: &Location, change: &Change) {
    let mut what = 0;
    if change.mode.is_some() || change.user.is_some() || change.group.is_some() {
        what |= happened::ATTRIBUTES;
    }
    if change.size.is_some() {
        what |= happened::MODIFY;
    }
    what |= match (change.accessed, change.modified) {
        (Some(_), Some(_)) => happened::ATTRIBUTES,
        (Some(_), None) => happened::ACCESS,
        (None, Some(_)) => happened::MODIFY,
        (None, None) => 0,
    };
    thread.kernel().file_systems.watches.tell(entry, what);
}

/// chmod(2), chown(2), truncate(2), utimensat(2).
pub async fn change_attributes(thread: &Arc<Thread>, entry: &Location, change: Change) -> Result<()> {
    apply(thread, entry, change).await?;
    tell_changed(thread, entry, &change);
    Ok(())
}

/// Changes a file whose length changes as one that is open: a machine that holds pages of it has to hear of it.
async fn resize(kernel: &Arc<Kernel>, place: &Place, change: Change) -> Result<()> {
    let request = Request::Open { at: place.at(), access: Access::Write };
    let Reply::Opened { handle, .. } = kernel.devices.request(kernel, request).await? else {
        return Err(Errno::EIO);
    };
    let changed = kernel.devices.request(kernel, Request::HandleChange { handle, change }).await;
    kernel.machine.close(handle);
    changed.map(drop)
}

pub(crate) async fn apply(thread: &Arc<Thread>, entry: &Location, change: Change) -> Result<()> {
    let attributes = entry.node.attributes();
    {
        let identity = thread.process.identity.lock();
        let owns = identity.privileged() || identity.user == attributes.user;
        let gives_away = change.user.is_some_and(|user| !owns || user != attributes.user)
            || change
                .group
                .is_some_and(|group| !owns || group != attributes.group && !identity.in_group(group));
        if gives_away && !identity.privileged() || (change.mode.is_some() && !owns) {
            return Err(Errno::EPERM);
        }
        let explicit = |time: &Option<SetTime>| matches!(time, Some(SetTime::At(_)));
        if (explicit(&change.accessed) || explicit(&change.modified)) && !owns {
            return Err(Errno::EPERM);
        }
        if change.size.is_some() || (change.modified.is_some() && !owns) {
            permits(&identity, &attributes, want::WRITE)?;
        }
    }
    if change.size.is_some() {
        super::open::refuse_if_run(thread, &attributes)?;
    }
    let kernel = thread.kernel();
    let place = match &entry.node.kind {
        Kind::Host(leaf) if !leaf.overlay => Some((leaf.place.clone(), leaf.writable)),
        Kind::Directory(directory) if !directory.overlay => {
            directory.place().map(|place| (place, directory.writable))
        }
        _ => None,
    };
    if let Some((place, writable)) = place {
        if !writable {
            return Err(Errno::EROFS);
        }
        match entry.node.kind {
            Kind::Host(_) if change.size.is_some() => resize(kernel, &place, change).await?,
            _ => drop(kernel.devices.request(kernel, Request::Change { at: place.at(), change }).await?),
        }
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
