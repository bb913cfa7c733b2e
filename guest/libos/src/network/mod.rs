//! Sockets: what programs see of the network, and of each other.
//!
//! A [`Socket`] is a file over an [`Endpoint`]; endpoints are local (AF_UNIX), streams and datagrams of
//! the internet families. Whatever stays on the island is done here, between two endpoints; what leaves
//! it goes through granted handles, one per connection, that the monitor gives on request.
//! Operations are tried and answer `None` when they would block; whoever may block waits at the
//! endpoint's queue. Lock order: an endpoint's state, then a port table, then mailboxes and flows; queues
//! are told when nothing is locked.

pub mod address;
mod connection;
pub mod control;
mod datagram;
mod errand;
mod host;
mod in_flight;
mod inet;
mod interface;
mod listener;
mod local;
mod local_datagram;
mod mailbox;
pub mod message;
mod netlink;
pub mod option;
mod port;
mod rendezvous;
pub mod resolver;
mod socket;

use alloc::vec::Vec;

use abi::boot::{Boot, EVERY_PORT, Published};
use abi::network::Protocol;

use address::Address;
use port::Ports;

pub(crate) use host::HostSocket;
pub(crate) use listener::HostListener;
pub use socket::{Endpoint, Progress, Socket, create, pair};

/// What all sockets of an island share.
pub struct Network {
    published: Vec<Published>,
    /// Whether anything outside may be connected to.
    outgoing: bool,
    streams: Ports,
    datagrams: Ports,
    listeners: listener::Shared,
    names: rendezvous::Names,
    pub(crate) in_flight: in_flight::InFlight,
}

impl Network {
    pub fn new(boot: &Boot) -> Self {
        Self {
            published: boot.published.clone(),
            outgoing: boot.outgoing,
            streams: Ports::new(),
            datagrams: Ports::new(),
            listeners: listener::Shared::default(),
            names: rendezvous::Names::default(),
            in_flight: in_flight::InFlight::default(),
        }
    }

    fn is_published(&self, protocol: Protocol, port: u16) -> bool {
        let every = Published { protocol, port: EVERY_PORT };
        self.published
            .iter()
            .any(|published| *published == every || *published == Published { protocol, port })
    }

    /// Whether an address of the island's that nobody has here may be meant as the machine's own: its
    /// loopback interface can be granted like any other destination.
    fn may_be_outside(&self, to: Address) -> bool {
        self.outgoing && to.ip().is_loopback() && to != resolver::ADDRESS
    }

    /// Whether sockets can have to do with the outside at all.
    fn reaches_outside(&self) -> bool {
        self.outgoing || !self.published.is_empty()
    }
}
