//! Where things lie, in virtual and in physical addresses.

/// Where the image is loaded: `vm.ld` says the same.
pub const IMAGE_LOAD: u64 = 0x20_0000;

/// Kernel stacks, each above a guard page.
pub const STACKS: u64 = 0x7e04_0000_0000;
/// The CPU's local interrupt controller, and the one that all share.
pub const CONTROLLER: u64 = 0x7e08_0000_0000;
pub const SHARED_CONTROLLER: u64 = CONTROLLER + 0x1000;
/// Registers of devices.
pub const DEVICES: u64 = 0x7e0a_0000_0000;
/// All memory, at its physical address from here on.
pub const DIRECT: u64 = 0x7e40_0000_0000;

/// Bytes of a large page, which is what a block of frames is.
pub const LARGE: u64 = 2 << 20;
