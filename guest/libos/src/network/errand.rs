//! Something asked of the outside that no thread waits for: a connect under way, a name look-up.
//!
//! The errand is its own waker: the answer's arrival runs what is left of it, on the CPU that hands
//! events out.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Waker};

use crate::lock::Mutex;

use crate::file::Promise;

/// A future that runs by itself.
pub struct Errand(Mutex<Option<Promise<()>>>);

impl Errand {
    /// Starts an errand; what comes of it is its own business.
    pub fn start(future: Promise<()>) {
        Arc::new(Self(Mutex::new(Some(future)))).advance();
    }

    fn advance(self: &Arc<Self>) {
        let mut slot = self.0.lock();
        let Some(future) = slot.as_mut() else { return };
        let waker = Waker::from(self.clone());
        if Pin::new(future).poll(&mut Context::from_waker(&waker)).is_ready() {
            let done = slot.take();
            drop(slot);
            drop(done);
        }
    }
}

impl Wake for Errand {
    fn wake(self: Arc<Self>) {
        self.advance();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.advance();
    }
}
