//! Resource limits (getrlimit(2)): soft and hard, by number.

use abi::boot::Limit;

pub type Limits = [(u64, u64); 16];

/// RLIMIT_FSIZE.
pub const FILE_SIZE_LIMIT: usize = 1;

/// How many files a process can have open.
const FILES: u64 = 1 << 20;

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;

/// What the first process has, if it is granted these.
pub(super) fn of(granted: &[Limit]) -> Limits {
    let mut limits = usual();
    for Limit { resource, soft, hard } in granted {
        if let Some(limit) = limits.get_mut(usize::from(*resource)) {
            *limit = (*soft, *hard);
        }
    }
    // There is room for so many and no more.
    let (soft, hard) = limits[7];
    limits[7] = (soft.min(FILES), hard.min(FILES));
    limits
}

fn usual() -> Limits {
    let mut limits = [(UNLIMITED, UNLIMITED); 16];
    limits[3] = (8 << 20, UNLIMITED); // RLIMIT_STACK
    limits[4] = (0, UNLIMITED); // RLIMIT_CORE
    limits[6] = (32_768, 32_768); // RLIMIT_NPROC
    limits[7] = (1024, FILES); // RLIMIT_NOFILE
    limits[8] = (8 << 20, 8 << 20); // RLIMIT_MEMLOCK
    limits[11] = (crate::signal::QUEUED_MOST, crate::signal::QUEUED_MOST); // RLIMIT_SIGPENDING
    limits[12] = (800 << 10, 800 << 10); // RLIMIT_MSGQUEUE
    limits[13] = (0, 0); // RLIMIT_NICE
    limits[14] = (0, 0); // RLIMIT_RTPRIO
    limits
}
