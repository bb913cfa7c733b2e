//! Sockets: published ports and granted destinations.
//!
//! A published port was bound before the guest existed, and listens only while the guest does: who asks
//! whether the service is up gets the truth. Connections are made here, and only to what was granted; the
//! guest gets the connected socket, with which it can reach nobody else.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{PoisonError, RwLockReadGuard};

use abi::boot::{DEBUGGER_PORT, Published};
use abi::network::Protocol;
use abi::request::{Reply, Request};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{Shutdown, getsockname, listen, shutdown};

use super::datagram::Datagrams;
use super::{Answer, Object, Outcome, Served, Server, connect};
use crate::grant::Destinations;

/// A published port, bound on the machine.
#[derive(Debug)]
pub struct Port {
    pub protocol: Protocol,
    /// The port inside.
    pub port: u16,
    pub socket: OwnedFd,
}

impl Port {
    /// What the guest's program is told of it; nothing of the debugger's.
    pub fn published(&self) -> Option<Published> {
        (self.port != DEBUGGER_PORT).then_some(Published { protocol: self.protocol, port: self.port })
    }

    /// The address as the island sees it: the machine's, with the port inside.
    fn local(&self) -> Result<SocketAddr, Errno> {
        let outside = address_of(&self.socket)?;
        Ok(SocketAddr::new(outside.ip(), self.port))
    }
}

impl Server {
    pub(super) fn network(&mut self, request: Request) -> Served {
        match request {
            Request::Listen { port, backlog } => Served::Now(self.listen(port, backlog)),
            Request::Datagram { port } => Served::Now(self.datagram(port)),
            Request::SendDatagram { handle, destination, data } => {
                Served::Now(match self.objects.get(handle) {
                    Ok(Object::Datagrams(socket)) => {
                        socket.send(destination, data).map(|sent| Answer::Reply(Reply::Number(sent as u64)))
                    }
                    Ok(_) => Err(Errno::NOTSOCK),
                    Err(error) => Err(error),
                })
            }
            Request::Connect { protocol, destination } if self.granted().allows(destination) => {
                Served::Network(Box::new(move || connect::connect(protocol, destination)))
            }
            Request::Connect { .. } => Served::Now(Err(Errno::NETUNREACH)),
            _ => Served::Now(Err(Errno::NOSYS)),
        }
    }

    fn find(&self, protocol: Protocol, port: u16) -> Option<(usize, &Port)> {
        self.ports.iter().enumerate().find(|(_, each)| each.protocol == protocol && each.port == port)
    }

    fn listen(&mut self, port: u16, backlog: u32) -> Outcome {
        let (number, port) = self.find(Protocol::Tcp, port).ok_or(Errno::ADDRNOTAVAIL)?;
        listen(&port.socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(Answer::Socket {
            descriptor: fcntl_dupfd_cloexec(&port.socket, 0)?,
            object: Object::Listener { port: number },
            local: port.local()?,
            peer: None,
        })
    }

    /// The guest has closed a listener: with the last one the port refuses connections again. It stays
    /// bound.
    pub(super) fn stop_listening(&self, number: usize) {
        let another = |object: &Object| matches!(object, Object::Listener { port } if *port == number);
        if let Some(port) = self.ports.get(number)
            && !self.objects.iter().any(another)
        {
            // Not listening is all that could be wrong, and is what is wanted.
            let _ = shutdown(&port.socket, Shutdown::Both);
        }
    }

    fn datagram(&mut self, port: u16) -> Outcome {
        let open = self.objects.iter().filter(|object| matches!(object, Object::Datagrams(_))).count();
        if open >= super::datagram::MOST {
            return Err(Errno::MFILE);
        }
        let (socket, local) = if port != 0 {
            let (_, port) = self.find(Protocol::Udp, port).ok_or(Errno::ADDRNOTAVAIL)?;
            (fcntl_dupfd_cloexec(&port.socket, 0)?, Some(port.local()?))
        } else if self.granted().outgoing() {
            (connect::fresh_datagram()?, None)
        } else {
            return Err(Errno::NETUNREACH);
        };
        let local = local.map_or_else(|| address_of(&socket), Ok)?;
        let (datagrams, descriptor) = Datagrams::start(socket, self.destinations.clone())?;
        Ok(Answer::Socket { descriptor, object: Object::Datagrams(datagrams), local, peer: None })
    }

    pub(super) fn granted(&self) -> RwLockReadGuard<'_, Destinations> {
        self.destinations.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants the addresses of a granted name that the guest is about to be told.
    pub fn hand_out(&self, name: &str, addresses: &[IpAddr]) {
        self.destinations.write().unwrap_or_else(PoisonError::into_inner).hand_out(name, addresses);
    }
}

/// A socket's own address.
pub(super) fn address_of(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    SocketAddr::try_from(getsockname(socket)?).map_err(|_| Errno::AFNOSUPPORT)
}
