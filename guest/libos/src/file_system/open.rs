//! Opening: from a place in the tree to an open file.

use alloc::sync::Arc;

use abi::file::{Access, Attributes, Change, Owner};
use abi::request::{Reply, Request};
use machine::Handle;

use super::change::{make, now_ns};
use super::directory_file::DirectoryFile;
use super::host_file::host_description;
use super::node::{HostLeaf, LINK, REGULAR, TYPE};
use super::raising::copy_up;
use super::walk::walk_parent_within;
use super::{
    Bounds, Entry, Follow, Found, Kind, Location, MemoryFile, Meta, Node, happened, permits, step,
    walk_parent, walk_within, want,
};
use crate::errno::{Errno, Result};
use crate::file::{Description, File, flag};
use crate::process::Process;
use crate::thread::Thread;

/// open(2), links and creation included.
pub async fn opened(
    thread: &Arc<Thread>,
    bounds: &Bounds,
    start: &Location,
    path: &[u8],
    flags: u32,
    mode: u32,
) -> Result<Arc<Description>> {
    let (description, is_new) = found_or_made(thread, bounds, start, path, flags, mode).await?;
    announce(thread, &description, flags & flag::TRUNCATE != 0 && !is_new);
    Ok(description)
}

/// Opens what an entry names, as open(2) does that has found it.
pub async fn open_found(thread: &Arc<Thread>, entry: &Location, flags: u32) -> Result<Arc<Description>> {
    let description = open_entry(thread, entry, flags).await?;
    announce(thread, &description, flags & flag::TRUNCATE != 0);
    Ok(description)
}

/// Tells that a file was opened, and has its end told, too.
fn announce(thread: &Arc<Thread>, description: &Description, truncated: bool) {
    if description.usable().is_err() {
        return;
    }
    let watches = &thread.kernel().file_systems.watches;
    description.watches.call_once(|| watches.clone());
    description.tell(happened::OPEN);
    if truncated {
        description.tell(happened::MODIFY);
    }
}

