//! What an island holds of the host's memory, against its limit: looked at often, so the limit is approximate.
//!
//! Counted is what the host knows of the guest: its processes' private memory, resident or swapped, and the
//! pages that its memory files hold, whether it has them mapped or not (it cannot make other shared memory).
//! What processes share after a fork counts once, as far as the kernel tells; that takes a while to ask, so
//! first each is taken to share nothing. Not counted: what the kernel keeps for it (page tables, buffers of sockets).
//!
//! A guest that is found beyond its limit is told which process holds most, for it to end that one, and is ended
//! itself if that does not help soon, or if it goes on growing ([`most`]). Between two looks it can grow: what
//! bounds that is a control group (`cgroup`), which also tells when to look, or else [`private_most`] for each process.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use rustix::process::Pid;

use crate::sandbox::family;

/// How often is looked where nothing tells when to, and how often near the limit.
pub const INTERVAL: Duration = Duration::from_millis(50);
const BRISK: Duration = Duration::from_millis(5);
/// How fast a guest is taken to grow, in bytes a microsecond.
const GROWTH: u64 = 4096;
/// The part of its time that the monitor looks, at most: one of so many.
const LOOKS: u32 = 10;
/// How long a guest may stay beyond its limit. The kernel may let who holds most sleep for two seconds (memory.high).
const GRACE: Duration = Duration::from_secs(5);

/// The private address space (RLIMIT_DATA) for a limit: wide enough for programs that reserve more than
/// they use, and so that a program that uses it all is seen before it is refused.
pub fn private_most(limit: u64) -> u64 {
    limit.saturating_mul(2).saturating_add(256 << 20)
}

/// What a guest with this limit can hold at most, before it has ended one of its processes.
pub fn most(limit: u64) -> u64 {
    limit.saturating_add((limit / 4).max(192 << 20))
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    Within,
    /// The guest holds too much, this process of it (its number inside) most.
    Exceeded {
        largest: u32,
    },
    /// It has to be ended for that.
    Hopeless,
}

/// A watched guest and its limit in bytes.
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
    /// When to look next.
    due: Instant,
    exceeded: Option<Instant>,
}

impl Watch {
    pub fn new(process: Pid, state: OwnedFd, limit: u64) -> io::Result<Self> {
        let status = File::open(format!("/proc/{}/status", process.as_raw_nonzero()))?;
        let spare = Some(state.try_clone()?);
        Ok(Self { first: process, status, spare, state, limit, due: Instant::now(), exceeded: None })
    }

    /// How long until it is time to look.
    pub fn patience(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// There is reason to look at once.
    pub fn hurry(&mut self) {
        self.due = Instant::now();
    }

    /// Looks what the guest holds, these files among it.
    pub fn look<'a>(&mut self, memory: impl Iterator<Item = &'a OwnedFd>) -> Finding {
        let now = Instant::now();
        let files = memory.map(held).sum::<u64>() + held(&self.state);
        let most = self.limit.saturating_sub(files) / 1024;
        let members = self.private_kilobytes(most);
        let sum = files.saturating_add(members.iter().map(|(_, held)| held * 1024).sum());
        let growth = Duration::from_micros(self.limit.saturating_sub(sum) / GROWTH);
        // To look takes time, too, where there are many processes.
        self.due = now + growth.clamp(BRISK, INTERVAL).max(now.elapsed() * LOOKS);
        if sum <= self.limit {
            self.exceeded = None;
            return Finding::Within;
        }
        let since = *self.exceeded.get_or_insert(now);
        // Of several alike the youngest.
        let largest = members.iter().max_by_key(|(_, held)| held).map_or(self.first, |(process, _)| *process);
        let hopeless = largest == self.first || sum > self::most(self.limit) || now - since > GRACE;
        match number_inside(largest) {
            _ if hopeless => Finding::Hopeless,
            Some(largest) => Finding::Exceeded { largest },
            // It has just ended: the next look tells what that has brought.
            None => Finding::Within,
        }
    }

    /// The private memory of each of the guest's processes, exactly where all may be more than `most`.
    fn private_kilobytes(&mut self, most: u64) -> Vec<(Pid, u64)> {
        let mut text = [0; 4096];
        let length = self.status.read_at(&mut text, 0).unwrap_or(0);
        let first = private(&String::from_utf8_lossy(&text[..length]));
        self.spare = None;
        let members = family::members(self.first);
        let all = |members: &[Pid], name: &str, count: fn(&str) -> u64| -> Option<Vec<(Pid, u64)>> {
            // One that has ended holds nothing; where the kernel does not tell, nothing is shared.
            let counted = members.iter().map(|&process| match read(process, name) {
                Ok(text) => Some((process, count(&text))),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                Err(_) => Some((process, 0)),
            });
            counted.collect()
        };
        let others = all(&members[1..], "status", private).unwrap_or_default();
        let sum = first + others.iter().map(|(_, held)| held).sum::<u64>();
        // The first one's part of what is shared is in its own sum.
        let shares = !others.is_empty() && sum > most;
        let exact = shares.then(|| all(&members, "smaps_rollup", proportional)).flatten();
        self.spare = self.state.try_clone().ok();
        exact.unwrap_or_else(|| [vec![(self.first, first)], others].concat())
    }
}

fn read(process: Pid, name: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{}/{name}", process.as_raw_nonzero()))
}

/// What the guest's own name space calls a process (proc_pid_status(5), NSpid), if it lives.
fn number_inside(process: Pid) -> Option<u32> {
    let status = read(process, "status").ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().next_back()?.parse().ok()
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
        assert_eq!(watch(1).look(std::iter::empty()), Finding::Hopeless);
        assert_eq!(watch(1 << 50).look([&state].into_iter()), Finding::Within);
    }
}
