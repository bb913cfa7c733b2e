//! The content of the guest's own regular files.
//!
//! Small files live on the library OS's heap. One that grows beyond [`HEAP_MAX`], or is mapped, moves to
//! a memory object of the monitor's, which then is read, written and mapped as any granted file. Every
//! byte is taken from the island's scratch budget first, so that an island cannot fill the host.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::lock::Mutex;
use abi::file::{Attributes, Change, Extent};
use abi::request::{Reply, Request};
use machine::{Handle, Sink, Source, Transfer, UserRange};

use super::node::Node;
use super::seal::Seals;
use crate::errno::{Errno, Result};
use crate::file::{File, Pages, Promise, kept};
use crate::kernel::Kernel;
use crate::thread::Thread;
use crate::user;

/// Bytes beyond which content leaves the heap.
const HEAP_MAX: u64 = 64 * 1024;
/// Granule of the scratch budget.
const GRANULE: u64 = 4096;

enum Content {
    Heap(Vec<u8>),
    Object { handle: Handle, size: u64 },
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Self::Heap(bytes) => bytes.len() as u64,
            Self::Object { size, .. } => *size,
        }
    }
}

/// A regular file of the guest's own.
pub struct MemoryFile {
    kernel: Weak<Kernel>,
    content: Mutex<Content>,
    /// Counts what may have changed an object's size; with the content locked.
    changes: AtomicU64,
    /// Bytes taken from the budget.
    reserved: Mutex<u64>,
    node: Mutex<Weak<Node>>,
    pub seals: Seals,
}

impl MemoryFile {
    pub fn new(kernel: &Arc<Kernel>) -> Arc<Self> {
        Arc::new(Self {
            kernel: Arc::downgrade(kernel),
            content: Mutex::new(Content::Heap(Vec::new())),
            changes: AtomicU64::new(0),
            reserved: Mutex::new(0),
            node: Mutex::new(Weak::new()),
            seals: Seals::default(),
        })
    }

    /// Holds these few bytes from the start.
    pub fn hold(&self, bytes: &[u8]) {
        *self.content.lock() = Content::Heap(bytes.to_vec());
    }

    /// Tells the content which node it belongs to.
    pub fn belong_to(&self, node: &Arc<Node>) {
        *self.node.lock() = Arc::downgrade(node);
    }

    pub fn size(&self) -> u64 {
        self.content.lock().size()
    }

    /// Adds seals, and says which there were. Writes that saw none have their place in the file by then.
    pub fn seal(&self, added: u32) -> Result<u32> {
        let before = self.seals.add(added)?;
        drop(self.content.lock());
        Ok(before)
    }

    pub fn blocks(&self) -> u64 {
        self.size().div_ceil(GRANULE) * (GRANULE / 512)
    }

    /// Takes what a file of `size` bytes needs from the budget.
    fn reserve(&self, size: u64) -> Result<()> {
        let kernel = self.kernel.upgrade().ok_or(Errno::EIO)?;
        let needed = size.checked_add(GRANULE - 1).ok_or(Errno::EFBIG)? & !(GRANULE - 1);
        let mut reserved = self.reserved.lock();
        if needed > *reserved {
            if !kernel.file_systems.reserve(needed - *reserved) {
                return Err(Errno::ENOSPC);
            }
        } else {
            kernel.file_systems.release(*reserved - needed);
        }
        *reserved = needed;
        Ok(())
    }

    fn touch(&self, thread: &Arc<Thread>) {
        if let Some(node) = self.node.lock().upgrade() {
            let now_ns = thread.kernel().machine.now().realtime_ns as i64;
            let mut meta = node.meta.lock();
            meta.modified_ns = now_ns;
            meta.changed_ns = now_ns;
        }
    }

