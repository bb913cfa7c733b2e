//! Addresses and transports, as both sides name them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
}

pub use core::net::SocketAddr as Address;

/// A socket option the guest may set on a granted socket (the filter checks level and name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketOption {
    /// TCP_NODELAY.
    NoDelay(bool),
    /// TCP_CORK.
    Cork(bool),
    /// TCP_QUICKACK.
    QuickAck(bool),
    /// SO_KEEPALIVE.
    KeepAlive(bool),
    /// TCP_KEEPIDLE, seconds.
    KeepIdle(u32),
    /// TCP_KEEPINTVL, seconds.
    KeepInterval(u32),
    /// TCP_KEEPCNT.
    KeepCount(u32),
    /// TCP_USER_TIMEOUT, milliseconds.
    UserTimeout(u32),
    /// SO_LINGER, seconds; `None` switches it off.
    Linger(Option<u16>),
    /// SO_SNDBUF, bytes.
    SendBuffer(u32),
    /// SO_RCVBUF, bytes.
    ReceiveBuffer(u32),
}

/// Which direction shutdown(2) ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shutdown {
    Read,
    Write,
    Both,
}

/// Bytes before the payload of every packet on an unconnected datagram socket.
///
/// Such a socket is not the host's: the guest's end is one side of a sequenced-packet pair, the monitor
/// moves each packet to and from the socket it keeps, after checking its destination. The header names
/// the peer: the source of what is received, the destination of what is sent.
pub const DATAGRAM_HEADER: usize = 20;

/// The header for a peer: family (4 or 6), a zero, port, address, zeros; all in network order.
pub fn datagram_header(peer: Address) -> [u8; DATAGRAM_HEADER] {
    let mut header = [0; DATAGRAM_HEADER];
    header[2..4].copy_from_slice(&peer.port().to_be_bytes());
    match peer.ip() {
        IpAddr::V4(address) => {
            header[0] = 4;
            header[4..8].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            header[0] = 6;
            header[4..20].copy_from_slice(&address.octets());
        }
    }
    header
}

/// The peer a packet's header names, and the payload.
pub fn split_datagram(packet: &[u8]) -> Option<(Address, &[u8])> {
    let (header, payload) = packet.split_first_chunk::<DATAGRAM_HEADER>()?;
    let port = u16::from_be_bytes([header[2], header[3]]);
    let octets: [u8; 16] = header[4..20].try_into().ok()?;
    let address = match header[0] {
        4 => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
        6 => IpAddr::V6(Ipv6Addr::from(octets)),
        _ => return None,
    };
    Some((Address::new(address, port), payload))
}