/// The open file, and whether the name is new.
async fn found_or_made(
    thread: &Arc<Thread>,
    bounds: &Bounds,
    start: &Location,
    path: &[u8],
    flags: u32,
    mode: u32,
) -> Result<(Arc<Description>, bool)> {
    if flags & flag::CREATE == 0 {
        if bounds.are_none()
            && let Some(description) = open_at_once(thread, start, path, flags).await?
        {
            return Ok((description, false));
        }
        let follow = if flags & flag::NO_FOLLOW != 0 { Follow::No } else { Follow::Yes };
        let entry = walk_within(thread, bounds, start, path, follow).await?;
        return Ok((open_entry(thread, &entry, flags).await?, false));
    }
    let mut start = start.clone();
    let mut path = path.to_vec();
    for _ in 0..40 {
        let found = walk_parent_within(thread, bounds, &start, &path).await?;
        if found.slash {
            return Err(Errno::EISDIR);
        }
        if let Some(made) = make_at_once(thread, &found, flags, mode).await? {
            return Ok(made);
        }
        match step(thread, &found.parent, &found.name).await {
            Ok(_) if flags & flag::EXCLUSIVE != 0 => return Err(Errno::EEXIST),
            Ok(entry) if entry.node.mode() & TYPE == LINK && flags & flag::NO_FOLLOW == 0 => {
                bounds.may_follow()?;
                match super::walk::target(thread, &entry).await? {
                    super::walk::Target::Place(place) => {
                        bounds.may_jump()?;
                        bounds.may_cross(&found.parent, &place)?;
                        return Ok((open_entry(thread, &place, flags).await?, false));
                    }
                    super::walk::Target::Path(target) => path = target,
                }
                start = if path.first() == Some(&b'/') {
                    bounds.root(thread, &found.parent)?
                } else {
                    found.parent
                };
            }
            Ok(entry) => {
                bounds.may_cross(&found.parent, &entry)?;
                match open_entry(thread, &entry, flags).await {
                    // Somebody else has removed it meanwhile: then it is made.
                    Err(Errno::ENOENT) => (start, path) = (found.parent, found.name),
                    opened => return Ok((opened?, false)),
                }
            }
            Err(Errno::ENOENT) => {
                match create(thread, &found.parent, &found.name, flags, mode).await {
                    // Somebody else has made it meanwhile: that one is opened.
                    Err(Errno::EEXIST) if flags & flag::EXCLUSIVE == 0 => start = found.parent,
                    made => return made,
                }
                path = found.name;
            }
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::ELOOP)
}

/// Opens a host's file for reading without looking it up first: one question less. `None`: it is
/// something else, and the long way decides.
async fn open_at_once(
    thread: &Arc<Thread>,
    start: &Location,
    path: &[u8],
    flags: u32,
) -> Result<Option<Arc<Description>>> {
    let special = flag::ACCESS | flag::TRUNCATE | flag::PATH | flag::DIRECTORY;
    if flags & special != 0 || path.last() == Some(&b'/') {
        return Ok(None);
    }
    let found = walk_parent(thread, start, path).await?;
    if matches!(found.name.as_slice(), b"" | b"." | b"..") {
        return Ok(None);
    }
    let Kind::Directory(directory) = &found.parent.node.kind else { return Ok(None) };
    if directory.children.lock().contains_key(&found.name) {
        return Ok(None);
    }
    let Some(place) = directory.below(&found.name) else {
        return Err(Errno::ENOENT);
    };
    super::walk::may_search(thread, &found.parent)?;
    let kernel = thread.kernel();
    let reply = kernel.devices.request(kernel, Request::Open { at: place.at(), access: Access::Read }).await;
    let Ok(Reply::Opened { handle, attributes, .. }) = reply else { return Ok(None) };
    let permitted = permits(&thread.process.identity.lock(), &attributes, want::READ);
    if attributes.mode & TYPE != REGULAR || permitted.is_err() {
        kernel.machine.close(handle);
        return permitted.map(|()| None);
    }
    kernel.file_systems.record.note(&*kernel.machine, &place);
    let leaf = HostLeaf { place, attributes, overlay: directory.overlay, writable: directory.writable };
    let node = Node::new(Meta::of(&attributes), Kind::Host(leaf));
    let entry = Entry::new(&found.name, Some(found.parent), node);
    Ok(Some(host_description(thread, handle, &attributes, entry, flags)))
}

/// Has a volume's file made, or opened if it is there and need not be new, without looking it up first: one question
/// less. `None`: it is something else, or may not be, and the long way decides.
async fn make_at_once(
    thread: &Arc<Thread>,
    found: &Found,
    flags: u32,
    mode: u32,
) -> Result<Option<(Arc<Description>, bool)>> {
    let Kind::Directory(directory) = &found.parent.node.kind else { return Ok(None) };
    let special = flags & (flag::PATH | flag::DIRECTORY) != 0;
    if special || !directory.is_volume() || matches!(found.name.as_slice(), b"" | b"." | b"..") {
        return Ok(None);
    }
    let exclusive = flags & flag::EXCLUSIVE != 0;
    // To open a file for writing takes bits from its mode: who may not write to it must not come so far.
    let may_open = wanted(flags) & want::WRITE != 0 && thread.process.identity.lock().privileged();
    let may_make = super::change::may_change(thread, &found.parent).is_ok();
    if !may_make || !exclusive && !may_open || directory.children.lock().contains_key(&found.name) {
        return Ok(None);
    }
    match make_in_volume(thread, &found.parent, &found.name, flags, mode).await {
        // A link, a directory, a pipe and the like are there. Another error may come from a file that was made.
        Err(Errno::ELOOP | Errno::EISDIR | Errno::ENXIO) => Ok(None),
        made => made.map(Some),
    }
}

/// Makes a file in a volume, or opens the one that is there, if it need not be new; whether it is.
async fn make_in_volume(
    thread: &Arc<Thread>,
    parent: &Location,
    name: &[u8],
    flags: u32,
    mode: u32,
) -> Result<(Arc<Description>, bool)> {
    let place = parent.node.directory()?.below(name).ok_or(Errno::EROFS)?;
    let mode = thread.file_system().masked(mode & 0o7777);
    let (access, exclusive) = (access_of(flags), flags & flag::EXCLUSIVE != 0);
    let kernel = thread.kernel();
    let request = Request::Create { at: place.at(), access, mode, exclusive, owner: owner(thread) };
    let Reply::Opened { handle, attributes, made } = kernel.devices.request(kernel, request).await? else {
        return Err(Errno::EIO);
    };
    let regular = if attributes.mode & TYPE == REGULAR { Ok(()) } else { Err(Errno::EISDIR) };
    let usable = regular.and_then(|()| if made { Ok(()) } else { refuse_if_run(thread, &attributes) });
    if usable.is_err() {
        kernel.machine.close(handle);
    }
    usable?;
    let leaf = HostLeaf { place, attributes, overlay: false, writable: true };
    let node = Node::new(Meta::of(&attributes), Kind::Host(leaf));
    let entry = Entry::new(name, Some(parent.clone()), node);
    let description = host_description(thread, handle, &attributes, entry, flags);
    if made {
        super::change::tell_made(thread, parent, name, false);
    } else if flags & flag::TRUNCATE != 0 {
        truncate(thread, handle).await?;
    }
    Ok((description, made))
}

async fn truncate(thread: &Arc<Thread>, handle: Handle) -> Result<()> {
    let change = Change { size: Some(0), ..Change::default() };
    let kernel = thread.kernel();
    kernel.devices.request(kernel, Request::HandleChange { handle, change }).await.map(drop)
}

async fn create(
    thread: &Arc<Thread>,
    parent: &Location,
    name: &[u8],
    flags: u32,
    mode: u32,
) -> Result<(Arc<Description>, bool)> {
    if parent.node.directory()?.is_volume() {
        super::change::may_change(thread, parent)?;
        return make_in_volume(thread, parent, name, flags, mode).await;
    }
    let mode = thread.file_system().masked(mode & 0o7777);
    let file = MemoryFile::new(thread.kernel());
    let node = make(thread, parent, name, REGULAR | mode, |_| Kind::Memory(file.clone())).await?;
    Ok((Description::new(file, flags, Some(node)), true))
}

/// O_TMPFILE: a regular file without a name, in an overlay or tmpfs directory.
pub async fn temporary(
    thread: &Arc<Thread>,
    bounds: &Bounds,
    start: &Location,
    path: &[u8],
    flags: u32,
    mode: u32,
) -> Result<Arc<Description>> {
    let parent = walk_within(thread, bounds, start, path, Follow::Yes).await?;
    super::change::may_change(thread, &parent)?;
    if flags & flag::ACCESS == 0 {
        return Err(Errno::EINVAL);
    }
    if !parent.node.directory()?.overlay {
        return Err(Errno::EOPNOTSUPP);
    }
    let kernel = thread.kernel();
    let mode = REGULAR | thread.file_system().masked(mode & 0o7777);
    let owner = owner(thread);
    let file = MemoryFile::new(kernel);
    let mut meta =
        Meta::new(kernel.file_systems.next_number(), mode, owner.user, owner.group, now_ns(thread));
    meta.links = 0;
    meta.device = parent.node.attributes().device;
    let node = Node::new(meta, Kind::Memory(file.clone()));
    file.belong_to(&node);
    let entry = Entry::new(b"(deleted)", Some(parent), node);
    Ok(Description::new(file, flags & !flag::TEMPORARY, Some(entry)))
}

/// Who a new file belongs to.
pub fn owner(thread: &Arc<Thread>) -> Owner {
    let identity = thread.process.identity.lock();
    Owner { user: identity.user, group: identity.group }
}

fn access_of(flags: u32) -> Access {
    match flags & flag::ACCESS {
        0 => Access::Read,
        flag::WRONLY => Access::Write,
        _ => Access::ReadWrite,
    }
}

fn wanted(flags: u32) -> u32 {
    let access = match flags & flag::ACCESS {
        0 => want::READ,
        flag::WRONLY => want::WRITE,
        _ => want::READ | want::WRITE,
    };
    if flags & flag::TRUNCATE != 0 { access | want::WRITE } else { access }
}

/// ETXTBSY if somebody runs a file: then nobody may write to it (open(2)).
pub(super) fn refuse_if_run(thread: &Arc<Thread>, attributes: &Attributes) -> Result<()> {
    const EXECUTABLE: u32 = 0o111;
    if attributes.mode & TYPE != REGULAR || attributes.mode & EXECUTABLE == 0 {
        return Ok(());
    }
    let processes = thread.kernel().processes.lock();
    let runs = |process: &Arc<Process>| {
        process.program.lock().place.as_ref().is_some_and(|place| {
            let own = place.node.attributes();
            (own.device, own.inode) == (attributes.device, attributes.inode)
        })
    };
    if processes.values().any(runs) { Err(Errno::ETXTBSY) } else { Ok(()) }
}

/// Opens what an entry names.
pub async fn open_entry(thread: &Arc<Thread>, entry: &Location, flags: u32) -> Result<Arc<Description>> {
    let attributes = entry.node.attributes();
    let kind = attributes.mode & TYPE;
    if flags & flag::DIRECTORY != 0 && !entry.node.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    if flags & flag::PATH != 0 {
        return Ok(Description::new(Arc::new(DirectoryFile(entry.clone())), flags, Some(entry.clone())));
    }
    if kind == LINK {
        return Err(Errno::ELOOP);
    }
    permits(&thread.process.identity.lock(), &attributes, wanted(flags))?;
    let writes = wanted(flags) & want::WRITE != 0;
    if writes {
        refuse_if_run(thread, &attributes)?;
    }
    if entry.node.is_directory() {
        if writes || flags & flag::CREATE != 0 {
            return Err(Errno::EISDIR);
        }
        may_list(thread, entry, &attributes).await?;
        return Ok(Description::new(Arc::new(DirectoryFile(entry.clone())), flags, Some(entry.clone())));
    }
    match &entry.node.kind {
        Kind::Memory(file) => {
            if flags & flag::TRUNCATE != 0 {
                let change = Change { size: Some(0), ..Change::default() };
                File::change(file.as_ref(), thread, change).await?;
            }
            Ok(Description::new(file.clone(), flags, Some(entry.clone())))
        }
        Kind::Host(leaf) => open_leaf(thread, entry, leaf, flags, writes).await,
        Kind::Device(device) => device.open(thread, entry, flags).await,
        Kind::Terminal(pair) => {
            let pair = pair.upgrade().ok_or(Errno::EIO)?;
            let file = pair.follow(&entry.node)?;
            if flags & flag::NO_TERMINAL == 0 {
                pair.control().offer(&thread.process);
            }
            Ok(Description::new(file, flags & !flag::NO_TERMINAL, Some(entry.clone())))
        }
        Kind::Generated(generator) => {
            if generator.tells_memory() {
                thread.kernel().measure_memory().await;
            }
            let file = generator.open(thread, flags).await?;
            Ok(Description::new(file, flags, Some(entry.clone())))
        }
        Kind::Fifo(shared) => crate::file::fifo::open(thread, shared, entry, flags).await,
        Kind::Socket => Err(Errno::ENXIO),
        Kind::Directory(_) | Kind::Link(_) => Err(Errno::EIO),
    }
}

/// An error if the host will not list a directory: what everybody may read needs no question.
async fn may_list(thread: &Arc<Thread>, entry: &Location, attributes: &Attributes) -> Result<()> {
    const OTHERS_READ: u32 = 0o4;
    let Kind::Directory(directory) = &entry.node.kind else { return Ok(()) };
    let Some(place) = directory.place().filter(|_| attributes.mode & OTHERS_READ == 0) else {
        return Ok(());
    };
    let kernel = thread.kernel();
    let request = Request::Open { at: place.at(), access: Access::Read };
    match kernel.devices.request(kernel, request).await {
        Ok(Reply::Opened { handle, .. }) => kernel.machine.close(handle),
        Err(errno @ Errno::EACCES) => return Err(errno),
        // What else there is to say, the listing says.
        _ => {}
    }
    Ok(())
}

async fn open_leaf(
    thread: &Arc<Thread>,
    entry: &Location,
    leaf: &HostLeaf,
    flags: u32,
    writes: bool,
) -> Result<Arc<Description>> {
    if leaf.attributes.mode & TYPE != REGULAR {
        return Err(Errno::ENXIO);
    }
    if writes && leaf.overlay {
        let up = copy_up(thread, entry, leaf, flags & flag::TRUNCATE == 0).await?;
        // It may be another's copy, and written to since.
        return alloc::boxed::Box::pin(open_entry(thread, &up, flags)).await;
    }
    if writes && !leaf.writable {
        return Err(Errno::EROFS);
    }
    let kernel = thread.kernel();
    let request = Request::Open { at: leaf.place.at(), access: access_of(flags) };
    let Reply::Opened { handle, attributes, .. } = kernel.devices.request(kernel, request).await? else {
        return Err(Errno::EIO);
    };
    let description = host_description(thread, handle, &attributes, entry.clone(), flags);
    if flags & flag::TRUNCATE != 0 {
        truncate(thread, handle).await?;
    }
    Ok(description)
}
