//! The map of a guest's addresses, the same on every machine.
//!
//! The library OS lives at the upper end of the lower half and owns nothing below, but for the gate
//! table: applications get the rest.

/// Where a guest image is linked: code, constants, then data.
pub const IMAGE_BASE: u64 = 0x7e00_0000_0000;
/// Stubs that patched call sites reach through the gate table, one per slot.
pub const STUBS: u64 = 0x7e06_0000_0000;
/// Where applications' addresses end.
pub const USER_END: u64 = 0x7dff_ffff_f000;
/// The gate table: 8-byte slots that patched call sites jump through. Its addresses read `.. .. 06 00`
/// in memory, and 06 is no 64-bit instruction, so a jump into a patched site is recognised.
pub const GATE_TABLE: u64 = 0x6_0000;
pub const GATE_TABLE_END: u64 = 0x7_0000;
