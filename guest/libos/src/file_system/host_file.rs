//! Open files of the host's: what is read and written by the machine, and what the monitor is asked.

use alloc::sync::Arc;
use core::any::Any;

use crate::lock::{Mutex, Once};
use abi::file::{Access, Attributes, Change, Extent};
use abi::request::{Reply, Request};
use machine::{Handle, Machine, Sink, Source, Transfer, UserRange};

use super::node::HostLeaf;
use super::{Kind, Location};
use crate::device::Devices;
use crate::errno::{Errno, Result};
use crate::file::{Description, File, Pages, Promise, flag, kept};
use crate::thread::Thread;

/// Describes an opened file of the host's.
pub(super) fn host_description(
    thread: &Arc<Thread>,
    handle: Handle,
    attributes: &Attributes,
    entry: Location,
    flags: u32,
) -> Arc<Description> {
    let machine = thread.kernel().machine.clone();
    // Truncating comes after opening.
    let seen = (flags & flag::TRUNCATE == 0).then(|| Seen::now(thread, attributes));
    let file = Arc::new(HostFile { machine, handle, entry: entry.clone(), again: Once::new(), seen });
    Description::new(file, flags, Some(entry))
}

/// What opening a file told of it. fstat(2) as the very next system call, which is how files are mostly
/// read, needs no second question: a program of one thread has heard nothing from outside since.
struct Seen {
    thread: u32,
    call: u64,
    attributes: Attributes,
}

impl Seen {
    fn now(thread: &Arc<Thread>, attributes: &Attributes) -> Self {
        Self { thread: thread.number(), call: thread.calls(), attributes: *attributes }
    }

    fn if_fresh(&self, thread: &Arc<Thread>) -> Option<Attributes> {
        let is_next = thread.number() == self.thread && thread.calls() == self.call + 1;
        (is_next && thread.process.threads.lock().len() == 1).then_some(self.attributes)
    }
}

/// A file that the machine has opened by itself, as the monitor gets to know it: opened again by its name, if
/// that is still its name.
struct Again {
    machine: Arc<dyn Machine>,
    entry: Location,
    handle: Mutex<Option<Handle>>,
}

impl Drop for Again {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.get_mut().take() {
            self.machine.close(handle);
        }
    }
}

impl Again {
    async fn handle(&self, thread: &Arc<Thread>) -> Result<Handle> {
        if let Some(handle) = *self.handle.lock() {
            return Ok(handle);
        }
        let leaf = leaf(&self.entry).ok_or(Errno::EBADF)?;
        let Attributes { device, inode, .. } = leaf.attributes;
        let request = Request::Open { at: leaf.place.at(), access: Access::Again { device, inode } };
        let kernel = thread.kernel();
        let Reply::Opened { handle, .. } = kernel.devices.request(kernel, request).await? else {
            return Err(Errno::EIO);
        };
        let mut kept = self.handle.lock();
        // Another thread may have been faster.
        if let Some(earlier) = *kept {
            self.machine.close(handle);
            return Ok(earlier);
        }
        *kept = Some(handle);
        Ok(handle)
    }
}

fn leaf(entry: &Location) -> Option<&HostLeaf> {
    match &entry.node.kind {
        Kind::Host(leaf) => Some(leaf),
        _ => None,
    }
}

/// What stands for an overlay's file by now: its copy, if there is one. Once the name means something else
/// there is nothing left to change (ESTALE).
fn above(entry: &Location) -> Result<Location> {
    let parent = entry.parent.lock().clone().ok_or(Errno::ESTALE)?;
    let name = entry.name.lock().clone();
    let identity = |place: &Location| {
        let Attributes { device, inode, .. } = place.node.attributes();
        (device, inode)
    };
    match parent.node.directory()?.children.lock().get(&name) {
        None => Ok(entry.clone()),
        Some(Some(copy)) if identity(copy) == identity(entry) => Ok(copy.clone()),
        Some(_) => Err(Errno::ESTALE),
    }
}

/// A regular file of a granted tree.
pub struct HostFile {
    machine: Arc<dyn Machine>,
    handle: Handle,
    entry: Location,
    again: Once<Arc<Again>>,
    seen: Option<Seen>,
}

impl Drop for HostFile {
    fn drop(&mut self) {
        self.machine.close(self.handle);
    }
}

