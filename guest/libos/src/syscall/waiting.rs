//! Calls that are tried at once and go on as a future only if they would block.

use alloc::sync::Arc;

use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::Description;
use crate::thread::Thread;
use crate::wait::{self, Patience};

/// One call's work, tried until it comes to an end.
pub trait Operation: Send + 'static {
    /// Tries; `None` if it would block.
    fn attempt(&mut self, thread: &Arc<Thread>) -> Result<Option<u64>>;

    /// What the call returns if it is interrupted now; `None`: the interruption.
    fn partial(&self) -> Option<u64> {
        None
    }
}

/// How an operation on a description may wait.
pub struct Manner {
    pub blocking: bool,
    /// SO_RCVTIMEO, SO_SNDTIMEO.
    pub timeout_ns: Option<u64>,
}

/// Runs an operation, waiting at the description's queue if it would block and may.
pub fn run(
    call: &Call<'_>,
    description: &Arc<Description>,
    manner: Manner,
    mut operation: impl Operation,
) -> Outcome {
    match operation.attempt(call.thread) {
        Ok(Some(value)) => return Ok(value).into(),
        Err(errno) => return Err::<u64, _>(errno).into(),
        Ok(None) if !manner.blocking => return operation.partial().ok_or(Errno::EAGAIN).into(),
        Ok(None) => {}
    }
    let (thread, description) = (call.thread.clone(), description.clone());
    call.wait(async move { wait_for(&thread, &description, manner.timeout_ns, operation).await })
}

/// The same, from within a future.
pub async fn run_later(
    thread: &Arc<Thread>,
    description: &Arc<Description>,
    manner: Manner,
    mut operation: impl Operation,
) -> Result<u64> {
    match operation.attempt(thread)? {
        Some(value) => Ok(value),
        None if !manner.blocking => operation.partial().ok_or(Errno::EAGAIN),
        None => wait_for(thread, description, manner.timeout_ns, operation).await,
    }
}

async fn wait_for(
    thread: &Arc<Thread>,
    description: &Arc<Description>,
    timeout_ns: Option<u64>,
    mut operation: impl Operation,
) -> Result<u64> {
    let Some(queue) = description.file.queue() else { return Err(Errno::EAGAIN) };
    let _outside = description.file.outside().then(|| thread.kernel().scheduler.wait_outside());
    let patience = match timeout_ns {
        Some(timeout_ns) => {
            let now_ns = thread.kernel().machine.now().monotonic_ns;
            Patience::Until(now_ns.saturating_add(timeout_ns))
        }
        None => Patience::Forever,
    };
    let waited = wait::until(thread, &[queue], patience, || operation.attempt(thread).transpose()).await;
    match (waited, operation.partial()) {
        (Ok(result), _) => result,
        (Err(_), Some(partial)) => Ok(partial),
        (Err(Errno::ETIMEDOUT), None) => Err(Errno::EAGAIN),
        // A call with a timeout of its own is not restarted: it would wait that long again (signal(7)).
        (Err(Errno::ERESTARTSYS), None) if timeout_ns.is_some() => Err(Errno::EINTR),
        (Err(errno), None) => Err(errno),
    }
}

/// Gives an open file a descriptor number.
pub fn install(call: &Call<'_>, description: Arc<Description>, close_on_exec: bool) -> Result<u64> {
    install_for(call.thread, description, close_on_exec)
}

pub fn install_for(thread: &Arc<Thread>, description: Arc<Description>, close_on_exec: bool) -> Result<u64> {
    let process = &thread.process;
    let slot = crate::file::Slot { description, close_on_exec };
    process.files.add(slot, 0, process.limit(7))
}
