//! Stubs of patched call sites, and what is known of addresses in them.

/// The logical address of an instruction in a stub behind its call; none on the way to the gate.
pub fn logical(_rip: u64) -> Option<u64> {
    None
}

/// Whether a patch is being written at this address, so that the instruction is to be tried again.
pub fn is_torn(_rip: u64) -> bool {
    false
}

/// Whether this is the address of a system call that a patch has overwritten.
pub fn is_patched_call(_rip: u64) -> bool {
    false
}

use machine::{Protection, UserRange};

pub fn map() {}
pub fn forget(_range: UserRange) {}
pub fn remember(_range: UserRange, _protection: Protection) {}
pub fn protected(_range: UserRange, _protection: Protection) {}
