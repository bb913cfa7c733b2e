//! The headers of our packets (`struct virtio_vsock_hdr`; virtio 1.2, 5.10.6).

use alloc::vec::Vec;

use abi::vm::vsock;

/// Bytes that may arrive unread on a connection.
pub const CREDIT: u32 = 256 << 10;

/// A packet of ours with room for what follows the header; `taken` tells of what was read.
pub fn packet(number: u32, operation: u16, flags: u32, taken: u32, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vsock::HEADER + length);
    bytes.extend_from_slice(&vsock::GUEST.to_le_bytes());
    bytes.extend_from_slice(&vsock::HOST.to_le_bytes());
    for word in [number, number, length as u32] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&vsock::STREAM.to_le_bytes());
    bytes.extend_from_slice(&operation.to_le_bytes());
    for word in [flags, CREDIT, taken] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}