    /// Overwrites or appends from the library OS's own memory, as copy-up does.
    pub fn fill(&self, thread: &Arc<Thread>, bytes: &[u8], offset: u64) -> Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end < 1 << 62).ok_or(Errno::EFBIG)?;
        self.reserve(end.max(self.size()))?;
        match &mut *self.content.lock() {
            Content::Heap(content) => {
                if content.len() < end as usize {
                    content.resize(end as usize, 0);
                }
                content[offset as usize..end as usize].copy_from_slice(bytes);
                Ok(())
            }
            Content::Object { handle, size } => {
                self.changes.fetch_add(1, Ordering::Relaxed);
                match thread.kernel().machine.write(*handle, Some(offset), Source::Kernel(bytes))? {
                    Transfer::Done(length) if length == bytes.len() => {
                        *size = (*size).max(end);
                        Ok(())
                    }
                    _ => Err(Errno::ENOSPC),
                }
            }
        }
    }

    /// Moves the content to a memory object, and says which.
    pub async fn promote(&self, kernel: &Arc<Kernel>) -> Result<Handle> {
        if let Content::Object { handle, .. } = &*self.content.lock() {
            return Ok(*handle);
        }
        loop {
            let length = self.size();
            let reply = kernel.devices.request(kernel, Request::MakeMemory { length }).await?;
            let Reply::Opened { handle, .. } = reply else { return Err(Errno::EIO) };
            let moved = self.move_to(kernel, handle, length);
            if moved != Ok(Some(handle)) {
                kernel.machine.close(handle);
            }
            if let Some(object) = moved? {
                return Ok(object);
            }
        }
    }

    /// Moves the content to an object of that length, and says which it is in by now; `None` if it has become shorter
    /// meanwhile.
    fn move_to(&self, kernel: &Arc<Kernel>, handle: Handle, length: u64) -> Result<Option<Handle>> {
        let mut content = self.content.lock();
        let bytes = match &*content {
            Content::Object { handle, .. } => return Ok(Some(*handle)),
            Content::Heap(bytes) => bytes,
        };
        let size = bytes.len() as u64;
        if size < length {
            return Ok(None);
        }
        if size > 0
            && kernel.machine.write(handle, Some(0), Source::Kernel(bytes))? != Transfer::Done(bytes.len())
        {
            return Err(Errno::ENOSPC);
        }
        *content = Content::Object { handle, size };
        Ok(Some(handle))
    }

    /// ftruncate(2).
    pub async fn resize(&self, kernel: &Arc<Kernel>, size: u64) -> Result<()> {
        self.seals.may_resize(self.size(), size)?;
        self.reserve(size)?;
        if size > HEAP_MAX {
            self.promote(kernel).await?;
        }
        let handle = match &mut *self.content.lock() {
            Content::Heap(bytes) => {
                bytes.resize(size as usize, 0);
                return Ok(());
            }
            Content::Object { handle, .. } => *handle,
        };
        let change = Change { size: Some(size), ..Change::default() };
        let mut size = size;
        let mut before = self.changes.load(Ordering::Relaxed);
        kernel.devices.request(kernel, Request::HandleChange { handle, change }).await?;
        // Whether a write meanwhile came before or after, only who keeps the object knows.
        loop {
            if let Content::Object { size: old, .. } = &mut *self.content.lock()
                && self.changes.load(Ordering::Relaxed) == before
            {
                self.changes.store(before + 1, Ordering::Relaxed);
                *old = size;
                return Ok(());
            }
            before = self.changes.load(Ordering::Relaxed);
            let reply = kernel.devices.request(kernel, Request::HandleAttributes { handle }).await?;
            let Reply::Attributes(attributes) = reply else { return Err(Errno::EIO) };
            size = attributes.size;
        }
    }

    /// Makes the content this long, if it is shorter.
    async fn grow(&self, kernel: &Arc<Kernel>, end: u64) -> Result<()> {
        let size = self.size();
        if end <= size {
            return Ok(());
        }
        self.seals.may_resize(size, end)?;
        self.reserve(end)?;
        if end > HEAP_MAX {
            self.promote(kernel).await?;
        }
        match &mut *self.content.lock() {
            Content::Heap(bytes) => bytes.resize(bytes.len().max(end as usize), 0),
            Content::Object { handle, size } if *size < end => {
                self.changes.fetch_add(1, Ordering::Relaxed);
                if kernel.machine.write(*handle, Some(end - 1), Source::Kernel(&[0]))? != Transfer::Done(1) {
                    return Err(Errno::ENOSPC);
                }
                *size = end;
            }
            Content::Object { .. } => {}
        }
        Ok(())
    }

    fn this_node(&self) -> Result<Arc<Node>> {
        self.node.lock().upgrade().ok_or(Errno::EIO)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let Some(kernel) = self.kernel.upgrade() else { return };
        kernel.file_systems.release(*self.reserved.lock());
        if let Content::Object { handle, .. } = &*self.content.lock() {
            kernel.machine.close(*handle);
        }
    }
}

