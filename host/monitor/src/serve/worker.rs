//! Worker threads for what may take long, made on demand and bounded.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, read, write};

use super::Outcome;

/// Work for a thread.
pub type Job = Box<dyn FnOnce() -> Outcome + Send>;

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

/// A pool of threads with a common queue.
pub struct Workers {
    shared: Arc<(Mutex<Queue>, Condvar, OwnedFd)>,
    most: usize,
}

impl Workers {
    /// A pool of at most `most` threads; none runs yet.
    pub fn new(most: usize) -> Result<Self, Errno> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { shared: Arc::new((Mutex::default(), Condvar::new(), wake)), most })
    }

    /// Queues a job; its outcome appears in [`Workers::finished`] with the same ticket.
    pub fn start(&self, ticket: u64, job: Job) -> Result<(), Errno> {
        let (queue, ready, _) = &*self.shared;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
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
        queue.jobs.push_back((ticket, job));
        ready.notify_one();
        Ok(())
    }

    /// Outcomes since the last call.
    pub fn finished(&self) -> Vec<(u64, Outcome)> {
        let (queue, _, wake) = &*self.shared;
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counter = [0; 8];
        // Not readable only means that nothing is new.
        let _ = read(wake, &mut counter);
        std::mem::take(&mut queue.finished)
    }
}

impl AsFd for Workers {
    /// Readable when there are outcomes.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.2.as_fd()
    }
}

fn work((queue, ready, wake): &(Mutex<Queue>, Condvar, OwnedFd)) {
    let mut guard = queue.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let Some((ticket, job)) = guard.jobs.pop_front() else {
            guard.idle += 1;
            guard = ready.wait(guard).unwrap_or_else(PoisonError::into_inner);
            guard.idle -= 1;
            continue;
        };
        drop(guard);
        let outcome = job();
        guard = queue.lock().unwrap_or_else(PoisonError::into_inner);
        guard.finished.push((ticket, outcome));
        // It can only be refused when it is readable anyway.
        let _ = write(wake, &1u64.to_ne_bytes());
    }
}
