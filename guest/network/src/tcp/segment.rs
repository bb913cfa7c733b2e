//! TCP headers, read and written, as far as the stack itself has to: to find the connection, to shake
//! hands, to answer for connections that sleep.

use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::frame::{self, ETHERNET, double, put_double, put_word, word};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RESET: u8 = 4;
pub const PUSH: u8 = 8;
pub const ACK: u8 = 16;
/// Bits that say what kind of segment this is.
pub const KIND: u8 = FIN | SYN | RESET | ACK;

/// Bytes of a header without options.
pub const HEADER: usize = 20;

/// Where a field is, from the header's start.
pub const SEQUENCE: usize = 4;
pub const ACKNOWLEDGED: usize = 8;
pub const OFFSET: usize = 12;
pub const FLAGS: usize = 13;
pub const WINDOW: usize = 14;
pub const CHECKSUM: usize = 16;

/// What a connection is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// What only a SYN tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// The longest segment its sender takes.
    pub maximum: Option<u16>,
    /// The window's shift.
    pub scale: Option<u8>,
    pub selective: bool,
}

/// A header that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source_port: u16,
    pub destination_port: u16,
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub window: u16,
    /// Bytes of payload.
    pub payload: usize,
    pub announcement: Announcement,
}

impl Segment {
    /// Reads a TCP header; `None` if it is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER {
            return None;
        }
        let length = usize::from(bytes[12] >> 4) * 4;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let flags = bytes[13] & 0x3f;
        let announcement =
            if flags & SYN == 0 { Announcement::default() } else { options(&bytes[HEADER..length])? };
        let (source_port, destination_port) = (word(bytes, 0), word(bytes, 2));
        if source_port == 0 || destination_port == 0 {
            return None;
        }
        Some(Self {
            source_port,
            destination_port,
            sequence: double(bytes, SEQUENCE),
            acknowledged: double(bytes, ACKNOWLEDGED),
            flags,
            window: word(bytes, WINDOW),
            payload: bytes.len() - length,
            announcement,
        })
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Sequence numbers that it takes.
    pub fn length(&self) -> u32 {
        self.payload as u32 + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }

    /// What answers a segment that belongs to nothing; `None` for a reset.
    pub fn refusal(&self, flow: Flow) -> Option<Bare> {
        if self.has(RESET) {
            return None;
        }
        let (flags, sequence, acknowledged) = if self.has(ACK) {
            (RESET, self.acknowledged, 0)
        } else {
            (RESET | ACK, 0, self.sequence.wrapping_add(self.length()))
        };
        Some(Bare { flow, flags, sequence, acknowledged, window: 0, announcement: None })
    }
}

fn options(mut bytes: &[u8]) -> Option<Announcement> {
    let mut found = Announcement::default();
    while let Some((kind, rest)) = bytes.split_first() {
        match kind {
            0 => break,
            1 => bytes = rest,
            _ => {
                let length = usize::from(*rest.first()?);
                let data = bytes.get(2..length)?;
                match (kind, data) {
                    (2, &[high, low]) => {
                        found.maximum = Some(u16::from_be_bytes([high, low])).filter(|size| *size > 0)
                    }
                    (3, &[scale]) => found.scale = Some(scale.min(14)),
                    (4, []) => found.selective = true,
                    _ => {}
                }
                bytes = &bytes[length..];
            }
        }
    }
    Some(found)
}

/// Whether a sequence number comes before another.
pub fn before(first: u32, second: u32) -> bool {
    (first.wrapping_sub(second) as i32) < 0
}

/// A segment without payload.
#[derive(Clone, Copy, Debug)]
pub struct Bare {
    pub flow: Flow,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledged: u32,
    pub window: u16,
    pub announcement: Option<Announcement>,
}

impl Bare {
    /// The frame around it, but for the Ethernet header, which is left room for.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(ETHERNET + 60);
        self.append(&mut frame);
        frame
    }

    fn append(&self, frame: &mut Vec<u8>) {
        let mut options = [0; 12];
        let mut used = 0;
        if let Some(announcement) = self.announcement {
            let [high, low] = announcement.maximum.unwrap_or(536).to_be_bytes();
            options[..4].copy_from_slice(&[2, 4, high, low]);
            used = 4;
            if let Some(scale) = announcement.scale {
                options[used..used + 4].copy_from_slice(&[1, 3, 3, scale]);
                used += 4;
            }
            if announcement.selective {
                options[used..used + 4].copy_from_slice(&[1, 1, 4, 2]);
                used += 4;
            }
        }
        let (local, peer) = (self.flow.local, self.flow.peer);
        let ip = frame::header_length(peer.is_ipv6());
        frame.clear();
        frame.resize(ETHERNET + ip + HEADER + used, 0);
        let (header, transport) = frame[ETHERNET..].split_at_mut(ip);
        frame::write(header, local.ip(), peer.ip(), frame::TCP, HEADER + used);
        put_word(transport, 0, local.port());
        put_word(transport, 2, peer.port());
        put_double(transport, SEQUENCE, self.sequence);
        put_double(transport, ACKNOWLEDGED, self.acknowledged);
        transport[12] = ((HEADER + used) / 4 * 16) as u8;
        transport[13] = self.flags;
        put_word(transport, WINDOW, self.window);
        transport[HEADER..].copy_from_slice(&options[..used]);
        let sum = frame::sum(local.ip(), peer.ip(), frame::TCP, transport);
        put_word(transport, CHECKSUM, sum);
    }
}
