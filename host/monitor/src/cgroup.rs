//! The memory limit's backstop: a control group of the island's own, outside of what it can overwrite.
//!
//! Made only for a limit, below the nearest group of ours that allows it, of either version. It kills beyond what
//! a guest can need while it ends one of its processes (`watch`), and tells when the limit itself is reached, so that
//! nobody has to look before that. What it counts is more than what the limit is about: pages of files that can be
//! read again, among others. The guest's first process joins through a descriptor opened here, before it gives up its rights. The group goes with
//! the monitor; one that a killed monitor left behind is removed by the next.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::watch;

const PREFIX: &str = "eyot-";
const MOUNT: &str = "/sys/fs/cgroup";

/// A group with a memory limit.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    version: Version,
    /// Opened at the start, so that a guest that takes all our descriptors does not blind us.
    events: Option<File>,
    usage: Option<File>,
    /// Counts how often the limit was passed.
    passed: Option<OwnedFd>,
    limit: u64,
}

/// Which of the two interfaces a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

impl Group {
    /// Makes a group with this limit; nothing if this machine lets us have none.
    pub fn with_memory(bytes: u64) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        candidates(&own).into_iter().find_map(|(parent, version)| Self::below(&parent, version, bytes))
    }

    fn below(parent: &Path, version: Version, bytes: u64) -> Option<Self> {
        if version == Version::Two && !has_word(&parent.join("cgroup.subtree_control"), "memory") {
            return None;
        }
        sweep(parent);
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let (events, usage) = match version {
            Version::One => ("memory.oom_control", "memory.usage_in_bytes"),
            Version::Two => ("memory.events", "memory.current"),
        };
        let open = |name: &str| File::open(path.join(name)).ok();
        let (events, usage) = (open(events), open(usage));
        let mut group = Self { events, usage, passed: None, path, version, limit: bytes };
        // From here on dropping the group removes it.
        if !group.bound(watch::most(bytes)) {
            return None;
        }
        group.passed = group.ask();
        Some(group)
    }

    fn write(&self, file: &str, text: &str) -> bool {
        fs::write(self.path.join(file), text).is_ok()
    }

    /// Where the kernel kills.
    fn bound(&self, bytes: u64) -> bool {
        let bytes = bytes.to_string();
        let (limited, _swap) = match self.version {
            // Swap is part of the limit where it is accounted for.
            Version::One => (
                self.write("memory.limit_in_bytes", &bytes),
                self.write("memory.memsw.limit_in_bytes", &bytes),
            ),
            Version::Two => (
                self.write("memory.max", &bytes) && self.write("memory.oom.group", "1"),
                self.write("memory.swap.max", "0"),
            ),
        };
        limited
    }

    /// Has the kernel tell when the limit is passed.
    fn ask(&self) -> Option<OwnedFd> {
        match self.version {
            Version::One => {
                let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok()?;
                let usage = self.usage.as_ref()?.as_raw_fd();
                let order = format!("{} {usage} {}", counter.as_raw_fd(), self.limit);
                self.write("cgroup.event_control", &order).then_some(counter)
            }
            // From there on its threads are slowed down, too.
            Version::Two if self.write("memory.high", &self.limit.to_string()) => {
                self.events.as_ref()?.try_clone().ok().map(OwnedFd::from)
            }
            Version::Two => None,
        }
    }

    /// What to wait for to learn that the limit is passed; nothing where the kernel does not tell.
    pub fn alarm(&self) -> Option<PollFd<'_>> {
        let happens = match self.version {
            Version::One => PollFlags::IN,
            Version::Two => PollFlags::PRI,
        };
        self.passed.as_ref().map(|passed| PollFd::new(passed, happens))
    }

    /// Takes note of the alarm; whether what is counted is about the limit, or nobody would tell that it is.
    pub fn is_pressed(&self) -> bool {
        let Some(passed) = &self.passed else { return true };
        let mut text = [0; 64];
        // An event counter is cleared by reading; a file is ready again once something has changed since.
        let _ = match self.version {
            Version::One => rustix::io::read(passed, &mut text[..8]),
            Version::Two => rustix::io::pread(passed, &mut text, 0),
        };
        let length = self.usage.as_ref().and_then(|usage| usage.read_at(&mut text, 0).ok()).unwrap_or(0);
        let usage: Option<u64> = String::from_utf8_lossy(&text[..length]).trim().parse().ok();
        usage.is_none_or(|usage| usage >= self.limit / 16 * 15)
    }

    /// A descriptor that the guest's first process joins by writing `0` to it.
    pub fn door(&self) -> Option<OwnedFd> {
        openat(CWD, self.path.join("cgroup.procs"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// Kills all that is in it, where the kernel does that at once.
    pub fn kill(&self) {
        // Version 1 has no such thing; there each process is killed by its number.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Whether the limit has killed.
    pub fn has_killed(&self) -> bool {
        let mut text = [0; 1024];
        let length = self.events.as_ref().and_then(|events| events.read_at(&mut text, 0).ok()).unwrap_or(0);
        let events = String::from_utf8_lossy(&text[..length]);
        events.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
    }

    pub fn version(&self) -> Version {
        self.version
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            // Its processes have ended, but the kernel may still be at it.
            if fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Groups below which ours may be made, nearest first.
fn candidates(own: &str) -> Vec<(PathBuf, Version)> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (mounts, version) = match controllers {
            "" => ([MOUNT.to_owned(), format!("{MOUNT}/unified")], Version::Two),
            _ if controllers.split(',').any(|each| each == "memory") => {
                ([format!("{MOUNT}/memory"), format!("{MOUNT}/{controllers}")], Version::One)
            }
            _ => continue,
        };
        let Some(mount) = mounts.iter().map(PathBuf::from).find(|mount| mount.join("cgroup.procs").exists())
        else {
            continue;
        };
        let inside = path.trim_start_matches('/');
        let levels = Path::new(inside).ancestors().map(|level| (mount.join(level), version));
        found.extend(levels);
    }
    found.sort_by_key(|(_, version)| *version == Version::One);
    found
}

fn has_word(file: &Path, word: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|each| each == word))
}

/// Removes groups of monitors that were killed. A group with processes in it cannot be removed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.parse::<u32>().ok());
        if number.is_some_and(|number| !Path::new("/proc").join(number.to_string()).exists()) {
            // Somebody else may have been faster.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_controllers_are_no_candidates() {
        assert!(candidates("3:cpu,cpuacct:/a\n1:name=systemd:/b\nnonsense\n").is_empty());
    }
}
