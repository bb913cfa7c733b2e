//! Sockets: published ports and granted destinations.
use std::os::fd::OwnedFd;

use abi::boot::Published;
use abi::network::Protocol;
use abi::request::Request;
use rustix::io::Errno;

use super::{Served, Server};

/// A published port, bound on the machine.
#[derive(Debug)]
pub struct Port {
    pub protocol: Protocol,
    /// The port inside.
    pub port: u16,
    pub socket: OwnedFd,
}

impl Port {
    /// What the guest is told of it.
    pub fn published(&self) -> Published {
        Published { protocol: self.protocol, port: self.port }
    }
}

impl Server {
    pub(super) fn network(&mut self, _request: Request) -> Served {
        Served::Now(Err(Errno::ACCESS))
    }
    pub(super) fn stop_listening(&mut self, _port: usize) {}
}
