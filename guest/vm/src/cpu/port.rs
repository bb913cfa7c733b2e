//! Ports of the machine, for what has no better interface: serial line, clock of old, power.

use core::arch::asm;

/// Writes a byte.
///
/// # Safety
/// What the device behind the port does with it is intended.
pub unsafe fn write_byte(port: u16, value: u8) {
    // SAFETY: the caller's promise; every port is open to ring 3 (`block.rs`).
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack, preserves_flags)) };
}

/// Writes 32 bits.
///
/// # Safety
/// As [`write_byte`].
pub unsafe fn write_long(port: u16, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) };
}

/// Reads a byte.
///
/// # Safety
/// Reading has no effect that is not intended.
pub unsafe fn read_byte(port: u16) -> u8 {
    let value;
    // SAFETY: the caller's promise.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack, preserves_flags)) };
    value
}

/// Reads 32 bits.
///
/// # Safety
/// As [`read_byte`].
pub unsafe fn read_long(port: u16) -> u32 {
    let value;
    // SAFETY: the caller's promise.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack, preserves_flags)) };
    value
}
