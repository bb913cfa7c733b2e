//! How exactly a memory limit holds, and how fast memory is.

use api::report::{Check, State};

use super::{check, kernel_file};
use crate::cgroup::{Group, Version};

/// A limit for the rehearsal.
const LIMIT: u64 = 64 << 20;

/// Really makes a group.
pub fn groups() -> Check {
    match Group::with_memory(LIMIT).map(|group| group.version()) {
        Some(Version::Two) => {
            check("control groups", State::Good, "version 2: the kernel enforces --memory", None)
        }
        Some(Version::One) => {
            check("control groups", State::Good, "version 1: the kernel enforces --memory", None)
        }
        None => {
            let found = "none that you may use: --memory is watched only";
            let remedy = "run eyot under `systemd-run --user --scope -p Delegate=yes`, or as root";
            check("control groups", State::Limited, found, Some(remedy))
        }
    }
}

pub fn huge_pages() -> Check {
    let modes = kernel_file("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let chosen = modes.split_whitespace().find_map(|mode| mode.strip_prefix('[')?.strip_suffix(']'));
    match chosen {
        Some(mode @ ("always" | "madvise")) => check("huge pages", State::Good, mode, None),
        _ => {
            let remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
            check("huge pages", State::Limited, "switched off: large programs start slower", Some(remedy))
        }
    }
}
