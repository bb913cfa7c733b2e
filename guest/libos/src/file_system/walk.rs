//! From a path to a place in the tree (path_resolution(7)).
//!
//! Components are taken one by one; links are resolved here, never by the host. A path costs one
//! question to the host for its last component and for every directory not yet walked through.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::request::{Reply, Request};

use super::node::{DIRECTORY, TYPE};
use super::{Bounds, Directory, Entry, Kind, Location, Meta, Node, node, permits, want};
use crate::errno::{Errno, Result};
use crate::thread::Thread;

const LINKS_MAX: usize = 40;
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// Whether a link at the end of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    Yes,
    No,
}

/// The parent of a path's last component, and that component.
pub struct Found {
    pub parent: Location,
    pub name: Vec<u8>,
    /// The path ended in a slash: only a directory will do.
    pub slash: bool,
}

/// The entry a path leads to.
pub async fn walk(thread: &Arc<Thread>, start: &Location, path: &[u8], follow: Follow) -> Result<Location> {
    walk_within(thread, &Bounds::default(), start, path, follow).await
}

/// The entry a path leads to, within bounds.
pub async fn walk_within(
    thread: &Arc<Thread>,
    bounds: &Bounds,
    start: &Location,
    path: &[u8],
    follow: Follow,
) -> Result<Location> {
    if path.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let mut links = 0;
    let mut at = if path.first() == Some(&b'/') { bounds.root(thread, start)? } else { start.clone() };
    // What is left to walk: the path, and links' targets once they are met.
    let mut text = Cow::Borrowed(path);
    let mut position = 0;
    let mut must_be_directory = names_directory(path);
    while let Some((begin, end)) = component(&text, position)? {
        position = end;
        let directory = at.node.search_mode().ok_or(Errno::ENOTDIR)?;
        if directory & 0o111 != 0o111 {
            may_search(thread, &at)?;
        }
        let name = &text[begin..end];
        let next = match kept(&at, name) {
            Some(entry) => entry?,
            None if name == b".." => bounds.above(thread, &at)?,
            None => step(thread, &at, name).await?,
        };
        bounds.may_cross(&at, &next)?;
        if next.node.mode() & TYPE == node::LINK {
            let last = component(&text, position)?.is_none();
            if !last || follow == Follow::Yes || must_be_directory {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::ELOOP);
                }
                bounds.may_follow()?;
                match target(thread, &next).await? {
                    Target::Place(location) => {
                        bounds.may_jump()?;
                        bounds.may_cross(&at, &location)?;
                        at = location;
                    }
                    Target::Path(mut path) => {
                        must_be_directory |= last && names_directory(&path);
                        if path.first() == Some(&b'/') {
                            at = bounds.root(thread, &at)?;
                        }
                        path.push(b'/');
                        path.extend_from_slice(&text[position..]);
                        (text, position) = (Cow::Owned(path), 0);
                    }
                }
                continue;
            }
        }
        at = next;
    }
    if must_be_directory && !at.node.is_directory() { Err(Errno::ENOTDIR) } else { Ok(at) }
}

/// Whether a path's end says that it names a directory.
fn names_directory(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/") || path.ends_with(b"/.")
}

/// The next component of a path from a position on, `.` left out: where it begins and ends.
fn component(path: &[u8], mut position: usize) -> Result<Option<(usize, usize)>> {
    while position < path.len() {
        let length = path[position..].iter().position(|byte| *byte == b'/').unwrap_or(path.len() - position);
        if length > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if length != 0 && path[position..position + length] != *b"." {
            return Ok(Some((position, position + length)));
        }
        position += length + 1;
    }
    Ok(None)
}

/// A name that the directory keeps itself, found without asking anybody; `None`: ask.
fn kept(at: &Location, name: &[u8]) -> Option<Result<Location>> {
    let Kind::Directory(directory) = &at.node.kind else { return None };
    match directory.children.lock().get(name) {
        Some(Some(entry)) => Some(Ok(entry.clone())),
        Some(None) => Some(Err(Errno::ENOENT)),
        None => None,
    }
}

/// The parent of a path's last component, which need not exist.
pub async fn walk_parent(thread: &Arc<Thread>, start: &Location, path: &[u8]) -> Result<Found> {
    walk_parent_within(thread, &Bounds::default(), start, path).await
}

