//! Packets' headers (`struct virtio_vsock_hdr`; virtio 1.2, 5.10.6).

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

/// What a packet's header says.
pub struct Header {
    pub from: u64,
    pub to: u64,
    pub from_port: u32,
    pub to_port: u32,
    pub length: usize,
    pub kind: u16,
    pub operation: u16,
    pub flags: u32,
    pub room: u32,
    pub forwarded: u32,
}

impl Header {
    pub fn read(bytes: &[u8; vsock::HEADER]) -> Self {
        let long =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("invariant: eight bytes"));
        let word = |at: usize| long(at) as u32;
        let last = u32::from_le_bytes(bytes[40..44].try_into().expect("invariant: four bytes"));
        Self {
            from: long(0),
            to: long(8),
            from_port: word(16),
            to_port: word(20),
            length: word(24) as usize,
            kind: word(28) as u16,
            operation: (word(28) >> 16) as u16,
            flags: word(32),
            room: word(36),
            forwarded: last,
        }
    }
}
