//! Core dumps (core(5)): what is left of a process that a signal ends, for a debugger.
//!
//! Asked for by a limit on their size (RLIMIT_CORE) that is not zero; made as `core` in the process's working directory,
//! with its rights. The thread that the signal is for writes it, while the others stand still. Memory goes through a
//! buffer; pages of zeroes are left out. A dump that cannot be written is none, and ends as if nobody had asked.

mod note;
mod segment;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use abi::exit::Exit;
use abi::file::Change;
use machine::{Context, PAGE, Transfer};

use crate::errno::{Errno, Result};
use crate::file::{Description, Slot, flag};
use crate::file_system::{self, Bounds, REGULAR, Rules, TYPE};
use crate::foreign::step_aside;
use crate::process::Process;
use crate::ptrace;
use crate::signal::{Information, Set, set_of};
use crate::syscall::{Finish, let_go};
use crate::thread::{Pending, Thread};
use crate::wait;

use segment::Segment;

/// RLIMIT_CORE.
const LIMIT: usize = 4;
const NAME: &[u8] = b"core";
/// Signals whose default action is a dump (signal(7)): SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV,
/// SIGXCPU, SIGXFSZ, SIGSYS.
const DUMPING: [u8; 10] = [3, 4, 5, 6, 7, 8, 11, 24, 25, 31];

/// Bytes of memory that go through the buffer at once.
const PIECE: u64 = 64 << 10;

/// Whether a signal that ends a process leaves a dump.
pub fn is_wanted(process: &Process, number: u8) -> bool {
    process.limit(LIMIT) >= PAGE
        && DUMPING.into_iter().fold(0, |set: Set, each| set | set_of(each)) & set_of(number) != 0
}

/// The end of a process by a signal, before which there may be a dump and its tracer may look.
pub fn end_by(thread: &Arc<Thread>, information: Information, context: &Context) -> Pending {
    let (thread, context, number) = (thread.clone(), Box::new(context.clone()), information.number);
    let wanted = is_wanted(&thread.process, number);
    Box::pin(async move {
        let dumped = wanted && write(&thread, information, context).await;
        ptrace::tell_end(&thread, u32::from(number) | if dumped { 0x80 } else { 0 }).await;
        if dumped {
            thread.process.end_dumped(number);
        } else {
            thread.process.end(Exit::Signal(number));
        }
        Finish::GoOn
    })
}

/// Writes the dump of the calling thread's process, with its context at the signal; whether there is one.
async fn write(thread: &Arc<Thread>, information: Information, context: Box<Context>) -> bool {
    let process = &thread.process;
    if !process.begin_dump(thread) {
        // Another thread's signal was first, and ends the process.
        wait::while_alive(thread, process.changes(), || None::<()>).await;
        return false;
    }
    let others = standing(thread).await;
    let Ok(file) = open(thread).await else { return false };
    let segments = segment::all(process);
    let notes = note::all(thread, &information, &context, &others);
    let written =
        Dump { thread, file: &file, limit: process.limit(LIMIT), end: 0 }.write(&notes, &segments).await;
    let_go(process, Slot { description: file, close_on_exec: true });
    written.is_ok()
}

/// The contexts of all other threads, once none of them runs.
async fn standing(thread: &Arc<Thread>) -> Vec<(Arc<Thread>, Box<Context>)> {
    let all: Vec<Arc<Thread>> = thread.process.threads.lock().values().cloned().collect();
    let mut others = Vec::new();
    for other in all.into_iter().filter(|other| !Arc::ptr_eq(other, thread)) {
        while !thread.process.ending() && thread.process.threads.lock().contains_key(&other.number()) {
            let context = other.body().as_ref().map(|body| body.context.clone());
            if let Some(context) = context {
                others.push((other, context));
                break;
            }
            // It was called to look around already.
            step_aside().await;
        }
    }
    others
}

async fn open(thread: &Arc<Thread>) -> Result<Arc<Description>> {
    let start = thread.file_system().directory();
    let bounds = Bounds::new(Rules::empty(), &start);
    // Not waiting for who reads a pipe.
    let flags = flag::CREATE | flag::WRONLY | flag::NO_FOLLOW | flag::NONBLOCK | flag::LARGE;
    let file = file_system::opened(thread, &bounds, &start, NAME, flags, 0o600).await?;
    let attributes = file.file.attributes(thread).await?;
    let user = thread.process.identity.lock().user;
    // Not in the place of another file, or of somebody else's.
    if attributes.mode & TYPE != REGULAR || attributes.links != 1 || attributes.user != user {
        return Err(Errno::EPERM);
    }
    file.file.change(thread, Change { size: Some(0), ..Change::default() }).await?;
    Ok(file)
}

/// A dump that is being written.
struct Dump<'a> {
    thread: &'a Arc<Thread>,
    file: &'a Description,
    limit: u64,
    /// Behind what was written.
    end: u64,
}

impl Dump<'_> {
    async fn write(&mut self, notes: &[u8], segments: &[Segment]) -> Result<()> {
        let (head, mut at) = segment::head(notes.len() as u64, segments);
        self.put(0, &head).await?;
        self.put(head.len() as u64, notes).await?;
        for segment in segments {
            self.put_memory(at, segment).await?;
            at += segment.kept;
        }
        if self.end < at {
            self.put(at - 1, &[0]).await?;
        }
        Ok(())
    }

    async fn put_memory(&mut self, at: u64, segment: &Segment) -> Result<()> {
        let machine = &*self.thread.kernel().machine;
        let space = self.thread.process.space();
        let mut done = 0;
        // Nothing of what lies behind the limit would be kept.
        while done < segment.kept && at + done < self.limit {
            if self.thread.process.ending() {
                return Err(Errno::EINTR);
            }
            let length = (segment.kept - done).min(PIECE);
            let mut buffer = vec![0; length as usize];
            for (number, page) in buffer.chunks_mut(PAGE as usize).enumerate() {
                let address = segment.range.address + done + number as u64 * PAGE;
                // What is not there, or cannot be read, stays zero.
                if machine.copy_in(space, address, page).is_err() {
                    page.fill(0);
                }
            }
            for (number, page) in buffer.chunks(PAGE as usize).enumerate() {
                if page.iter().any(|byte| *byte != 0) {
                    self.put(at + done + number as u64 * PAGE, page).await?;
                }
            }
            done += length;
        }
        Ok(())
    }

    /// Writes bytes at an offset, as far as the limit lets it.
    async fn put(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let room = self.limit.saturating_sub(at).min(bytes.len() as u64) as usize;
        let (file, mut done) = (&self.file.file, 0);
        while done < room {
            if let Some(promise) = file.prepare_write(self.thread, at + room as u64) {
                promise.await?;
            }
            match file.write_kernel_at(self.thread, &bytes[done..room], at + done as u64)? {
                Transfer::Done(length) if length > 0 => done += length,
                _ => return Err(Errno::EIO),
            }
        }
        self.end = self.end.max(at + room as u64);
        Ok(())
    }
}
