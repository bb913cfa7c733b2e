//! What stat(2) tells of a place, asked anew where others may have changed it.

use alloc::sync::Arc;

use abi::file::Attributes;
use abi::request::{Reply, Request};

use super::{Kind, Location, Meta};
use crate::errno::{Errno, Result};
use crate::file::File;
use crate::thread::Thread;

/// The attributes now. A look-up has just asked for a file's; the directories of volumes are kept, so
/// they are asked for again. One that is gone is forgotten.
pub async fn attributes(thread: &Arc<Thread>, at: &Location) -> Result<Attributes> {
    let directory = match &at.node.kind {
        Kind::Directory(directory) => directory,
        Kind::Memory(file) => return File::attributes(file.as_ref(), thread).await,
        _ => return Ok(at.node.attributes()),
    };
    let kernel = thread.kernel();
    loop {
        let Some(place) = directory.place().filter(|_| !directory.overlay) else {
            return Ok(at.node.attributes());
        };
        match kernel.devices.request(kernel, Request::Attributes { at: place.at() }).await {
            Ok(Reply::Attributes(attributes)) => {
                *at.node.meta.lock() = Meta::of(&attributes);
                return Ok(attributes);
            }
            Ok(_) => return Err(Errno::EIO),
            // It has been moved meanwhile.
            Err(Errno::ENOENT) if directory.place().is_some_and(|now| now != place) => {}
            Err(Errno::ENOENT) if !at.is_removed() => {
                at.detach();
                return Err(Errno::ENOENT);
            }
            // Who has a removed directory open still has what was known of it.
            Err(Errno::ENOENT) => return Ok(Attributes { links: 0, ..at.node.attributes() }),
            Err(errno) => return Err(errno),
        }
    }
}
