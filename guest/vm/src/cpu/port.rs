//! Ports of the machine, for what has no better interface: serial line, clock of old, power. They are closed to
//! ring 3, because there the application is too: ring 0 is asked (`ring.rs`).

use super::ring::{self, Port};

/// Writes a byte.
///
/// # Safety
/// What the device behind the port does with it is intended.
pub unsafe fn write_byte(port: u16, value: u8) {
    // SAFETY: the caller's promise.
    unsafe { ring::port(Port::WriteByte, port, value.into()) };
}

/// Writes 32 bits.
///
/// # Safety
/// As [`write_byte`].
pub unsafe fn write_long(port: u16, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { ring::port(Port::WriteLong, port, value) };
}

/// Reads a byte.
///
/// # Safety
/// Reading has no effect that is not intended.
pub unsafe fn read_byte(port: u16) -> u8 {
    // SAFETY: the caller's promise.
    unsafe { ring::port(Port::ReadByte, port, 0) as u8 }
}

/// Reads 32 bits.
///
/// # Safety
/// As [`read_byte`].
pub unsafe fn read_long(port: u16) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { ring::port(Port::ReadLong, port, 0) }
}
