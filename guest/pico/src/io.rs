//! The threads that wait for disks, so that no virtual CPU does.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::*};

use abi::Code;
use abi::request::Reply;
use linux_raw_sys::general as linux;
use machine::{Event, Ticket};

use crate::device::{self, Part};
use crate::host;
use crate::lock::Mutex;

/// A read that would have blocked.
pub struct Job {
    pub ticket: u64,
    pub file: u32,
    pub offset: u64,
    /// Checked user memory, where the rest goes.
    pub parts: Vec<Part>,
    /// Bytes that were there at once.
    pub done: u64,
}

static QUEUE: Mutex<VecDeque<Job>> = Mutex::new(VecDeque::new());
/// Counts jobs; the threads sleep on it.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Hands a job to a thread.
pub fn start(job: Job) {
    QUEUE.lock().push_back(job);
    STARTED.fetch_add(1, Release);
    host::futex_wake(&STARTED, 1);
}

/// An I/O thread's life.
pub fn serve() -> ! {
    loop {
        let seen = STARTED.load(Acquire);
        let job = QUEUE.lock().pop_front();
        match job {
            Some(job) => run(job),
            None => host::futex_wait(&STARTED, seen, None),
        }
    }
}

fn run(job: Job) {
    let result = device::transfer(linux::__NR_preadv2, job.file, &job.parts, job.offset, 0);
    let result = match result {
        Ok(length) => Ok(Reply::Number(job.done + length)),
        Err(_) if job.done > 0 => Ok(Reply::Number(job.done)),
        Err(Code(code)) => Err(Code(code)),
    };
    device::complete(Event::Completed { ticket: Ticket(job.ticket), result });
}
