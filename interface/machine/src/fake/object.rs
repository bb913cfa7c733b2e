//! What handles of the fake machine name: open files, directories, and streams that are in-memory pipes.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use abi::Handle;

use super::memory::Content;
use crate::{Code, Readiness};

const EBADF: Code = Code(9);

/// A granted object.
pub enum Object {
    File { inode: u64, content: Content, reads: bool, writes: bool, position: u64 },
    Directory { inode: u64 },
    Stream(Stream),
}

/// A pipe to the outside, in both directions.
#[derive(Default)]
pub struct Stream {
    pub incoming: VecDeque<u8>,
    /// Nothing more comes in.
    pub ended: bool,
    /// What the guest has written.
    pub outgoing: Vec<u8>,
    pub watched: bool,
}

impl Stream {
    pub fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::WRITE;
        readiness.set(Readiness::READ, self.ended || !self.incoming.is_empty());
        readiness.set(Readiness::READ_END, self.ended);
        readiness
    }
}

/// All handles in use. Numbers are never used twice, so that a use after `close` is found.
#[derive(Default)]
pub struct Objects {
    objects: BTreeMap<Handle, Object>,
    last: u64,
}

impl Objects {
    pub fn add(&mut self, object: Object) -> Handle {
        self.last += 1;
        let handle = Handle(self.last);
        self.objects.insert(handle, object);
        handle
    }

    pub fn get(&mut self, handle: Handle) -> Result<&mut Object, Code> {
        self.objects.get_mut(&handle).ok_or(EBADF)
    }

    pub fn stream(&mut self, handle: Handle) -> Result<&mut Stream, Code> {
        match self.get(handle)? {
            Object::Stream(stream) => Ok(stream),
            _ => Err(EBADF),
        }
    }

    /// The node behind a file or directory.
    pub fn inode(&mut self, handle: Handle) -> Result<u64, Code> {
        match self.get(handle)? {
            Object::File { inode, .. } | Object::Directory { inode } => Ok(*inode),
            Object::Stream(_) => Err(EBADF),
        }
    }

    pub fn remove(&mut self, handle: Handle) -> bool {
        self.objects.remove(&handle).is_some()
    }
}
