//! Named pipes: the ends that openers of one name share (fifo(7)).
//!
//! One process never waits for itself here: an open for reading or writing alone succeeds at once, as
//! if the other side were there, because no other process could come.

use alloc::sync::{Arc, Weak};
use core::any::Any;

use spin::Mutex;

use super::{Description, File, flag, pipe};
use crate::errno::{Errno, Result};
use crate::file_system::Location;
use crate::thread::Thread;

/// The two ends of a named pipe, alive while somebody has one open.
pub struct Ends {
    read: Arc<dyn File>,
    write: Arc<dyn File>,
}

/// What a named pipe's node keeps.
pub type Shared = Mutex<Option<Weak<dyn Any + Send + Sync>>>;

/// Opens one end.
pub async fn open(
    _thread: &Arc<Thread>,
    shared: &Shared,
    entry: &Location,
    flags: u32,
) -> Result<Arc<Description>> {
    let mut slot = shared.lock();
    let existing = slot.as_ref().and_then(Weak::upgrade).and_then(|any| any.downcast::<Ends>().ok());
    let ends = existing.unwrap_or_else(|| {
        let (read, write) = pipe::pipe();
        let ends = Arc::new(Ends { read, write });
        let any: Arc<dyn Any + Send + Sync> = ends.clone();
        *slot = Some(Arc::downgrade(&any));
        ends
    });
    drop(slot);
    let file = match flags & flag::ACCESS {
        0 => ends.read.clone(),
        flag::WRONLY => ends.write.clone(),
        _ => return Err(Errno::EINVAL),
    };
    Ok(Description::new(file, flags, Some(entry.clone())))
}
