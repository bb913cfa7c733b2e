//! How the stack comes by its addresses.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::Hardware;
use crate::link::Offloads;

/// One of our addresses, and which others are on the same wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub address: IpAddr,
    /// Leading bits that neighbours share.
    pub prefix: u8,
}

impl Subnet {
    fn shares(first: u128, second: u128, bits: u8, prefix: u8) -> bool {
        let differing = bits.saturating_sub(prefix.min(bits));
        (first ^ second).checked_shr(u32::from(differing)).unwrap_or(0) == 0
    }

    /// Whether an address is on the same wire.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                Self::shares(own.to_bits().into(), other.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                Self::shares(own.to_bits(), other.to_bits(), 128, self.prefix)
            }
            _ => false,
        }
    }

    /// The address that means everybody on the same wire.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if self.prefix < 31 => Some(Ipv4Addr::from_bits(
                address.to_bits() | u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0),
            )),
            _ => None,
        }
    }
}

/// Where IPv4's address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version4 {
    Absent,
    /// From a server on the wire (DHCP), and kept as long as it renews the lease.
    Dynamic,
    Static {
        address: Ipv4Addr,
        prefix: u8,
        gateway: Option<Ipv4Addr>,
    },
}

/// Where IPv6's addresses come from, besides the link-local one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version6 {
    Absent,
    /// From what routers on the wire advertise (SLAAC).
    Automatic,
    Static {
        address: Ipv6Addr,
        prefix: u8,
        gateway: Option<Ipv6Addr>,
    },
}

#[derive(Clone, Debug)]
pub struct Configuration {
    pub hardware: Hardware,
    /// Bytes in the longest IP packet on the wire, 1280 to 65,521.
    pub mtu: u16,
    pub offloads: Offloads,
    pub version_4: Version4,
    pub version_6: Version6,
    /// Bytes that connections' buffers may take before they stop to grow.
    pub memory: usize,
    /// Name servers to ask besides those a lease names.
    pub name_servers: Vec<IpAddr>,
}

impl Configuration {
    /// Whether there can be a network that is configured like this.
    pub fn is_sound(&self) -> bool {
        let unicast = self.hardware[0] & 1 == 0 && self.hardware != [0; 6];
        let version_4 = match self.version_4 {
            Version4::Static { address, prefix, .. } => {
                !address.is_unspecified()
                    && !address.is_multicast()
                    && !address.is_broadcast()
                    && prefix <= 32
            }
            _ => true,
        };
        let version_6 = match self.version_6 {
            Version6::Static { address, prefix, .. } => {
                !address.is_unspecified() && !address.is_multicast() && prefix <= 128
            }
            _ => true,
        };
        let mtu = (1280..=crate::frame::LONGEST_PACKET).contains(&usize::from(self.mtu));
        unicast && version_4 && version_6 && mtu
    }

    /// The address that every interface with IPv6 has (RFC 4291, appendix A).
    pub fn link_local(&self) -> Ipv6Addr {
        let [first, second, third, fourth, fifth, sixth] = self.hardware;
        let mut octets = [0; 16];
        octets[..2].copy_from_slice(&[0xfe, 0x80]);
        octets[8..].copy_from_slice(&[first ^ 2, second, third, 0xff, 0xfe, fourth, fifth, sixth]);
        octets.into()
    }
}
