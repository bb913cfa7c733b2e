//! Requests about opened files, and memory objects.

use std::os::fd::OwnedFd;

use abi::Handle;
use abi::boot::Tree;
use abi::file::{Change, Extent};
use abi::request::{Reply, Request};
use rustix::fs::{
    FallocateFlags, FileType, MemfdFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, fdatasync, fstat,
    fsync, ftruncate, memfd_create, seek, syncfs,
};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::{Answer, Object, Outcome, Served, Server, done};
use crate::identity::Identity;
use crate::tree::{Found, GrantedTree, apply, describe};

impl Server {
    pub(super) fn by_handle(&mut self, request: Request) -> Served {
        use Request::*;
        match request {
            HandleAttributes { handle } => Served::Now(self.handle_attributes(handle)),
            HandleChange { handle, change } if self.is_memory(handle) => {
                Served::Now(self.resize_memory(handle, change))
            }
            HandleChange { handle, change } => later(self.handle_change(handle, change)),
            Synchronise { handle, extent } => later(self.synchronise(handle, extent)),
            Allocate { handle, mode, offset, length } => later(self.allocate(handle, mode, offset, length)),
            Seek { handle, offset, hole } => Served::Now(self.seek(handle, offset, hole)),
            MakeMemory { length } => Served::Now(self.make_memory(length)),
            _ => Served::Now(Err(Errno::NOSYS)),
        }
    }

    fn handle_attributes(&self, handle: Handle) -> Outcome {
        let attributes = match self.objects.get(handle)? {
            Object::File { file, tree: Some(tree), .. } => self.tree(Tree(*tree))?.describe(&fstat(file)?),
            Object::File { file, tree: None, .. } => describe(&fstat(file)?, self.identity),
            Object::Memory { file, .. } => describe(&fstat(file)?, self.identity),
            Object::Socket | Object::Datagrams(_) | Object::Listener { .. } | Object::Terminal => {
                return Err(Errno::INVAL);
            }
        };
        Ok(Answer::Reply(Reply::Attributes(attributes)))
    }

    /// Size by the right of having it open for writing, everything else by the right to its tree.
    fn handle_change(&mut self, handle: Handle, change: Change) -> Result<super::Job, Errno> {
        let Object::File { file, tree, writable } = self.objects.get(handle)? else {
            return Err(Errno::INVAL);
        };
        if change.size.is_some() && !writable {
            return Err(Errno::INVAL);
        }
        let owned = tree.is_some_and(|tree| self.tree(Tree(tree)).is_ok_and(GrantedTree::is_writable));
        let size_only = Change { size: None, ..change } == Change::default();
        if !owned && !size_only {
            return Err(Errno::ROFS);
        }
        let (file, identity) = (fcntl_dupfd_cloexec(file, 0)?, self.identity);
        Ok(Box::new(move || {
            if let Some(size) = change.size {
                ftruncate(&file, size)?;
            }
            if size_only { done(Ok(())) } else { done(apply(Found::of(&file)?, change, identity)) }
        }))
    }

    fn synchronise(&self, handle: Handle, extent: Extent) -> Result<super::Job, Errno> {
        let (file, tree) = match self.objects.get(handle)? {
            Object::File { file, tree, .. } => (fcntl_dupfd_cloexec(file, 0)?, *tree),
            Object::Memory { .. } => return Ok(Box::new(|| done(Ok(())))),
            _ => return Err(Errno::INVAL),
        };
        let owned = tree.is_some_and(|tree| self.tree(Tree(tree)).is_ok_and(GrantedTree::is_writable));
        Ok(Box::new(move || {
            done(match extent {
                Extent::Data => fdatasync(&file),
                Extent::File => fsync(&file),
                Extent::FileSystem if owned => syncfs(&file),
                // It has written nothing there.
                Extent::FileSystem => Ok(()),
            })
        }))
    }

