//! Copying between the caller's stream and a pipe of the island's, in a thread each.
//!
//! Threads start only when the guest has been forked off. What the island wrote is drained before the
//! monitor ends; what it never read is not waited for.

use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, write};

/// A copy that is wanted, from one descriptor to another until either ends.
pub struct Copying {
    from: OwnedFd,
    to: OwnedFd,
    drained: bool,
}

impl Copying {
    /// From the caller to the island.
    pub fn input(from: OwnedFd, to: OwnedFd) -> Self {
        Self { from, to, drained: false }
    }

    /// From the island to the caller.
    pub fn output(from: OwnedFd, to: OwnedFd) -> Self {
        Self { from, to, drained: true }
    }

    /// Starts the thread; the answer is to be joined at the end, if there is one.
    pub fn start(self) -> Result<Option<JoinHandle<()>>, std::io::Error> {
        let drained = self.drained;
        let thread = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
            // Either side being gone is how streams end.
            let _ = copy(&self.from, &self.to);
        })?;
        Ok(drained.then_some(thread))
    }
}

/// Copies until the end of the data or of the reader.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match retry(from, PollFlags::IN, || read(from, &mut buffer[..]))? {
            0 => return Ok(()),
            length => write_all(to, &buffer[..length])?,
        }
    }
}

pub(super) fn write_all(to: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = retry(to, PollFlags::OUT, || write(to, bytes))?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Tries until it is not interrupted and not refused for want of readiness: the caller's descriptor may
/// be non-blocking.
fn retry<T>(
    on: &OwnedFd,
    flags: PollFlags,
    mut attempt: impl FnMut() -> Result<T, Errno>,
) -> Result<T, Errno> {
    loop {
        match attempt() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(on, flags)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            },
            other => return other,
        }
    }
}
