//! Binding published ports. They listen only once the program does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use abi::boot::DEBUGGER_PORT;
use abi::network::Protocol;
use api::spec::Publication;
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::PlanError;
use crate::serve::Port;

/// Binds all ports. One that is named twice can be bound twice, but not listened to.
pub(crate) fn bind_all(publications: &[Publication]) -> Result<Vec<Port>, PlanError> {
    let place = |it: &Publication| (it.protocol, host_address(it), it.host_port);
    for (index, publication) in publications.iter().enumerate() {
        if publications[..index].iter().any(|other| place(other) == place(publication)) {
            let (address, port) = (host_address(publication), publication.host_port);
            return Err(PlanError::PublishedTwice { address, port });
        }
    }
    publications.iter().map(bind).collect()
}

/// Where a debugger connects is bound like a published port; the port that it leads to no program can have.
pub fn of_debugger(place: SocketAddr) -> Publication {
    let (address, host_port) = (Some(place.ip()), place.port());
    Publication { address, host_port, port: DEBUGGER_PORT, protocol: Protocol::Tcp }
}

/// Without an address a port is bound on all IPv4 addresses.
fn host_address(publication: &Publication) -> IpAddr {
    publication.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn bind(publication: &Publication) -> Result<Port, PlanError> {
    let address = host_address(publication);
    let port = publication.host_port;
    let socket =
        bound(SocketAddr::new(address, port), publication.protocol).map_err(|error| match error {
            Errno::ADDRINUSE => PlanError::PortInUse { address, port },
            Errno::ACCESS | Errno::PERM => PlanError::PortPrivileged { port },
            Errno::ADDRNOTAVAIL => PlanError::NoSuchAddress { address },
            error => PlanError::Port { port, error },
        })?;
    Ok(Port { protocol: publication.protocol, port: publication.port, socket })
}

fn bound(address: SocketAddr, protocol: Protocol) -> Result<std::os::fd::OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if protocol == Protocol::Tcp {
        // A port in TIME_WAIT after the last run is free to use.
        set_socket_reuseaddr(&socket, true)?;
    }
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}
