//! Worker threads for what may take long, made on demand and bounded.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

use super::Outcome;

/// Work for a thread.
pub type Job = Box<dyn FnOnce() -> Outcome + Send>;

/// Tells who waits what came of a job, past the pool's owner; gives it back where only the owner can.
pub type Deliver = Arc<dyn Fn(u64, Outcome) -> Option<Outcome> + Send + Sync>;

/// Jobs of one kind may wait for these many others before more are refused.
const WAITING: usize = 65_536;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<(u64, Job)>,
    idle: usize,
    threads: usize,
    /// Outcomes nobody has taken yet.
    finished: Vec<(u64, Outcome)>,
}

/// What the threads share.
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
    wake: OwnedFd,
    /// Jobs whose outcomes nobody has yet.
    under_way: AtomicUsize,
    /// The owner has been woken and has not come yet.
    woken: AtomicBool,
    /// With so many of them the owner may be waiting for fewer.
    many: usize,
    deliver: Deliver,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It can only be refused when it is readable anyway.
    fn wake(&self) {
        let _ = write(&self.wake, &1u64.to_ne_bytes());
        // Behind that: what is set here is taken together with what can be read.
        self.woken.store(true, SeqCst);
    }
}

/// A pool of threads with a common queue.
pub struct Workers {
    shared: Arc<Shared>,
    most: usize,
}

impl Workers {
    /// A pool of at most `most` threads; none runs yet. Its owner is woken for whatever is delivered while
    /// `many` jobs are under way.
    pub fn new(most: usize, many: usize, deliver: Deliver) -> Result<Self, Errno> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Shared {
            queue: Mutex::default(),
            ready: Condvar::new(),
            wake,
            under_way: AtomicUsize::new(0),
            woken: AtomicBool::new(false),
            many,
            deliver,
        };
        Ok(Self { shared: Arc::new(shared), most })
    }

    /// Queues a job; its outcome is delivered, or appears in [`Workers::finished`] with the same ticket.
    pub fn start(&self, ticket: u64, job: Job) -> Result<(), Errno> {
        let mut queue = self.shared.lock();
        if queue.jobs.len() >= WAITING {
            return Err(Errno::AGAIN);
        }
        if queue.idle <= queue.jobs.len() && queue.threads < self.most {
            let shared = Arc::clone(&self.shared);
            match std::thread::Builder::new().stack_size(256 * 1024).spawn(move || work(&shared)) {
                Ok(_) => queue.threads += 1,
                Err(_) if queue.threads > 0 => {}
                Err(_) => return Err(Errno::AGAIN),
            }
        }
        self.shared.under_way.fetch_add(1, SeqCst);
        queue.jobs.push_back((ticket, job));
        self.shared.ready.notify_one();
        Ok(())
    }

    /// Jobs whose outcomes nobody has yet.
    pub fn under_way(&self) -> usize {
        self.shared.under_way.load(SeqCst)
    }

    /// Outcomes since the last call that could not be delivered.
    pub fn finished(&self) -> Vec<(u64, Outcome)> {
        if !self.shared.woken.swap(false, SeqCst) {
            return Vec::new();
        }
        let mut queue = self.shared.lock();
        let mut counter = [0; 8];
        // Not readable only means that it has been read already.
        let _ = read(&self.shared.wake, &mut counter);
        let finished = std::mem::take(&mut queue.finished);
        self.shared.under_way.fetch_sub(finished.len(), SeqCst);
        finished
    }
}

impl AsFd for Workers {
    /// Readable when there are outcomes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }
}

fn work(shared: &Shared) {
    let mut queue = shared.lock();
    loop {
        let Some((ticket, job)) = queue.jobs.pop_front() else {
            queue.idle += 1;
            queue = shared.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
            continue;
        };
        drop(queue);
        let left = (shared.deliver)(ticket, job());
        queue = shared.lock();
        match left {
            Some(outcome) => {
                queue.finished.push((ticket, outcome));
                shared.wake();
            }
            None if shared.under_way.fetch_sub(1, SeqCst) >= shared.many => shared.wake(),
            None => {}
        }
    }
}
