//! The memory limit where no control group is to be had: looked at now and then, so it is approximate.
//!
//! RLIMIT_DATA refuses private memory beyond the limit at once; this adds the shared memory of the library
//! OS, which that limit does not count.

use rustix::event::Timespec;
use rustix::process::Pid;

/// How often is looked.
pub const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// A watched process and its limit in bytes.
#[derive(Debug)]
pub struct Watch {
    pub process: Pid,
    pub limit: u64,
}

impl Watch {
    /// Whether the process holds more memory than its limit.
    pub fn is_exceeded(&self) -> bool {
        let path = format!("/proc/{}/statm", self.process.as_raw_nonzero());
        let pages = std::fs::read_to_string(path).ok().and_then(|text| own_pages(&text));
        pages.is_some_and(|pages| pages.saturating_mul(rustix::param::page_size() as u64) > self.limit)
    }
}

/// Resident pages (proc_pid_statm(5)): shared ones are mostly the island's own memory.
fn own_pages(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_what_is_resident() {
        assert_eq!(own_pages("1000 250 30 1 0 5 0\n"), Some(250));
        assert_eq!(own_pages(""), None);
    }
}
