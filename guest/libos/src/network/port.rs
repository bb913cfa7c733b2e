//! Which socket has which port of the island: one table per transport.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::{AtomicU16, Ordering};

use crate::lock::Mutex;

use super::address::{Address, is_own};
use super::option::Options;
use super::socket::Endpoint;
use crate::errno::{Errno, Result};

/// The ports given to those who ask for any (/proc/sys/net/ipv4/ip_local_port_range).
const FIRST: u16 = 32_768;
const COUNT: u16 = 28_232;

struct Claim {
    ip: IpAddr,
    only_version_6: bool,
    reuse_address: bool,
    reuse_port: bool,
    owner: Weak<dyn Endpoint>,
}

impl Claim {
    /// Whether packets to `ip` are for this claim.
    fn covers(&self, ip: IpAddr) -> bool {
        match self.ip {
            IpAddr::V4(own) if own.is_unspecified() => ip.is_ipv4(),
            IpAddr::V6(own) if own.is_unspecified() => ip.is_ipv6() || !self.only_version_6,
            own => own == ip,
        }
    }

    fn excludes(&self, other: &Claim) -> bool {
        if !self.covers(other.ip) && !other.covers(self.ip) {
            return false;
        }
        let Some(owner) = self.owner.upgrade() else { return false };
        let shared = self.reuse_port && other.reuse_port
            || self.reuse_address && other.reuse_address && !owner.listening();
        !shared
    }
}

/// The ports of one transport.
pub struct Ports {
    claims: Mutex<BTreeMap<u16, Vec<Claim>>>,
    next: AtomicU16,
}

impl Ports {
    pub const fn new() -> Self {
        Self { claims: Mutex::new(BTreeMap::new()), next: AtomicU16::new(0) }
    }

    /// Claims an address for a socket; port 0 is any. Returns the address with its port.
    pub fn claim(&self, address: Address, owner: Weak<dyn Endpoint>, options: &Options) -> Result<Address> {
        if !is_own(address.ip()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        let claim = Claim {
            ip: address.ip(),
            only_version_6: options.only_version_6.load(Ordering::Relaxed),
            reuse_address: options.reuse_address.load(Ordering::Relaxed),
            reuse_port: options.reuse_port.load(Ordering::Relaxed),
            owner,
        };
        let mut claims = self.claims.lock();
        let port = match address.port() {
            0 => (0..COUNT).map(|_| self.any()).find(|port| !claims.contains_key(port)),
            port => Some(port).filter(|port| match claims.get(port) {
                Some(others) => !others.iter().any(|other| other.excludes(&claim)),
                None => true,
            }),
        };
        let port = port.ok_or(Errno::EADDRINUSE)?;
        claims.entry(port).or_default().push(claim);
        Ok(Address::new(address.ip(), port))
    }

    fn any(&self) -> u16 {
        FIRST + self.next.fetch_add(1, Ordering::Relaxed) % COUNT
    }

    /// A port nobody claims, for the near end of a connection.
    pub fn unclaimed(&self) -> u16 {
        let claims = self.claims.lock();
        (0..COUNT).map(|_| self.any()).find(|port| !claims.contains_key(port)).unwrap_or(FIRST)
    }

    pub fn release(&self, port: u16, owner: &Weak<dyn Endpoint>) {
        let mut claims = self.claims.lock();
        if let Some(owners) = claims.get_mut(&port) {
            owners.retain(|claim| !core::ptr::addr_eq(claim.owner.as_ptr(), owner.as_ptr()));
            if owners.is_empty() {
                claims.remove(&port);
            }
        }
    }

    /// Who of those that `admits` is to have what is sent to an address; an exact claim goes first.
    pub fn find(&self, to: Address, admits: impl Fn(&dyn Endpoint) -> bool) -> Option<Arc<dyn Endpoint>> {
        let owners: Vec<(bool, Arc<dyn Endpoint>)> = self
            .claims
            .lock()
            .get(&to.port())?
            .iter()
            .filter(|claim| claim.covers(to.ip()))
            .filter_map(|claim| Some((claim.ip == to.ip(), claim.owner.upgrade()?)))
            .collect();
        let best = owners.iter().filter(|(_, owner)| admits(&**owner)).max_by_key(|(exact, _)| *exact);
        best.map(|(_, owner)| owner.clone())
    }
}
