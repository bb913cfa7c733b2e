//! Errors that others report about packets of ours, and the one that we report: no such port.

use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use abi::Code;

use crate::event::code;
use crate::frame::{self, ETHERNET, Packet, put_word, word};

/// What a report is about: a packet that we have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub protocol: u8,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    /// TCP's sequence number.
    pub sequence: u32,
    pub trouble: Trouble,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Unreachable(Code),
    /// The way carries no IP packets longer than this.
    TooLong(usize),
}

/// Reads a report that a destination cannot be reached.
pub fn read(protocol: u8, message: &[u8]) -> Option<Report> {
    let (kind, detail) = (*message.first()?, *message.get(1)?);
    let version_6 = protocol == frame::ICMP_6;
    let trouble = match (version_6, kind, detail) {
        (false, 3, 0) | (true, 1, 0) => Trouble::Unreachable(code::UNREACHABLE_NETWORK),
        (false, 3, 2 | 3) | (true, 1, 4) => Trouble::Unreachable(code::REFUSED),
        // Nothing is shorter than every way has to carry, whatever is said.
        (false, 3, 4) => Trouble::TooLong(usize::from(word(message.get(..8)?, 6)).max(576)),
        (true, 2, _) => Trouble::TooLong((frame::double(message.get(..8)?, 4) as usize).max(1280)),
        (false, 3, _) | (true, 1, _) => Trouble::Unreachable(code::UNREACHABLE_HOST),
        _ => return None,
    };
    let inner = message.get(8..)?;
    let (source, destination, protocol, start) = if version_6 {
        let header = inner.get(..40)?;
        let (source, destination) = frame::addresses(header, true);
        (source, destination, header[6], 40)
    } else {
        let header = inner.get(..20)?;
        let (source, destination) = frame::addresses(header, false);
        (source, destination, header[9], usize::from(header[0] & 15) * 4)
    };
    let ports = inner.get(start..start + 8)?;
    let sequence = frame::double(ports, 4);
    let local = SocketAddr::new(source, word(ports, 0));
    let peer = SocketAddr::new(destination, word(ports, 2));
    Some(Report { protocol, local, peer, sequence, trouble })
}

/// Says that nobody is at the port that a packet came for; with room for an Ethernet header in front.
pub fn no_such_port(received: &[u8], packet: &Packet) -> Option<Vec<u8>> {
    let original = received.get(ETHERNET..packet.end)?;
    let version_6 = packet.source.is_ipv6();
    let ip = frame::header_length(version_6);
    // As much of it as one that has to arrive can carry.
    let quoted = original.len().min(if version_6 { 1232 } else { 548 });
    let mut reply = vec![0; ETHERNET + ip + 8 + quoted];
    let (header, body) = reply[ETHERNET..].split_at_mut(ip);
    let protocol = if version_6 { frame::ICMP_6 } else { frame::ICMP };
    let (from, to): (IpAddr, IpAddr) = (packet.destination, packet.source);
    frame::write(header, from, to, protocol, 8 + quoted);
    body[..2].copy_from_slice(if version_6 { &[1, 4] } else { &[3, 3] });
    body[8..].copy_from_slice(&original[..quoted]);
    let sum = if version_6 { frame::sum(from, to, protocol, body) } else { frame::plain_sum(body) };
    put_word(body, 2, sum);
    Some(reply)
}
