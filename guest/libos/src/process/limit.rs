//! Resource limits (getrlimit(2)): soft and hard, by number.

pub type Limits = [(u64, u64); 16];

/// RLIMIT_FSIZE.
pub const FILE_SIZE_LIMIT: usize = 1;

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;

/// What the first process has.
pub(super) fn default_limits() -> Limits {
    let mut limits = [(UNLIMITED, UNLIMITED); 16];
    limits[3] = (8 << 20, UNLIMITED); // RLIMIT_STACK
    limits[4] = (0, UNLIMITED); // RLIMIT_CORE
    limits[6] = (32_768, 32_768); // RLIMIT_NPROC
    limits[7] = (1024, 1 << 20); // RLIMIT_NOFILE
    limits[8] = (8 << 20, 8 << 20); // RLIMIT_MEMLOCK
    limits[12] = (800 << 10, 800 << 10); // RLIMIT_MSGQUEUE
    limits[13] = (0, 0); // RLIMIT_NICE
    limits[14] = (0, 0); // RLIMIT_RTPRIO
    limits
}
