//! Ports and destinations: `[HOSTADDR:]HOSTPORT:PORT[/udp]` and `HOST:PORT`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use abi::network::Protocol;
use api::spec::{Allowance, Publication};

use crate::perform::protocol;

/// Reads a published port.
pub fn publication(text: &str) -> Result<Publication, String> {
    let form = |why: String| {
        format!(
            "`{text}` is no published port: {why}; write [HOSTADDR:]HOSTPORT:PORT, with /udp for datagrams"
        )
    };
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, word)) => {
            (rest, protocol(word).ok_or_else(|| form(format!("`{word}` is neither tcp nor udp")))?)
        }
        None => (text, Protocol::Tcp),
    };
    let (rest, inside) = rest.rsplit_once(':').ok_or_else(|| form("a port is missing".into()))?;
    let (address, outside) = match rest.rsplit_once(':') {
        Some((address, outside)) => (Some(address), outside),
        None => (None, rest),
    };
    let address = address
        .filter(|address| !address.is_empty())
        .map(|address| host_address(address).ok_or_else(|| form(format!("`{address}` is no address"))))
        .transpose()?;
    Ok(Publication {
        address,
        host_port: port(outside).map_err(form)?,
        port: port(inside).map_err(form)?,
        protocol,
    })
}

/// Reads a granted destination: `any`, an address or a name with a port.
pub fn allowance(text: &str) -> Result<Allowance, String> {
    if text == "any" {
        return Ok(Allowance::Any);
    }
    let form =
        |why: String| format!("`{text}` is no destination: {why}; write HOST:PORT, [IPV6]:PORT or any");
    let (host, number) = text.rsplit_once(':').ok_or_else(|| form("the port is missing".into()))?;
    let port = port(number).map_err(form)?;
    if let Some(address) = host_address(host) {
        return Ok(Allowance::Address(address, port));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(form(format!("`{host}` is neither a name nor an address")));
    }
    Ok(Allowance::Name(name.to_ascii_lowercase(), port))
}

/// Reads where a debugger is waited for: a port of the loopback interface, or `ADDRESS:PORT`.
pub fn debugger(text: &str) -> Result<SocketAddr, String> {
    let form = |why: String| {
        format!("`{text}` is no place to wait for gdb: {why}; write PORT, ADDRESS:PORT or [IPV6]:PORT")
    };
    let (address, number) = match text.rsplit_once(':') {
        Some((address, number)) => {
            (host_address(address).ok_or_else(|| form(format!("`{address}` is no address")))?, number)
        }
        None => (IpAddr::V4(Ipv4Addr::LOCALHOST), text),
    };
    Ok(SocketAddr::new(address, port(number).map_err(form)?))
}

fn host_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().filter(IpAddr::is_ipv4),
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("`{text}` is no port from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_may_have_an_address_and_a_protocol() {
        let plain = publication("8080:80").unwrap();
        assert_eq!(
            (plain.address, plain.host_port, plain.port, plain.protocol),
            (None, 8080, 80, Protocol::Tcp)
        );
        let full = publication("127.0.0.1:5300:53/udp").unwrap();
        assert_eq!(full.address, Some("127.0.0.1".parse().unwrap()));
        assert_eq!(full.protocol, Protocol::Udp);
        assert_eq!(publication("[::1]:80:80").unwrap().address, Some("::1".parse().unwrap()));
        for bad in ["", "80", "0:80", "80:0", "80:65536", "a:b", "1.2.3:80:80", "80:80/sctp", "::1:80:80"] {
            assert!(publication(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debuggers_are_waited_for_on_the_loopback_interface() {
        assert_eq!(debugger("1234"), Ok("127.0.0.1:1234".parse().unwrap()));
        assert_eq!(debugger("10.0.0.1:1"), Ok("10.0.0.1:1".parse().unwrap()));
        assert_eq!(debugger("[::1]:65535"), Ok("[::1]:65535".parse().unwrap()));
        for bad in ["", "0", "65536", ":1", "x:1", "localhost:1", "::1:1", "1234:", "1.2.3:4", "-1", "1 2"] {
            assert!(debugger(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn destinations_are_names_or_addresses() {
        assert_eq!(allowance("any"), Ok(Allowance::Any));
        assert_eq!(allowance("Example.com:443"), Ok(Allowance::Name("example.com".into(), 443)));
        assert_eq!(allowance("10.0.0.1:5"), Ok(Allowance::Address("10.0.0.1".parse().unwrap(), 5)));
        assert_eq!(allowance("[::1]:5"), Ok(Allowance::Address("::1".parse().unwrap(), 5)));
        for bad in ["", "host", "host:", "host:0", "a b:1", ":1", "a..b:1", "::1:5x"] {
            assert!(allowance(bad).is_err(), "{bad}");
        }
    }
}
