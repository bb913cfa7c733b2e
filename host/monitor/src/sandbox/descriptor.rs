//! The descriptor table of the guest: exactly what was granted, at the agreed numbers.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::raw;

/// Numbers below this are the guest's; ours are moved above it before the fork.
const ABOVE: i32 = 512;

/// The first agreed number. Those below are /dev/null and twice standard error, which the monitor reads.
const FIRST: u32 = abi::pico::descriptor::CONTROL;

/// Everything the child needs, out of the way of the guest's numbers and closed by execution.
pub struct Table {
    pub image: Option<OwnedFd>,
    /// Where the child reports a failure.
    pub failure: OwnedFd,
    null: OwnedFd,
    stderr: OwnedFd,
    granted: Vec<OwnedFd>,
}

impl Table {
    /// Duplicates everything above the guest's numbers.
    pub fn gather(
        image: Option<&OwnedFd>,
        failure: &OwnedFd,
        stderr: &OwnedFd,
        granted: &[BorrowedFd],
    ) -> Result<Self, Errno> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let aside = |descriptor: BorrowedFd| fcntl_dupfd_cloexec(descriptor, ABOVE);
        Ok(Self {
            image: image.map(|image| aside(image.as_fd())).transpose()?,
            failure: aside(failure.as_fd())?,
            null: aside(null.as_fd())?,
            stderr: aside(stderr.as_fd())?,
            granted: granted.iter().copied().map(aside).collect::<Result<_, _>>()?,
        })
    }

    /// Puts the granted descriptors at their numbers, in the child; the first number behind them.
    pub fn arrange(&self) -> Result<u32, Errno> {
        for number in 0..FIRST {
            let standard = if number == 0 { &self.null } else { &self.stderr };
            raw::place(standard.as_fd(), number)?;
        }
        let mut next = FIRST;
        for descriptor in &self.granted {
            raw::place(descriptor.as_fd(), next)?;
            next += 1;
        }
        Ok(next)
    }
}
