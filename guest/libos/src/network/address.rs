//! Socket addresses: from and to the bytes of `struct sockaddr` (ip(7), ipv6(7), unix(7)).
//!
//! Inside, an IPv4 address is always one: mapped ones (::ffff:a.b.c.d) are unwrapped when they come in
//! and wrapped when an AF_INET6 socket tells of them.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use abi::network::Address;

use crate::errno::{Errno, Result};

pub const AF_UNSPEC: u32 = 0;
pub const AF_UNIX: u32 = 1;
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;

/// The island's own address besides loopback, as programs see it on connections from outside.
pub const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// The same for version 6.
pub const OWN_6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x15);

/// Bytes of the longest address: `struct sockaddr_un`.
pub const NAME_MAX: usize = 110;

/// An address as a program reads it.
#[derive(Clone, Copy)]
pub struct Name {
    bytes: [u8; NAME_MAX],
    length: usize,
}

impl Name {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn of(family: u32, rest: &[u8]) -> Self {
        let mut bytes = [0; NAME_MAX];
        let length = (2 + rest.len()).min(NAME_MAX);
        bytes[..2].copy_from_slice(&(family as u16).to_le_bytes());
        bytes[2..length].copy_from_slice(&rest[..length - 2]);
        Self { bytes, length }
    }

    /// `sockaddr_in` or `sockaddr_in6`, as the socket's domain has it.
    pub fn internet(domain: u32, address: Address) -> Self {
        if domain == AF_INET {
            let octets = match address.ip() {
                IpAddr::V4(ip) => ip.octets(),
                IpAddr::V6(_) => [0; 4],
            };
            let mut rest = [0; 14];
            rest[..2].copy_from_slice(&address.port().to_be_bytes());
            rest[2..6].copy_from_slice(&octets);
            return Self::of(AF_INET, &rest);
        }
        let octets = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let mut rest = [0; 26];
        rest[..2].copy_from_slice(&address.port().to_be_bytes());
        rest[6..22].copy_from_slice(&octets);
        Self::of(AF_INET6, &rest)
    }

    /// `sockaddr_un`.
    pub fn local(name: &LocalName) -> Self {
        match name {
            LocalName::Unnamed => Self::of(AF_UNIX, &[]),
            LocalName::Abstract(name) => {
                let mut rest = Vec::with_capacity(name.len() + 1);
                rest.push(0);
                rest.extend_from_slice(name);
                Self::of(AF_UNIX, &rest)
            }
            LocalName::Path(path) => {
                let mut rest = path.clone();
                rest.push(0);
                Self::of(AF_UNIX, &rest)
            }
        }
    }
}

/// The name of a local socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LocalName {
    #[default]
    Unnamed,
    Abstract(Vec<u8>),
    /// As the program gave it.
    Path(Vec<u8>),
}

/// The family field of an address.
pub fn family(bytes: &[u8]) -> Result<u32> {
    let (family, _) = bytes.split_first_chunk::<2>().ok_or(Errno::EINVAL)?;
    Ok(u32::from(u16::from_le_bytes(*family)))
}

/// Reads an internet address that a socket of `domain` may be given.
pub fn internet(domain: u32, bytes: &[u8]) -> Result<Address> {
    if family(bytes)? != domain {
        return Err(Errno::EAFNOSUPPORT);
    }
    if bytes.len() < if domain == AF_INET { 16 } else { 24 } {
        return Err(Errno::EINVAL);
    }
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    if domain == AF_INET {
        return Ok(Address::new(IpAddr::V4(Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7])), port));
    }
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[8..24]);
    let ip = Ipv6Addr::from(octets);
    let ip = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
    Ok(Address::new(ip, port))
}

/// Reads the name of a local socket.
pub fn local(bytes: &[u8]) -> Result<LocalName> {
    if family(bytes)? != AF_UNIX || bytes.len() > NAME_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(match &bytes[2..] {
        [] => LocalName::Unnamed,
        [0, name @ ..] => LocalName::Abstract(name.to_vec()),
        path => LocalName::Path(path.split(|byte| *byte == 0).next().unwrap_or(path).to_vec()),
    })
}

/// The wildcard of a domain.
pub fn any(domain: u32) -> Address {
    let ip =
        if domain == AF_INET { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    Address::new(ip, 0)
}

/// Whether an address is the island itself. The wildcard as a destination means loopback.
pub fn is_own(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || ip == IpAddr::V4(OWN) || ip == IpAddr::V6(OWN_6)
}

/// The address that somebody from outside has reached: he who comes by loopback has come to loopback.
pub fn reached(by: IpAddr) -> IpAddr {
    match by {
        IpAddr::V4(by) if by.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V4(_) => OWN.into(),
        IpAddr::V6(by) if by.is_loopback() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(_) => OWN_6.into(),
    }
}

/// What a destination on the island is called when it was named by the wildcard.
pub fn concrete(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        for (domain, text) in
            [(AF_INET, "10.1.2.3:80"), (AF_INET6, "[2001:db8::1]:443"), (AF_INET6, "127.0.0.1:1")]
        {
            let address: Address = text.parse().unwrap();
            assert_eq!(internet(domain, Name::internet(domain, address).bytes()), Ok(address));
        }
        let mapped = Name::internet(AF_INET6, "127.0.0.1:1".parse().unwrap());
        assert_eq!(mapped.bytes()[18..24], [0xff, 0xff, 127, 0, 0, 1]);
        assert_eq!(internet(AF_INET, mapped.bytes()), Err(Errno::EAFNOSUPPORT));
        assert_eq!(internet(AF_INET, &[2, 0, 0, 80]), Err(Errno::EINVAL));
    }

    #[test]
    fn local_names_are_of_three_kinds() {
        assert_eq!(local(&[1, 0]), Ok(LocalName::Unnamed));
        assert_eq!(local(b"\x01\0\0ab"), Ok(LocalName::Abstract(b"ab".to_vec())));
        assert_eq!(local(b"\x01\0/a\0junk"), Ok(LocalName::Path(b"/a".to_vec())));
        assert_eq!(Name::local(&LocalName::Path(b"/a".to_vec())).bytes(), b"\x01\0/a\0");
        assert_eq!(local(&[1]), Err(Errno::EINVAL));
    }
}
