//! Named pipes: the pipe that openers of one name share (fifo(7)).
//!
//! One process never waits for itself here: an open for reading or writing alone succeeds at once, as
//! if the other side were there, because no other process could come.

use alloc::sync::{Arc, Weak};

use spin::Mutex;

use super::pipe::Pipe;
use super::{Description, flag};
use crate::errno::{Errno, Result};
use crate::file_system::Location;

/// What a named pipe's node keeps: the pipe, while somebody has it open.
pub type Shared = Mutex<Weak<Pipe>>;

/// Opens one end.
pub fn open(shared: &Shared, entry: &Location, flags: u32) -> Result<Arc<Description>> {
    let mut slot = shared.lock();
    let pipe = slot.upgrade().unwrap_or_else(Pipe::new);
    *slot = Arc::downgrade(&pipe);
    drop(slot);
    let (reads, writes) = match flags & flag::ACCESS {
        0 => (true, false),
        flag::WRONLY => (false, true),
        flag::RDWR => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    Ok(Description::new(pipe.open(reads, writes), flags, Some(entry.clone())))
}
