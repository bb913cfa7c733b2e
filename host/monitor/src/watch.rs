//! The memory limit where no control group is to be had: looked at often, so it is approximate.
//!
//! Counted is what the host knows of the guest: its processes' private memory, resident or swapped, and the
//! pages that its memory files hold, whether it has them mapped or not (it cannot make other shared memory).
//! What processes share after a fork counts once, as far as the kernel tells; that takes a while to ask, so
//! first each is taken to share nothing. Between two looks a guest can go beyond the limit, each process by up to
//! [`private_most`] of private memory. Not counted: what the kernel keeps for it (page tables, buffers of sockets).

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use rustix::process::Pid;

use crate::sandbox::family;

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
    first: Pid,
    /// Opened once, so that a guest that takes all our descriptors does not blind us.
    status: File,
    /// Given up while others are looked at, for the same reason.
    spare: Option<OwnedFd>,
    /// The library OS's memory.
    state: OwnedFd,
    limit: u64,
    looked: Option<Instant>,
}

impl Watch {
    pub fn new(process: Pid, state: OwnedFd, limit: u64) -> io::Result<Self> {
        let status = File::open(format!("/proc/{}/status", process.as_raw_nonzero()))?;
        let spare = Some(state.try_clone()?);
        Ok(Self { first: process, status, spare, state, limit, looked: None })
    }

    /// Whether it is time to look.
    pub fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= INTERVAL)
    }

    /// Whether the guest holds more memory than its limit, these files among it.
    pub fn is_exceeded<'a>(&mut self, memory: impl Iterator<Item = &'a OwnedFd>) -> bool {
        self.looked = Some(Instant::now());
        let files: u64 = memory.map(held).sum::<u64>() + held(&self.state);
        let most = self.limit.saturating_sub(files) / 1024;
        files > self.limit || self.private_kilobytes(most) > most
    }

    /// The guest's private memory, exactly where it may be more than `most`.
    fn private_kilobytes(&mut self, most: u64) -> u64 {
        let mut text = [0; 4096];
        let length = self.status.read_at(&mut text, 0).unwrap_or(0);
        let first = private(&String::from_utf8_lossy(&text[..length]));
        self.spare = None;
        let members = family::members(self.first);
        let all = |name: &str, count: fn(&str) -> u64| -> Option<u64> {
            let text =
                |process: &Pid| fs::read_to_string(format!("/proc/{}/{name}", process.as_raw_nonzero()));
            // One that has ended holds nothing; where the kernel does not tell, nothing is shared.
            let counted = members[1..].iter().map(|process| match text(process) {
                Ok(text) => Some(count(&text)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                Err(_) => Some(0),
            });
            counted.sum()
        };
        let others = all("status", private).unwrap_or(0);
        let sum = first.saturating_add(others);
        let exact = (others > 0 && sum > most).then(|| all("smaps_rollup", proportional)).flatten();
        // The first one's part of what is shared is in its own sum.
        let exact = exact.and_then(|others| {
            let own =
                fs::read_to_string(format!("/proc/{}/smaps_rollup", self.first.as_raw_nonzero())).ok()?;
            Some(others.saturating_add(proportional(&own)))
        });
        self.spare = self.state.try_clone().ok();
        exact.unwrap_or(sum)
    }
}

/// Bytes that a memory file holds.
fn held(file: &OwnedFd) -> u64 {
    fstat(file).map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
}

/// Private memory in kilobytes, whoever shares it (proc_pid_status(5)).
fn private(status: &str) -> u64 {
    value(status, "RssAnon:") + value(status, "VmSwap:")
}

/// Private memory in kilobytes, each page divided by those who share it (proc_pid_smaps(5)).
fn proportional(smaps: &str) -> u64 {
    value(smaps, "Pss_Anon:") + value(smaps, "SwapPss:")
}

fn value(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_private_is_counted() {
        assert_eq!(private("VmRSS:\t  900 kB\nRssAnon:\t  250 kB\nVmSwap:\t 3 kB\n"), 253);
        assert_eq!(proportional("Pss: 900 kB\nPss_Anon:   25 kB\nSwapPss:  3 kB\n"), 28);
        assert_eq!(private(""), 0);
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
