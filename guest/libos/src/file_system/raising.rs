//! Bringing what lies on an overlay's lower side up, so that it can be changed.
//!
//! The copy takes the name's place at once and whole; who has the file open keeps what lies below.

use alloc::sync::Arc;
use alloc::vec;

use abi::file::Access;
use abi::request::{Reply, Request};
use machine::{Sink, Transfer};

use super::change::now_ns;
use super::naming::raise;
use super::node::{HostLeaf, LINK, REGULAR, TYPE};
use super::walk::{Target, target};
use super::{Entry, Kind, Location, MemoryFile, Meta, Node};
use crate::errno::{Errno, Result};
use crate::thread::Thread;
use crate::wait;

/// Bytes copied at a time.
const COPY: usize = 64 * 1024;

/// Brings a leaf of the lower side up, so that it can be changed; other entries are returned as they are.
pub async fn own(thread: &Arc<Thread>, entry: &Location) -> Result<Location> {
    match &entry.node.kind {
        Kind::Host(leaf) if leaf.overlay && leaf.attributes.mode & TYPE == REGULAR => {
            copy_up(thread, entry, leaf, true).await
        }
        Kind::Host(leaf) if leaf.overlay && leaf.attributes.mode & TYPE == LINK => {
            let Target::Path(target) = target(thread, entry).await? else {
                return Err(Errno::EIO);
            };
            let parent = entry.parent.lock().clone().ok_or(Errno::EROFS)?;
            let name = entry.name.lock().clone();
            let up = Entry::new(
                &name,
                Some(parent.clone()),
                Node::new(Meta::of(&leaf.attributes), Kind::Link(target)),
            );
            raise(&parent, &name, up)
        }
        Kind::Host(leaf) if !leaf.writable => Err(Errno::EROFS),
        _ => Ok(entry.clone()),
    }
}

/// Brings a file of an overlay's lower side up into the guest's memory.
pub async fn copy_up(
    thread: &Arc<Thread>,
    entry: &Location,
    leaf: &HostLeaf,
    content: bool,
) -> Result<Location> {
    let parent = entry.parent.lock().clone().ok_or(Errno::EROFS)?;
    let name = entry.name.lock().clone();
    let kernel = thread.kernel();
    let file = MemoryFile::new(kernel);
    let mut meta = Meta::of(&leaf.attributes);
    meta.links = 1;
    meta.changed_ns = now_ns(thread);
    let node = Node::new(meta, Kind::Memory(file.clone()));
    file.belong_to(&node);
    if content {
        let size = leaf.attributes.size;
        file.resize(kernel, size).await?;
        let request = Request::Open { at: leaf.place.at(), access: Access::Read };
        let Reply::Opened { handle, .. } = kernel.devices.request(kernel, request).await? else {
            return Err(Errno::EIO);
        };
        let mut buffer = vec![0; COPY];
        let mut offset = 0;
        let copied = loop {
            match kernel.machine.read(handle, Some(offset), Sink::Kernel(&mut buffer)) {
                Ok(Transfer::Done(0)) => break Ok(()),
                Ok(Transfer::Done(length)) => {
                    if let Err(errno) = file.fill(thread, &buffer[..length], offset) {
                        break Err(errno);
                    }
                    offset += length as u64;
                    if thread.process.must_end(thread) {
                        break Err(Errno::ERESTARTSYS);
                    }
                    wait::give_way().await;
                }
                Ok(_) => break Err(Errno::EIO),
                Err(code) => break Err(code.into()),
            }
        };
        kernel.machine.close(handle);
        copied?;
    }
    raise(&parent, &name, Entry::new(&name, Some(parent.clone()), node))
}
