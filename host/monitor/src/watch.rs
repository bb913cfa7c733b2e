//! The memory limit where no control group is to be had: looked at often, so it is approximate.
//!
//! Counted is what the host knows of the guest: its private memory, resident or swapped, and the pages
//! that its memory files hold, whether it has them mapped or not (it cannot make other shared memory).
//! Between two looks a guest can go beyond the limit, but not by more than [`private_most`] of private
//! memory. Not counted: what the kernel keeps for it (page tables, buffers of sockets).

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use rustix::process::Pid;

/// How often is looked.
pub const INTERVAL: Duration = Duration::from_millis(50);

/// The private address space (RLIMIT_DATA) for a limit: wide enough for programs that reserve more than
/// they use, and so that a program that uses it all is seen before it is refused.
pub fn private_most(limit: u64) -> u64 {
    limit.saturating_mul(2).saturating_add(256 << 20)
}

/// A watched process and its limit in bytes.
#[derive(Debug)]
pub struct Watch {
    /// Opened once, so that a guest that takes all our descriptors does not blind us.
    status: File,
    /// The library OS's memory.
    state: OwnedFd,
    limit: u64,
    looked: Option<Instant>,
}

impl Watch {
    pub fn new(process: Pid, state: OwnedFd, limit: u64) -> io::Result<Self> {
        let status = File::open(format!("/proc/{}/status", process.as_raw_nonzero()))?;
        Ok(Self { status, state, limit, looked: None })
    }

    /// Whether it is time to look.
    pub fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= INTERVAL)
    }

    /// Whether the guest holds more memory than its limit, these files among it.
    pub fn is_exceeded<'a>(&mut self, memory: impl Iterator<Item = &'a OwnedFd>) -> bool {
        self.looked = Some(Instant::now());
        let mut text = [0; 4096];
        let length = self.status.read_at(&mut text, 0).unwrap_or(0);
        let private = private_kilobytes(&String::from_utf8_lossy(&text[..length])).saturating_mul(1024);
        let files: u64 = memory.map(held).sum::<u64>() + held(&self.state);
        private.saturating_add(files) > self.limit
    }
}

/// Bytes that a memory file holds.
fn held(file: &OwnedFd) -> u64 {
    fstat(file).map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
}

/// Private memory (proc_pid_status(5)).
fn private_kilobytes(status: &str) -> u64 {
    let value = |name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    value("RssAnon:").unwrap_or(0) + value("VmSwap:").unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_counted() {
        assert_eq!(private_kilobytes("VmRSS:\t  900 kB\nRssAnon:\t  250 kB\nVmSwap:\t 3 kB\n"), 253);
        assert_eq!(private_kilobytes(""), 0);
    }

    #[test]
    fn memory_files_are_counted() {
        let state: OwnedFd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&state, &[1; 10_000]).unwrap();
        let watch = |limit| Watch::new(rustix::process::getpid(), state.try_clone().unwrap(), limit).unwrap();
        assert!(watch(1).is_exceeded(std::iter::empty()));
        assert!(!watch(1 << 50).is_exceeded([&state].into_iter()));
    }
}
