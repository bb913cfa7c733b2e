//! Making connections, on a worker thread. Whether they may be made was decided before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use abi::network::Protocol;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, socket_error};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect as connect_to, socket_with};

use super::network::address_of;
use super::{Answer, Object, Outcome};

/// As long as Linux itself tries by default.
const PATIENCE: Timespec = Timespec { tv_sec: 130, tv_nsec: 0 };

/// Connects a socket, and answers when the connection stands or failed.
pub fn connect(protocol: Protocol, destination: SocketAddr) -> Outcome {
    let peer = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    let socket = fresh(peer.ip(), protocol)?;
    match connect_to(&socket, &peer) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => wait(&socket)?,
        Err(error) => return Err(error),
    }
    let local = address_of(&socket)?;
    Ok(Answer::Socket { descriptor: socket, object: Object::Socket, local, peer: Some(peer) })
}

fn wait(socket: &OwnedFd) -> Result<(), Errno> {
    loop {
        match poll(&mut [PollFd::new(socket, PollFlags::OUT)], Some(&PATIENCE)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) => return socket_error(socket)?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn fresh(address: IpAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// A datagram socket at a port of the machine's choice, for both families where there are both.
pub fn fresh_datagram() -> Result<OwnedFd, Errno> {
    let both = || {
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let socket = fresh(any, Protocol::Udp)?;
        set_ipv6_v6only(&socket, false)?;
        bind(&socket, &SocketAddr::new(any, 0))?;
        Ok(socket)
    };
    both().or_else(|_: Errno| {
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let socket = fresh(any, Protocol::Udp)?;
        bind(&socket, &SocketAddr::new(any, 0))?;
        Ok(socket)
    })
}