/// The parent of a path's last component, within bounds.
pub(super) async fn walk_parent_within(
    thread: &Arc<Thread>,
    bounds: &Bounds,
    start: &Location,
    path: &[u8],
) -> Result<Found> {
    let slash = path.last() == Some(&b'/');
    let trimmed = path.iter().rposition(|byte| *byte != b'/').map_or(&path[..0], |end| &path[..=end]);
    let split = trimmed.iter().rposition(|byte| *byte == b'/').map_or(0, |position| position + 1);
    let (above, name) = trimmed.split_at(split);
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let above = if trimmed.is_empty() { b"/" } else { above };
    let parent = match above {
        [] => start.clone(),
        above => walk_within(thread, bounds, start, above, Follow::Yes).await?,
    };
    if !parent.node.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    Ok(Found { parent, name: name.to_vec(), slash })
}

/// Whether names in a directory may be looked up.
pub(super) fn may_search(thread: &Arc<Thread>, at: &Location) -> Result<()> {
    let identity = thread.process.identity.lock();
    permits(&identity, &at.node.attributes(), want::EXECUTE)
}

/// One component further, links not followed.
pub async fn step(thread: &Arc<Thread>, at: &Location, name: &[u8]) -> Result<Location> {
    if name.is_empty() || name == b"." {
        return Ok(at.clone());
    }
    if name == b".." {
        return Bounds::default().above(thread, at);
    }
    let directory = match &at.node.kind {
        Kind::Directory(directory) => directory,
        Kind::Generated(generator) => {
            let node = generator.lookup(thread, name)?;
            return Ok(Entry::new(name, Some(at.clone()), node));
        }
        _ => return Err(Errno::ENOTDIR),
    };
    match directory.children.lock().get(name) {
        Some(Some(entry)) => return Ok(entry.clone()),
        Some(None) => return Err(Errno::ENOENT),
        None => {}
    }
    let place = directory.below(name).ok_or(Errno::ENOENT)?;
    let kernel = thread.kernel();
    let reply = kernel.devices.request(kernel, Request::Attributes { at: place.at() }).await?;
    let Reply::Attributes(attributes) = reply else { return Err(Errno::EIO) };
    kernel.file_systems.record.note(&*kernel.machine, &place);
    let (overlay, writable) = (directory.overlay, directory.writable);
    if attributes.mode & TYPE != DIRECTORY {
        let leaf = node::HostLeaf { place, attributes, overlay, writable };
        let node = Node::new(Meta::of(&attributes), Kind::Host(leaf));
        return Ok(Entry::new(name, Some(at.clone()), node));
    }
    let below = Directory::new(Some(place), overlay, writable);
    let node = Node::new(Meta::of(&attributes), Kind::Directory(below));
    let entry = Entry::new(name, Some(at.clone()), node);
    let mut children = directory.children.lock();
    // Somebody may have made or hidden the name meanwhile.
    match children.get(name) {
        Some(Some(existing)) => Ok(existing.clone()),
        Some(None) => Err(Errno::ENOENT),
        None => {
            children.insert(name.to_vec(), Some(entry.clone()));
            Ok(entry)
        }
    }
}

/// Where a link leads.
pub enum Target {
    Path(Vec<u8>),
    /// A link of /proc, which leads to the thing itself.
    Place(Location),
}

/// Reads a link.
pub async fn target(thread: &Arc<Thread>, entry: &Location) -> Result<Target> {
    match &entry.node.kind {
        Kind::Link(target) => Ok(Target::Path(target.clone())),
        Kind::Generated(generator) => generator.target(thread),
        Kind::Host(leaf) => {
            let kernel = thread.kernel();
            match kernel.devices.request(kernel, Request::ReadLink { at: leaf.place.at() }).await? {
                Reply::Bytes(target) => Ok(Target::Path(target)),
                _ => Err(Errno::EIO),
            }
        }
        _ => Err(Errno::EINVAL),
    }
}

/// What readlink(2) answers for a link.
pub async fn link_text(thread: &Arc<Thread>, entry: &Location) -> Result<Vec<u8>> {
    if entry.node.mode() & TYPE != node::LINK {
        return Err(Errno::EINVAL);
    }
    match target(thread, entry).await? {
        Target::Path(path) => Ok(path),
        Target::Place(place) => Ok(place.shown_path()),
    }
}
