//! Headers of frames and packets, read strictly and written.
//!
//! What is read of a frame has been checked: every offset lies inside of it. Fragments are told from whole
//! packets; extension headers of IPv6 other than the fragment's are left to those who know them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{IpProtocol, checksum};

/// Bytes in an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes in the longest IP packet that is built.
pub const LONGEST_PACKET: usize = 65_521;

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const ARP: u16 = 0x0806;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMP_6: u8 = 58;
const FRAGMENT: u8 = 44;

/// An Ethernet address.
pub type Hardware = [u8; 6];

pub const BROADCAST: Hardware = [0xff; 6];

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Arp,
    Packet(Packet),
}

/// An IP packet inside a frame; the offsets are the frame's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// IPv4's time to live, IPv6's hop limit.
    pub hops: u8,
    /// Where the transport's header begins, and where its payload ends.
    pub start: usize,
    pub end: usize,
    pub fragment: Option<Fragment>,
}

/// Which part of a packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    pub identification: u32,
    pub offset: usize,
    pub more: bool,
}

pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub fn double(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub fn put_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub fn put_double(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Reads a frame's headers; `None` if they are not what they should be.
pub fn read(frame: &[u8]) -> Option<Content> {
    if frame.len() < ETHERNET {
        return None;
    }
    match word(frame, 12) {
        ARP => Some(Content::Arp),
        IPV4 => read_4(frame).map(Content::Packet),
        IPV6 => read_6(frame).map(Content::Packet),
        _ => None,
    }
}

fn read_4(frame: &[u8]) -> Option<Packet> {
    let header = frame.get(ETHERNET..)?;
    if header.len() < 20 || header[0] >> 4 != 4 {
        return None;
    }
    let length = usize::from(header[0] & 15) * 4;
    let total = usize::from(word(header, 2));
    if length < 20 || total < length || header.len() < total || checksum::data(&header[..length]) != !0 {
        return None;
    }
    let (flags, offset) = (word(header, 6), usize::from(word(header, 6) & 0x1fff) * 8);
    let more = flags & 0x2000 != 0;
    let part = Fragment { identification: u32::from(word(header, 4)), offset, more };
    let octets = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    Some(Packet {
        source: octets(12).into(),
        destination: octets(16).into(),
        protocol: header[9],
        hops: header[8],
        start: ETHERNET + length,
        end: ETHERNET + total,
        fragment: (more || offset != 0).then_some(part),
    })
}

fn read_6(frame: &[u8]) -> Option<Packet> {
    let header = frame.get(ETHERNET..)?;
    if header.len() < 40 || header[0] >> 4 != 6 {
        return None;
    }
    let end = 40 + usize::from(word(header, 4));
    if header.len() < end {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        Some(Ipv6Addr::from(<[u8; 16]>::try_from(header.get(at..at + 16)?).ok()?).into())
    };
    let mut packet = Packet {
        source: address(8)?,
        destination: address(24)?,
        protocol: header[6],
        hops: header[7],
        start: ETHERNET + 40,
        end: ETHERNET + end,
        fragment: None,
    };
    if packet.protocol == FRAGMENT {
        let part = header.get(40..end)?;
        if part.len() < 8 {
            return None;
        }
        let offset = usize::from(word(part, 2) & !7);
        packet.protocol = part[0];
        packet.start += 8;
        let more = part[3] & 1 != 0;
        packet.fragment = Some(Fragment { identification: double(part, 4), offset, more });
    }
    Some(packet)
}

/// Bytes of the IP header towards an address.
pub fn header_length(version_6: bool) -> usize {
    if version_6 { 40 } else { 20 }
}

/// Writes an IP header for `payload` bytes that follow it. Both addresses are of one family.
pub fn write(packet: &mut [u8], source: IpAddr, destination: IpAddr, protocol: u8, payload: usize) {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet[..20].fill(0);
            packet[0] = 0x45;
            put_word(packet, 2, (20 + payload) as u16);
            // Not to be fragmented on the way; nothing here is longer than the path's first hop.
            put_word(packet, 6, 0x4000);
            packet[8] = 64;
            packet[9] = protocol;
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
            seal(packet);
        }
        (source, destination) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol, 64]);
            put_word(packet, 4, payload as u16);
            packet[8..24].copy_from_slice(&octets(source));
            packet[24..40].copy_from_slice(&octets(destination));
        }
    }
}

/// Puts the checksum into an IPv4 header.
pub fn seal(header: &mut [u8]) {
    put_word(header, 10, 0);
    let sum = !checksum::data(&header[..20]);
    put_word(header, 10, sum);
}

/// The addresses in an IP header that was built here.
pub fn addresses(header: &[u8], version_6: bool) -> (IpAddr, IpAddr) {
    if version_6 {
        let octets = |at: usize| IpAddr::from(core::array::from_fn::<u8, 16, _>(|byte| header[at + byte]));
        (octets(8), octets(24))
    } else {
        let octets = |at: usize| IpAddr::from(core::array::from_fn::<u8, 4, _>(|byte| header[at + byte]));
        (octets(12), octets(16))
    }
}

/// Writes an Ethernet header.
pub fn write_ethernet(frame: &mut [u8], to: Hardware, from: Hardware, kind: u16) {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    put_word(frame, 12, kind);
}

/// The sum of the pseudo header, as it stands in a checksum field that a device completes.
pub fn pseudo_sum(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> u16 {
    checksum::pseudo_header(&source.into(), &destination.into(), IpProtocol::from(protocol), length as u32)
}

/// The checksum of a transport's header and payload whose checksum field is zero.
pub fn sum(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> u16 {
    let pseudo = pseudo_sum(source, destination, protocol, transport.len());
    !checksum::combine(&[pseudo, checksum::data(transport)])
}

/// The checksum without a pseudo header, as ICMP for IPv4 has it.
pub fn plain_sum(message: &[u8]) -> u16 {
    !checksum::data(message)
}

/// Whether the checksum inside a transport's header is right.
pub fn is_sound(source: IpAddr, destination: IpAddr, protocol: u8, transport: &[u8]) -> bool {
    let pseudo = pseudo_sum(source, destination, protocol, transport.len());
    checksum::combine(&[pseudo, checksum::data(transport)]) == !0
}
