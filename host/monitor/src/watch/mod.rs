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

mod survey;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use rustix::process::Pid;

use survey::Survey;

/// How often is looked where nothing tells when to, and how often near the limit.
pub const INTERVAL: Duration = Duration::from_millis(50);
const BRISK: Duration = Duration::from_millis(5);
/// How fast a guest is taken to grow, in bytes a microsecond.
const GROWTH: u64 = 4096;
/// The part of its time that the monitor looks, at most: one of so many.
const LOOKS: u32 = 10;
/// How long a look lasts before whatever else has come is done: there may be a thousand processes.
const STEP: Duration = Duration::from_millis(10);
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
    /// What is being looked at, and since when.
    survey: Option<(Survey, Instant)>,
    exceeded: Option<Instant>,
}

impl Watch {
    pub fn new(process: Pid, state: OwnedFd, limit: u64) -> io::Result<Self> {
        let status = File::open(format!("/proc/{}/status", process.as_raw_nonzero()))?;
        let spare = Some(state.try_clone()?);
        Ok(Self {
            first: process,
            status,
            spare,
            state,
            limit,
            due: Instant::now(),
            survey: None,
            exceeded: None,
        })
    }

    /// How long until it is time to look.
    pub fn patience(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Whether a look has begun and not ended.
    pub fn is_looking(&self) -> bool {
        self.survey.is_some()
    }

    /// There is reason to look at once.
    pub fn hurry(&mut self) {
        self.due = Instant::now();
    }

    /// Looks what the guest holds, these files among it. A look that takes long is due to go on at once.
    pub fn look<'a>(&mut self, memory: impl Iterator<Item = &'a OwnedFd>) -> Finding {
        let files = memory.map(held).sum::<u64>() + held(&self.state);
        let most = self.limit.saturating_sub(files) / 1024;
        self.spare = None;
        let begun = Instant::now();
        let (mut survey, since) =
            self.survey.take().unwrap_or_else(|| (Survey::begin(self.first, &self.status), begun));
        let done = survey.go_on(begun + STEP, most);
        self.spare = self.state.try_clone().ok();
        if !done {
            self.survey = Some((survey, since));
            return Finding::Within;
        }
        let now = Instant::now();
        let sum = files.saturating_add(survey.sum() * 1024);
        let growth = Duration::from_micros(self.limit.saturating_sub(sum) / GROWTH);
        self.due = now + growth.clamp(BRISK, INTERVAL);
        if sum <= self.limit {
            // To look takes time, too, where there are many processes.
            self.due = self.due.max(now + (now - since) * LOOKS);
            self.exceeded = None;
            return Finding::Within;
        }
        let exceeded = *self.exceeded.get_or_insert(now);
        let largest = survey.largest().unwrap_or(self.first);
        let hopeless = largest == self.first || sum > self::most(self.limit) || now - exceeded > GRACE;
        match survey::number_inside(largest) {
            _ if hopeless => Finding::Hopeless,
            Some(largest) => Finding::Exceeded { largest },
            // It has just ended: the next look tells what that has brought.
            None => Finding::Within,
        }
    }
}

/// Bytes that a memory file holds.
fn held(file: &OwnedFd) -> u64 {
    fstat(file).map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_files_are_counted() {
        let state: OwnedFd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::write(&state, &[1; 10_000]).unwrap();
        let watch = |limit| Watch::new(rustix::process::getpid(), state.try_clone().unwrap(), limit).unwrap();
        assert_eq!(watch(1).look(std::iter::empty()), Finding::Hopeless);
        assert_eq!(watch(1 << 50).look([&state].into_iter()), Finding::Within);
    }
}
