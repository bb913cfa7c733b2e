//! Installing the filter that the monitor has composed.

use linux_raw_sys::general as linux;

use crate::host;

/// Puts the filter on all threads; no application instruction has run yet.
pub fn install(filter: &[u64]) {
    let program = [filter.len() as u64, filter.as_ptr() as u64];
    let flags = linux_seccomp::TSYNC | linux_seccomp::SPEC_ALLOW;
    // SAFETY: the kernel reads `struct sock_fprog` and the instructions it names.
    let result = unsafe {
        host::call(linux::__NR_seccomp, [linux_seccomp::SET_MODE_FILTER, flags, program.as_ptr() as u64])
    };
    if result != Ok(0) {
        crate::fatal("the seccomp filter was refused");
    }
}

/// Constants of seccomp(2).
mod linux_seccomp {
    pub const SET_MODE_FILTER: u64 = 1;
    pub const TSYNC: u64 = 1;
    /// Without it the host would switch speculative-store-bypass mitigation on for all our code.
    pub const SPEC_ALLOW: u64 = 4;
}
