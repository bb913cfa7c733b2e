//! Where the island may connect to.
//!
//! A destination is granted by address, or by name: then every address that was handed out for that name
//! is granted on that port, for as long as the island lives. Nothing is granted implicitly: `any` is
//! everything but the machine's own loopback interface, whose services trust whoever reaches them. That is
//! granted by its address, or as localhost, which needs no look-up (RFC 6761, 6.3).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use api::spec::Allowance;

/// How many addresses of names are remembered at most.
const ADDRESSES_MOST: usize = 65_536;

/// The granted destinations.
#[derive(Debug, Default)]
pub struct Destinations {
    any: bool,
    addresses: HashSet<SocketAddr>,
    names: Vec<(String, u16)>,
    /// Addresses of granted names, as handed out.
    handed_out: HashSet<SocketAddr>,
}

impl Destinations {
    pub fn new(allowed: Vec<Allowance>) -> Self {
        let mut destinations = Self::default();
        for allowance in allowed {
            match allowance {
                Allowance::Any => destinations.any = true,
                Allowance::Address(address, port) => {
                    destinations.addresses.insert(SocketAddr::new(address, port));
                }
                Allowance::Name(name, port) => {
                    if is_localhost(&name) {
                        let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                        destinations.addresses.extend(both.map(|address| SocketAddr::new(address, port)));
                    }
                    destinations.names.push((name.to_ascii_lowercase(), port));
                }
            }
        }
        destinations
    }

    /// Whether anything at all is granted.
    pub fn outgoing(&self) -> bool {
        self.any || !self.addresses.is_empty() || !self.names.is_empty()
    }

    /// Whether the island may connect or send to this address.
    pub fn allows(&self, destination: SocketAddr) -> bool {
        let plain = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        let elsewhere = !plain.ip().is_loopback() && !plain.ip().is_unspecified();
        self.any && elsewhere || self.addresses.contains(&plain) || self.handed_out.contains(&plain)
    }

    /// Whether the island may ask for this name.
    pub fn allows_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.any || self.names.iter().any(|(granted, _)| granted.eq_ignore_ascii_case(name))
    }

    /// Remembers the addresses of a granted name that the island is about to be told.
    pub fn hand_out(&mut self, name: &str, addresses: &[IpAddr]) {
        let name = name.strip_suffix('.').unwrap_or(name);
        for (granted, port) in &self.names {
            if granted.eq_ignore_ascii_case(name) && self.handed_out.len() < ADDRESSES_MOST {
                self.handed_out
                    .extend(addresses.iter().map(|address| SocketAddr::new(address.to_canonical(), *port)));
            }
        }
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_is_granted_by_default() {
        let none = Destinations::new(Vec::new());
        assert!(!none.outgoing());
        assert!(!none.allows(at("127.0.0.1:80")));
        assert!(!none.allows_name("localhost"));
    }

    #[test]
    fn an_address_is_granted_on_its_port_only() {
        let one = Destinations::new(vec![Allowance::Address("10.0.0.1".parse().unwrap(), 5432)]);
        assert!(one.allows(at("10.0.0.1:5432")));
        assert!(one.allows(at("[::ffff:10.0.0.1]:5432")));
        assert!(!one.allows(at("10.0.0.1:22")));
        assert!(!one.allows(at("10.0.0.2:5432")));
    }

    #[test]
    fn loopback_is_granted_only_by_its_name() {
        let any = Destinations::new(vec![Allowance::Any]);
        assert!(any.allows(at("192.0.2.1:80")) && any.allows_name("example.com"));
        for own in
            ["127.0.0.1:80", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:80", "[::]:80"]
        {
            assert!(!any.allows(at(own)), "{own}");
        }
        let local = Destinations::new(vec![Allowance::Any, Allowance::Name("localhost".into(), 80)]);
        assert!(local.allows(at("127.0.0.1:80")) && local.allows(at("[::1]:80")));
        assert!(!local.allows(at("127.0.0.1:81")));
    }

    #[test]
    fn a_name_grants_what_was_handed_out_for_it() {
        let mut named = Destinations::new(vec![Allowance::Name("example.com".into(), 443)]);
        assert!(named.allows_name("Example.COM."));
        assert!(!named.allows_name("other.example.com"));
        assert!(!named.allows(at("192.0.2.1:443")));
        named.hand_out("example.com", &["192.0.2.1".parse().unwrap()]);
        assert!(named.allows(at("192.0.2.1:443")));
        assert!(!named.allows(at("192.0.2.1:80")));
    }
}
