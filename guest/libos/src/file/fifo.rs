//! Named pipes: the pipe that openers of one name share (fifo(7)).
//!
//! An open for one direction waits for somebody who opens the other, unless it is non-blocking.

use alloc::sync::{Arc, Weak};

use crate::lock::Mutex;

use super::pipe::{self, Pipe};
use super::{Description, flag};
use crate::errno::{Errno, Result};
use crate::file_system::Location;
use crate::thread::Thread;
use crate::wait::{self, Patience};

/// What a named pipe's node keeps: the pipe, while somebody has it open.
pub type Shared = Mutex<Weak<Pipe>>;

/// Opens one end.
pub async fn open(
    thread: &Arc<Thread>,
    shared: &Shared,
    entry: &Location,
    flags: u32,
) -> Result<Arc<Description>> {
    let pipe = {
        let mut slot = shared.lock();
        let pipe = slot.upgrade().unwrap_or_else(|| Pipe::new(false));
        pipe.place.call_once(|| entry.clone());
        *slot = Arc::downgrade(&pipe);
        pipe
    };
    let (reads, writes) = pipe::directions(flags)?;
    // Before the look at the ends: who comes in between is seen by one or the other.
    let before = pipe.opened();
    let (readers, writers) = pipe.ends();
    let nonblocking = flags & flag::NONBLOCK != 0;
    if nonblocking && writes && !reads && !readers {
        return Err(Errno::ENXIO);
    }
    let other = usize::from(reads);
    let description = Description::new(pipe.open(reads, writes), flags, Some(entry.clone()));
    let alone = reads != writes && if reads { !writers } else { !readers };
    if alone && !nonblocking {
        // The other side counts even if it has gone again meanwhile.
        let came = || (pipe.opened()[other] != before[other]).then_some(());
        wait::until(thread, &pipe.queues(), Patience::Forever, came).await?;
    }
    Ok(description)
}
