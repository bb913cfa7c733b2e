//! Reading directories: what lies on the host and what the guest has made, as one list.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::file::Entry as Listed;
use abi::request::{Reply, Request};

use super::node::TYPE;
use super::{Kind, Location};
use crate::errno::{Errno, Result};
use crate::thread::Thread;

/// A directory's entries as they were when reading began, `.` and `..` included. Positions are indices.
#[derive(Clone, Debug)]
pub struct Listing {
    pub entries: Vec<Listed>,
}

/// `d_type` of a mode.
pub fn kind_of(mode: u32) -> u8 {
    (mode & TYPE).wrapping_shr(12) as u8
}

/// Lists a directory.
pub async fn list(thread: &Arc<Thread>, at: &Location) -> Result<Listing> {
    let parent = at.parent.lock().clone().unwrap_or_else(|| at.clone());
    let dot = |name: &[u8], of: &Location| Listed {
        name: name.to_vec(),
        inode: of.node.attributes().inode,
        kind: 4,
    };
    let mut entries = alloc::vec![dot(b".", at), dot(b"..", &parent)];
    let directory = match &at.node.kind {
        Kind::Directory(directory) => directory,
        Kind::Generated(generator) => {
            entries.extend(generator.list(thread)?);
            return Ok(Listing { entries });
        }
        _ => return Err(Errno::ENOTDIR),
    };
    let mut below = Vec::new();
    if let Some(place) = directory.place() {
        let kernel = thread.kernel();
        let mut cookie = 0;
        loop {
            // A directory that was attached over nothing has no lower side.
            match kernel.devices.request(kernel, Request::List { at: place.at(), cookie }).await {
                Ok(Reply::Entries { entries, next }) => {
                    below.extend(entries);
                    match next {
                        Some(next) if next != cookie => cookie = next,
                        _ => break,
                    }
                }
                Ok(_) => return Err(Errno::EIO),
                Err(Errno::ENOENT) => break,
                Err(errno) => return Err(errno),
            }
        }
    }
    let children = directory.children.lock();
    // What is kept of a volume's directories does not say that they are still there.
    let is_hosts =
        |name: &[u8], entry: &Location| directory.is_volume() && directory.mirrors(name, &entry.node);
    let hides = |name: &Vec<u8>| match children.get(name) {
        Some(Some(entry)) => !is_hosts(name, entry),
        Some(None) => true,
        None => false,
    };
    entries.extend(below.into_iter().filter(|entry| !hides(&entry.name)));
    for (name, child) in children.iter() {
        if let Some(entry) = child.as_ref().filter(|entry| !is_hosts(name, entry)) {
            let attributes = entry.node.attributes();
            entries.push(Listed {
                name: name.clone(),
                inode: attributes.inode,
                kind: kind_of(attributes.mode),
            });
        }
    }
    Ok(Listing { entries })
}
