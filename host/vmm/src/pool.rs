//! A few threads that wait for disks, so that nobody else does.
//!
//! Jobs are bounded by who starts them. The threads live as long as the process and are
//! there from the start, because later none can be made.

use std::collections::VecDeque;
use std::sync::{Arc, Barrier, Condvar, Mutex, PoisonError};
use std::thread;

use crate::Error;

const THREADS: usize = 4;
const STACK: usize = 128 * 1024;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Shared {
    jobs: Mutex<VecDeque<Job>>,
    more: Condvar,
}

/// The threads.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

impl Pool {
    pub fn new() -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let line = Arc::new(Barrier::new(THREADS + 1));
        for number in 0..THREADS {
            let (shared, line) = (shared.clone(), line.clone());
            let body = move || {
                line.wait();
                loop {
                    shared.next()();
                }
            };
            let builder = thread::Builder::new().name(format!("disk {number}")).stack_size(STACK);
            builder.spawn(body).map_err(Error::Thread)?;
        }
        // A thread that begins asks for what it may not ask for later.
        line.wait();
        Ok(Self(shared))
    }

    /// Jobs that no thread has begun.
    pub fn waiting(&self) -> usize {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub fn start(&self, job: impl FnOnce() + Send + 'static) {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).push_back(Box::new(job));
        self.0.more.notify_one();
    }
}

impl Shared {
    fn next(&self) -> Job {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match jobs.pop_front() {
                Some(job) => return job,
                None => jobs = self.more.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}
