//! Signals of the monitor: taken from a descriptor, passed on to the island.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;

/// Signals that reach the program; SIGTSTP stops the whole island.
const TAKEN: [Signal; 8] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
];

/// The signals above, blocked and queued at a descriptor.
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals. The mask is inherited by threads; the guest's first process undoes it.
    pub fn block() -> Result<Self, Errno> {
        let set: SigSet = TAKEN.into_iter().collect();
        set.thread_block().map_err(errno)?;
        // A file beyond the limit of its size is an error for the guest (EFBIG), no end of ours.
        SigSet::from(Signal::SIGXFSZ).thread_block().map_err(errno)?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self).map_err(errno)
    }

    /// Undoes [`Signals::block`] in the guest's first process.
    pub fn unblock_all() {
        // Only an invalid argument could fail here, and there is none.
        let _ = SigSet::empty().thread_set_mask();
    }

    /// From here on those that ask to end are for this process, and end it. Others have come too late for the program.
    pub fn heed_ends() {
        let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];
        // Only an invalid argument could fail here, and there is none.
        let _ = ends.into_iter().collect::<SigSet>().thread_unblock();
    }

    /// Stops this process as the key for it does, unless nobody could continue it; returns when it goes on.
    pub fn stop() {
        let stop: SigSet = [Signal::SIGTSTP].into_iter().collect();
        if stop.thread_unblock().is_ok() {
            let _ = nix::sys::signal::raise(Signal::SIGTSTP);
            let _ = stop.thread_block();
        }
    }

    /// The next queued signal.
    pub fn take(&self) -> Option<u8> {
        let info = self.0.read_signal().ok()??;
        u8::try_from(info.ssi_signo).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Signals that keys make, queued at a descriptor of the keeper's.
pub struct Typed(SignalFd);

impl Typed {
    /// Blocks everything that could end the keeper before its time.
    pub fn block() -> Result<Self, Errno> {
        SigSet::all().thread_set_mask().map_err(errno)?;
        let set: SigSet = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP].into_iter().collect();
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self).map_err(errno)
    }

    /// The next typed signal.
    pub fn take(&self) -> Option<u8> {
        u8::try_from(self.0.read_signal().ok()??.ssi_signo).ok()
    }
}

impl AsFd for Typed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}
