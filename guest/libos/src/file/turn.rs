//! Turns: what one at a time may do with a file, while others wait.
//!
//! Who moves a description's position has its turn from the moment it is looked at until it is moved; who
//! appends has the file's from the moment its end is looked at until it is written.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use super::Description;
use crate::errno::{Errno, Result};
use crate::thread::Thread;
use crate::wait::{self, WaitQueue};

/// A turn that somebody has, or nobody.
#[derive(Default)]
pub struct Turn {
    taken: AtomicBool,
    queue: WaitQueue,
}

/// Something that has a turn.
pub trait Shared: Clone {
    fn turn(&self) -> &Turn;
}

impl Shared for Arc<Turn> {
    fn turn(&self) -> &Turn {
        self
    }
}

/// The turn of whoever moves its position.
impl Shared for Arc<Description> {
    fn turn(&self) -> &Turn {
        &self.turn
    }
}

/// Somebody's turn, until dropped.
pub struct Taken<T: Shared>(T);

impl<T: Shared> Taken<T> {
    /// Takes the turn if it is nobody's.
    pub fn at_once(of: &T) -> Option<Self> {
        (!of.turn().taken.swap(true, Ordering::SeqCst)).then(|| Self(of.clone()))
    }

    /// Waits for it, whatever signals come but those that end the thread.
    pub async fn wait(thread: &Arc<Thread>, of: &T) -> Result<Self> {
        wait::while_alive(thread, &of.turn().queue, || Self::at_once(of)).await.ok_or(Errno::ERESTARTSYS)
    }
}

impl<T: Shared> Drop for Taken<T> {
    fn drop(&mut self) {
        self.0.turn().taken.store(false, Ordering::SeqCst);
        self.0.turn().queue.notify();
    }
}