impl HostFile {
    fn attributes_now(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        let request = Request::HandleAttributes { handle: self.handle };
        Devices::promise(thread.kernel(), request).then(|reply| match reply {
            Reply::Attributes(attributes) => Ok(attributes),
            _ => Err(Errno::EIO),
        })
    }

    /// Asks the monitor about the file.
    fn ask(
        &self,
        thread: &Arc<Thread>,
        make: impl FnOnce(Handle) -> Request<'static> + Send + 'static,
    ) -> Promise<Reply> {
        if self.handle.object() != 0 {
            return Devices::promise(thread.kernel(), make(self.handle));
        }
        let again = self.again.call_once(|| {
            let (machine, entry) = (self.machine.clone(), self.entry.clone());
            Arc::new(Again { machine, entry, handle: Mutex::new(None) })
        });
        let (again, thread) = (again.clone(), thread.clone());
        Promise::later(async move {
            let request = make(again.handle(&thread).await?);
            thread.kernel().devices.request(thread.kernel(), request).await
        })
    }
}

fn done(reply: Promise<Reply>) -> Promise<()> {
    reply.then(|_| Ok(()))
}

impl File for HostFile {
    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        Ok(thread.kernel().machine.read(self.handle, Some(offset.unwrap_or(0)), Sink::User(to))?)
    }
    fn write(&self, thread: &Arc<Thread>, from: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        Ok(thread.kernel().machine.write(self.handle, Some(offset.unwrap_or(0)), Source::User(from))?)
    }
    fn read_kernel(&self, thread: &Arc<Thread>, to: &mut [u8], offset: u64) -> Result<usize> {
        match thread.kernel().machine.read(self.handle, Some(offset), Sink::Kernel(to))? {
            Transfer::Done(length) => Ok(length),
            _ => Err(Errno::EIO),
        }
    }
    fn write_kernel_at(&self, thread: &Arc<Thread>, from: &[u8], offset: u64) -> Result<Transfer> {
        Ok(thread.kernel().machine.write(self.handle, Some(offset), Source::Kernel(from))?)
    }
    fn seekable(&self) -> bool {
        true
    }
    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        match self.seen.as_ref().and_then(|seen| seen.if_fresh(thread)) {
            Some(attributes) => kept(Ok(attributes)),
            None => self.attributes_now(thread),
        }
    }
    /// What was seen when it was opened is not enough: another process may have written since.
    fn find_end(&self, thread: &Arc<Thread>) -> Promise<u64> {
        self.attributes_now(thread).then(|attributes| Ok(attributes.size))
    }
    /// An overlay's file comes up, and the change with it; who has it open keeps what lies below.
    fn change(&self, thread: &Arc<Thread>, change: Change) -> Promise<()> {
        match leaf(&self.entry) {
            Some(leaf) if leaf.overlay => {
                let (thread, entry) = (thread.clone(), self.entry.clone());
                Promise::later(async move { super::change::apply(&thread, &above(&entry)?, change).await })
            }
            Some(leaf) if !leaf.writable => kept(Err(Errno::EROFS)),
            _ => done(self.ask(thread, move |handle| Request::HandleChange { handle, change })),
        }
    }
    /// What takes no writes has none to wait for.
    fn synchronise(&self, thread: &Arc<Thread>, extent: Extent) -> Promise<()> {
        match leaf(&self.entry) {
            Some(leaf) if !leaf.writable => kept(Ok(())),
            _ => done(self.ask(thread, move |handle| Request::Synchronise { handle, extent })),
        }
    }
    fn allocate(&self, thread: &Arc<Thread>, mode: u32, offset: u64, length: u64) -> Promise<()> {
        done(self.ask(thread, move |handle| Request::Allocate { handle, mode, offset, length }))
    }
    fn seek_data(&self, thread: &Arc<Thread>, offset: u64, hole: bool) -> Promise<u64> {
        let reply = self.ask(thread, move |handle| Request::Seek { handle, offset, hole });
        reply.then(|reply| match reply {
            Reply::Number(offset) => Ok(offset),
            _ => Err(Errno::EIO),
        })
    }
    fn pages(&self, _thread: &Arc<Thread>) -> Promise<Option<Pages>> {
        kept(Ok(Some(Pages { handle: self.handle })))
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
