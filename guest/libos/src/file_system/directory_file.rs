//! An open directory, or anything opened with O_PATH: it names its place and has no content.

use alloc::sync::Arc;
use core::any::Any;

use abi::file::{Attributes, Change, Extent};
use machine::{Transfer, UserRange};

use super::{Kind, Location};
use crate::errno::{Errno, Result};
use crate::file::{File, Promise, event, kept};
use crate::thread::Thread;

/// A directory, or anything opened with O_PATH.
pub struct DirectoryFile(pub Location);

impl File for DirectoryFile {
    fn read(&self, _thread: &Arc<Thread>, _to: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EISDIR)
    }
    fn write(&self, _thread: &Arc<Thread>, _from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EBADF)
    }
    fn events(&self) -> u32 {
        event::IN | event::OUT
    }
    fn seekable(&self) -> bool {
        true
    }
    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        let (thread, entry) = (thread.clone(), self.0.clone());
        Promise::later(async move { super::attributes(&thread, &entry).await })
    }
    fn change(&self, thread: &Arc<Thread>, change: Change) -> Promise<()> {
        let (thread, entry) = (thread.clone(), self.0.clone());
        Promise::later(async move { super::change::change_attributes(&thread, &entry, change).await })
    }
    /// Of a volume's directory this makes its names last.
    fn synchronise(&self, thread: &Arc<Thread>, extent: Extent) -> Promise<()> {
        let Kind::Directory(directory) = &self.0.node.kind else { return kept(Ok(())) };
        match directory.place().filter(|_| directory.is_volume()) {
            None => kept(Ok(())),
            Some(place) => {
                let kernel = thread.kernel().clone();
                Promise::later(async move { super::synchronise(&kernel, &place, extent).await })
            }
        }
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
