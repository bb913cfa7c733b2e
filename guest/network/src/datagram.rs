//! Datagrams: sockets that receive them, and the packets that carry them.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use abi::Code;
use machine::Readiness;

use crate::frame::{self, ETHERNET, UDP, header_length, put_double, put_word, word};

pub const HEADER: usize = 8;
const FRAGMENT_HEADER: usize = 8;
/// Bytes that wait to be received.
const CAPACITY: usize = 208 << 10;
/// What a datagram costs besides its bytes.
const OVERHEAD: usize = 256;

pub struct Datagram {
    pub port: u16,
    /// If set, only datagrams from there are received.
    pub peer: Option<SocketAddr>,
    queue: VecDeque<(SocketAddr, Vec<u8>)>,
    bytes: usize,
    pub error: Option<Code>,
    /// A send did not find room.
    pub crowded: bool,
    pub news: Readiness,
    pub announced: bool,
}

impl Datagram {
    pub fn new(port: u16) -> Self {
        Self {
            port,
            peer: None,
            queue: VecDeque::new(),
            bytes: 0,
            error: None,
            crowded: false,
            news: Readiness::empty(),
            announced: false,
        }
    }

    /// Takes a datagram from the network, if there is room and it is wanted.
    pub fn arrive(&mut self, from: SocketAddr, bytes: &[u8]) -> bool {
        let size = bytes.len() + OVERHEAD;
        if self.peer.is_some_and(|peer| peer != from) || self.bytes + size > CAPACITY {
            return false;
        }
        self.bytes += size;
        self.queue.push_back((from, bytes.to_vec()));
        true
    }

    pub fn first(&self) -> Option<(SocketAddr, &[u8])> {
        self.queue.front().map(|(from, bytes)| (*from, &bytes[..]))
    }

    pub fn pop(&mut self) {
        if let Some((_, bytes)) = self.queue.pop_front() {
            self.bytes -= bytes.len() + OVERHEAD;
        }
    }

    pub fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::WRITE;
        readiness.set(Readiness::READ, !self.queue.is_empty());
        readiness.set(Readiness::ERROR, self.error.is_some());
        readiness
    }
}

/// A datagram's ports and payload.
pub fn read(transport: &[u8]) -> Option<(u16, u16, &[u8])> {
    if transport.len() < HEADER {
        return None;
    }
    let length = usize::from(word(transport, 4));
    let payload = transport.get(HEADER..length)?;
    Some((word(transport, 0), word(transport, 2), payload))
}

/// The longest payload towards an address.
pub fn longest(destination: IpAddr) -> usize {
    usize::from(u16::MAX) - HEADER - if destination.is_ipv4() { 20 } else { 0 }
}

/// The packets that carry a datagram, with room for an Ethernet header in front of each: one, or its
/// fragments.
pub fn packets(
    from: SocketAddr,
    to: SocketAddr,
    payload: &[u8],
    mtu: usize,
    identification: u32,
) -> Vec<Vec<u8>> {
    let (source, destination) = (from.ip(), to.ip());
    let ip = header_length(to.is_ipv6());
    let mut packet = vec![0; ETHERNET + ip + HEADER + payload.len()];
    let transport = &mut packet[ETHERNET + ip..];
    put_word(transport, 0, from.port());
    put_word(transport, 2, to.port());
    put_word(transport, 4, (HEADER + payload.len()) as u16);
    transport[HEADER..].copy_from_slice(payload);
    // Zero means that there is none.
    let sum = match frame::sum(source, destination, UDP, transport) {
        0 => u16::MAX,
        sum => sum,
    };
    put_word(transport, 6, sum);
    if ip + HEADER + payload.len() <= mtu {
        let length = HEADER + payload.len();
        frame::write(&mut packet[ETHERNET..ETHERNET + ip], source, destination, UDP, length);
        return vec![packet];
    }
    let transport = &packet[ETHERNET + ip..];
    let extra = if to.is_ipv6() { FRAGMENT_HEADER } else { 0 };
    let size = (mtu - ip - extra) & !7;
    let count = transport.len().div_ceil(size);
    let fragment = |(number, part): (usize, &[u8])| {
        let mut packet = vec![0; ETHERNET + ip + extra + part.len()];
        let (header, body) = packet[ETHERNET..].split_at_mut(ip);
        let protocol = if extra > 0 { 44 } else { UDP };
        frame::write(header, source, destination, protocol, extra + part.len());
        let (offset, more) = (number * size, number + 1 < count);
        if extra > 0 {
            body[0] = UDP;
            put_word(body, 2, offset as u16 | u16::from(more));
            put_double(body, 4, identification);
        } else {
            put_word(header, 4, identification as u16);
            put_word(header, 6, (offset / 8) as u16 | if more { 0x2000 } else { 0 });
            frame::seal(header);
        }
        body[extra..].copy_from_slice(part);
        packet
    };
    transport.chunks(size).enumerate().map(fragment).collect()
}
