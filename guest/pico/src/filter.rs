//! Installing the filter that the monitor has composed.
//!
//! The monitor cannot know the process number the guest will see, so the filter compares with a marker
//! where it means "own thread group"; the marker is replaced here, on the way in.

use alloc::vec::Vec;

use linux_raw_sys::general as linux;

use crate::host;

/// `BPF_JMP | BPF_JEQ | BPF_K`, in the low half-word of an instruction.
const JUMP_IF_EQUAL: u64 = 0x15;

/// Puts the filter on all threads; no application instruction has run yet.
pub fn install(filter: &[u64]) {
    // SAFETY: no memory is named.
    let own = unsafe { host::call(linux::__NR_getpid, []) }.unwrap_or(0);
    let filter: Vec<u64> = filter
        .iter()
        .map(|&instruction| {
            let marked = instruction & 0xffff == JUMP_IF_EQUAL
                && instruction >> 32 == abi::pico::OWN_THREAD_GROUP as u64;
            if marked { instruction & 0xffff_ffff | own << 32 } else { instruction }
        })
        .collect();
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