    fn allocate(&mut self, handle: Handle, mode: u32, offset: u64, length: u64) -> Result<super::Job, Errno> {
        let end = offset.checked_add(length).ok_or(Errno::FBIG)?;
        let file = match self.objects.get(handle)? {
            Object::File { file, tree: Some(_), writable: true } => fcntl_dupfd_cloexec(file, 0)?,
            // Pages that the monitor makes would be charged to the monitor, so it only takes some away: also of
            // what was written behind the end that it knows of.
            Object::Memory { file, .. } if is_hole(mode) => fcntl_dupfd_cloexec(file, 0)?,
            Object::Memory { length: most, .. } if end <= *most => return Err(Errno::OPNOTSUPP),
            Object::Memory { .. } => return Err(Errno::NOSPC),
            _ => return Err(Errno::BADF),
        };
        let mode = FallocateFlags::from_bits(mode).ok_or(Errno::OPNOTSUPP)?;
        Ok(Box::new(move || done(fallocate(&file, mode, offset, length))))
    }

    /// The guest uses positions of its own, so that moving the shared one harms nobody.
    fn seek(&self, handle: Handle, offset: u64, hole: bool) -> Outcome {
        let (Object::File { file, tree: Some(_), .. } | Object::Memory { file, .. }) =
            self.objects.get(handle)?
        else {
            return Err(Errno::BADF);
        };
        if FileType::from_raw_mode(fstat(file)?.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let to = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
        seek(file, to).map(|found| Answer::Reply(Reply::Number(found)))
    }

    fn make_memory(&mut self, length: u64) -> Outcome {
        if length > self.memory_objects {
            return Err(Errno::NOMEM);
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("eyot-memory", flags | MemfdFlags::NOEXEC_SEAL)
            .or_else(|_| memfd_create("eyot-memory", flags))?;
        ftruncate(&file, length)?;
        self.memory_objects -= length;
        let attributes = describe(&fstat(&file)?, Identity::Same);
        let object = Object::Memory { file: fcntl_dupfd_cloexec(&file, 0)?, length };
        Ok(Answer::Opened { descriptor: Some(file), object, attributes, made: true })
    }

    fn is_memory(&self, handle: Handle) -> bool {
        matches!(self.objects.get(handle), Ok(Object::Memory { .. }))
    }

    /// At once, so that what is counted and what there is never differ.
    fn resize_memory(&mut self, handle: Handle, change: Change) -> Outcome {
        let Object::Memory { file, length: old } = self.objects.get(handle)? else {
            return Err(Errno::INVAL);
        };
        let (Some(size), true) = (change.size, Change { size: None, ..change } == Change::default()) else {
            return Err(Errno::PERM);
        };
        let available = self.memory_objects.saturating_add(*old);
        if size > available {
            return Err(Errno::NOMEM);
        }
        ftruncate(file, size)?;
        self.memory_objects = available - size;
        self.objects.resize(handle, size);
        done(Ok(()))
    }

    /// The guest has closed its descriptor.
    pub(super) fn forget(&mut self, number: u32) {
        match self.objects.forget(number) {
            Some(Object::Memory { file, length }) => {
                empty(&file);
                self.memory_objects = self.memory_objects.saturating_add(length);
            }
            Some(Object::Datagrams(datagrams)) => datagrams.end(),
            Some(Object::Listener { port }) => self.stop_listening(port),
            _ => {}
        }
    }
}

/// A memory object that is given back holds nothing any more, whatever the guest has kept of it.
fn empty(file: &OwnedFd) {
    // None can fail for a memory file of ours that has no seals yet. What is sealed against growing first
    // cannot be filled again before the last seal.
    let _ = fcntl_add_seals(file, SealFlags::GROW);
    let _ = ftruncate(file, 0);
    let _ = fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::SEAL);
}

/// Whether fallocate(2) in this mode takes pages away.
fn is_hole(mode: u32) -> bool {
    mode == (FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE).bits()
}

fn later(job: Result<super::Job, Errno>) -> Served {
    match job {
        Ok(job) => Served::Disk(job),
        Err(error) => Served::Now(Err(error)),
    }
}
