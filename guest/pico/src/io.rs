//! The threads that wait for disks, so that no virtual CPU does.
//!
//! They are the first process's, and reach the memory of applications in no other: what is read for those lies
//! here until a CPU brings it to its space.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::*};

use abi::Code;
use abi::request::Reply;
use linux_raw_sys::general as linux;
use machine::{Event, Space, Ticket};

use crate::device::{self, Part};
use crate::host;
use crate::local::Local;
use crate::lock::Mutex;

/// A read that would have blocked.
pub struct Job {
    pub ticket: u64,
    pub file: u32,
    pub offset: u64,
    /// Checked user memory, where the rest goes.
    pub parts: Vec<Part>,
    /// Bytes that were there before.
    pub done: u64,
}

/// The most that is read at once for another space than the first.
const HELD_MOST: u64 = 256 * 1024;

/// A job, and memory that its data goes to first.
struct Held {
    job: Job,
    space: Space,
    bytes: Mutex<Vec<u8>>,
}

static QUEUE: Mutex<VecDeque<Work>> = Mutex::new(VecDeque::new());
/// What was read, or is being read, for other spaces than the first.
static HELD: Mutex<BTreeMap<u64, Arc<Held>>> = Mutex::new(BTreeMap::new());

enum Work {
    Direct(Job),
    Held(Arc<Held>),
}
/// Counts jobs; the threads sleep on it.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Hands a job for the active space to a thread.
pub fn start(job: Job) {
    let space = Local::current().map_or(Space::FIRST, Local::active);
    let work = if space == Space::FIRST { Work::Direct(job) } else { Work::Held(hold(job, space)) };
    QUEUE.lock().push_back(work);
    STARTED.fetch_add(1, Release);
    host::futex_wake(&STARTED, 1);
}

fn hold(job: Job, space: Space) -> Arc<Held> {
    let length = job.parts.iter().map(|part| part[1]).sum::<u64>().min(HELD_MOST);
    let ticket = job.ticket;
    let held = Arc::new(Held { job, space, bytes: Mutex::new(vec![0; length as usize]) });
    HELD.lock().insert(ticket, held.clone());
    held
}

/// A finished job whose data is still to be brought to its space, which is active, and the data; none if the job
/// was one of the first space.
pub fn take(ticket: u64) -> Option<(Job, Vec<u8>)> {
    let held = HELD.lock().remove(&ticket)?;
    // The thread that has read it may still have it in its hands.
    let bytes = core::mem::take(&mut *held.bytes.lock());
    let Job { ticket, file, offset, done, ref parts } = held.job;
    Some((Job { ticket, file, offset, done, parts: parts.clone() }, bytes))
}

/// Forgets what was read for a space.
pub fn forget(space: Space) {
    HELD.lock().retain(|_, held| held.space != space);
}

/// An I/O thread's life.
pub fn serve() -> ! {
    loop {
        let seen = STARTED.load(Acquire);
        let job = QUEUE.lock().pop_front();
        match job {
            Some(Work::Direct(job)) => run(&job, &job.parts),
            Some(Work::Held(held)) => {
                let mut bytes = held.bytes.lock();
                run(&held.job, &[[bytes.as_mut_ptr() as u64, bytes.len() as u64]]);
            }
            None => host::futex_wait(&STARTED, seen, None),
        }
    }
}

fn run(job: &Job, parts: &[Part]) {
    let result = device::transfer(linux::__NR_preadv2, job.file, parts, job.offset, 0);
    let result = match result {
        Ok(length) => Ok(Reply::Number(job.done + length)),
        Err(_) if job.done > 0 => Ok(Reply::Number(job.done)),
        Err(Code(code)) => Err(Code(code)),
    };
    device::complete(Event::Completed { ticket: Ticket(job.ticket), result });
}