impl File for MemoryFile {
    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        let offset = offset.unwrap_or(0);
        let machine = &thread.kernel().machine;
        match &*self.content.lock() {
            Content::Heap(bytes) => {
                let mut left = bytes.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or(&[]);
                let available = left.len();
                for range in to {
                    let (now, later) = left.split_at(left.len().min(range.length as usize));
                    machine.copy_out(thread.process.space(), now, range.address)?;
                    left = later;
                }
                Ok(Transfer::Done(available - left.len()))
            }
            Content::Object { handle, .. } => Ok(machine.read(*handle, Some(offset), Sink::User(to))?),
        }
    }

    fn prepare_write(&self, thread: &Arc<Thread>, end: u64) -> Option<Promise<()>> {
        let heap = matches!(&*self.content.lock(), Content::Heap(_));
        if !heap || end <= HEAP_MAX {
            return None;
        }
        let kernel = thread.kernel().clone();
        let node = self.this_node();
        Some(Promise::later(async move {
            match &node?.kind {
                super::Kind::Memory(file) => file.promote(&kernel).await.map(|_| ()),
                _ => Err(Errno::EIO),
            }
        }))
    }

    fn write(&self, thread: &Arc<Thread>, from: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        let total: u64 = from.iter().map(|range| range.length).sum();
        let offset = offset.unwrap_or(0);
        let end = offset.checked_add(total).filter(|end| *end < 1 << 62).ok_or(Errno::EFBIG)?;
        let mut content = self.content.lock();
        self.seals.may_write()?;
        if total == 0 {
            return Ok(Transfer::Done(0));
        }
        let size = content.size();
        self.seals.may_resize(size, end.max(size))?;
        self.reserve(end.max(size))?;
        self.touch(thread);
        let machine = &thread.kernel().machine;
        match &mut *content {
            Content::Heap(bytes) => {
                if bytes.len() < end as usize {
                    bytes.resize(end as usize, 0);
                }
                let start = offset as usize;
                let mut position = start;
                for range in from {
                    let length = range.length as usize;
                    let to = &mut bytes[position..position + length];
                    let done = user::read_reachable(thread, range.address, to);
                    position += done;
                    if done < length {
                        bytes.truncate(position.max(size as usize));
                        break;
                    }
                }
                if position == start {
                    bytes.truncate(size as usize);
                    return Err(Errno::EFAULT);
                }
                Ok(Transfer::Done(position - start))
            }
            Content::Object { handle, size } => {
                self.changes.fetch_add(1, Ordering::Relaxed);
                let transfer = machine.write(*handle, Some(offset), Source::User(from))?;
                let done = if let Transfer::Done(length) = transfer { length as u64 } else { total };
                *size = (*size).max(offset + done);
                Ok(transfer)
            }
        }
    }

    fn read_kernel(&self, thread: &Arc<Thread>, to: &mut [u8], offset: u64) -> Result<usize> {
        match &*self.content.lock() {
            Content::Heap(bytes) => {
                let left = bytes.get(offset as usize..).unwrap_or(&[]);
                let length = left.len().min(to.len());
                to[..length].copy_from_slice(&left[..length]);
                Ok(length)
            }
            Content::Object { handle, .. } => {
                match thread.kernel().machine.read(*handle, Some(offset), Sink::Kernel(to))? {
                    Transfer::Done(length) => Ok(length),
                    _ => Err(Errno::EIO),
                }
            }
        }
    }

    fn write_kernel_at(&self, thread: &Arc<Thread>, from: &[u8], offset: u64) -> Result<Transfer> {
        self.seals.may_write()?;
        let end = offset.saturating_add(from.len() as u64);
        self.seals.may_resize(self.size(), self.size().max(end))?;
        self.fill(thread, from, offset)?;
        self.touch(thread);
        Ok(Transfer::Done(from.len()))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn find_end(&self, _thread: &Arc<Thread>) -> Promise<u64> {
        kept(Ok(self.size()))
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        let node = match self.this_node() {
            Ok(node) => node,
            Err(errno) => return kept(Err(errno)),
        };
        let Content::Object { handle, .. } = *self.content.lock() else {
            return kept(Ok(node.attributes()));
        };
        // Which parts are holes is known to the object alone.
        let kernel = thread.kernel().clone();
        Promise::later(async move {
            let reply = kernel.devices.request(&kernel, Request::HandleAttributes { handle }).await?;
            let Reply::Attributes(Attributes { blocks, .. }) = reply else { return Err(Errno::EIO) };
            Ok(Attributes { blocks, ..node.attributes() })
        })
    }

    fn change(&self, thread: &Arc<Thread>, change: Change) -> Promise<()> {
        let kernel = thread.kernel().clone();
        let node = self.this_node();
        Promise::later(async move {
            let node = node?;
            if let (Some(size), super::Kind::Memory(file)) = (change.size, &node.kind) {
                file.resize(&kernel, size).await?;
            }
            let now_ns = kernel.machine.now().realtime_ns as i64;
            let mut meta = node.meta.lock();
            meta.apply(&change, now_ns);
            if change.size.is_some() {
                meta.modified_ns = now_ns;
            }
            Ok(())
        })
    }

    fn synchronise(&self, _thread: &Arc<Thread>, _extent: Extent) -> Promise<()> {
        kept(Ok(()))
    }

    fn allocate(&self, thread: &Arc<Thread>, mode: u32, offset: u64, length: u64) -> Promise<()> {
        let kernel = thread.kernel().clone();
        let node = self.this_node();
        Promise::later(async move {
            let node = node?;
            let super::Kind::Memory(file) = &node.kind else { return Err(Errno::EIO) };
            let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
            let punches = mode & 2 != 0;
            if punches {
                file.seals.may_write()?;
                let handle = file.promote(&kernel).await?;
                let request = Request::Allocate { handle, mode, offset, length };
                kernel.devices.request(&kernel, request).await?;
            } else if mode & !1 != 0 {
                return Err(Errno::EOPNOTSUPP);
            } else if mode == 0 {
                file.grow(&kernel, end).await?;
            }
            let now_ns = kernel.machine.now().realtime_ns as i64;
            let mut meta = node.meta.lock();
            meta.changed_ns = now_ns;
            meta.modified_ns = if punches { now_ns } else { meta.modified_ns };
            Ok(())
        })
    }

    fn seek_data(&self, thread: &Arc<Thread>, offset: u64, hole: bool) -> Promise<u64> {
        let size = self.size();
        if let Content::Object { handle, .. } = *self.content.lock() {
            let kernel = thread.kernel().clone();
            return Promise::later(async move {
                let request = Request::Seek { handle, offset, hole };
                match kernel.devices.request(&kernel, request).await? {
                    Reply::Number(found) => Ok(found),
                    _ => Err(Errno::EIO),
                }
            });
        }
        kept(if offset >= size { Err(Errno::ENXIO) } else { Ok(if hole { size } else { offset }) })
    }

    fn pages(&self, thread: &Arc<Thread>) -> Promise<Option<Pages>> {
        let kernel = thread.kernel().clone();
        let node = self.this_node();
        Promise::later(async move {
            match &node?.kind {
                super::Kind::Memory(file) => {
                    let handle = file.promote(&kernel).await?;
                    Ok(Some(Pages { handle }))
                }
                _ => Err(Errno::ENODEV),
            }
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
