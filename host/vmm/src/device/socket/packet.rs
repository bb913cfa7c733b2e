//! A packet's header (`struct virtio_vsock_hdr`).

use abi::vm::vsock;

/// What a header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub from: u64,
    pub to: u64,
    pub from_port: u32,
    pub to_port: u32,
    pub length: u32,
    pub kind: u16,
    pub operation: u16,
    pub flags: u32,
    /// Bytes that the sender has room for, and bytes that have left that room ever.
    pub room: u32,
    pub forwarded: u32,
}

impl Header {
    /// A header to the guest.
    pub fn to_guest(from_port: u32, to_port: u32, operation: u16) -> Self {
        Self {
            from: vsock::HOST,
            to: vsock::GUEST,
            from_port,
            to_port,
            kind: vsock::STREAM,
            operation,
            ..Self::default()
        }
    }

    pub fn read(bytes: &[u8; vsock::HEADER]) -> Self {
        let half = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let word = |at: usize| u64::from(half(at)) | u64::from(half(at + 4)) << 32;
        Self {
            from: word(0),
            to: word(8),
            from_port: half(16),
            to_port: half(20),
            length: half(24),
            kind: half(28) as u16,
            operation: (half(28) >> 16) as u16,
            flags: half(32),
            room: half(36),
            forwarded: half(40),
        }
    }

    pub fn bytes(&self) -> [u8; vsock::HEADER] {
        let mut bytes = [0; vsock::HEADER];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &self.from.to_le_bytes());
        put(8, &self.to.to_le_bytes());
        put(16, &self.from_port.to_le_bytes());
        put(20, &self.to_port.to_le_bytes());
        put(24, &self.length.to_le_bytes());
        put(28, &self.kind.to_le_bytes());
        put(30, &self.operation.to_le_bytes());
        put(32, &self.flags.to_le_bytes());
        put(36, &self.room.to_le_bytes());
        put(40, &self.forwarded.to_le_bytes());
        bytes
    }
}
