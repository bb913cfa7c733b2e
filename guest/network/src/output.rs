//! What leaves: which way a packet goes, what waits for a neighbour, what waits for the driver.
//!
//! Frames that the stack builds itself (handshakes, refusals, datagrams) queue here until the link has
//! room. Their number is bounded; what does not fit is lost, as on any wire. Bulk data does not come by.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::configuration::Subnet;
use crate::frame::{self, ETHERNET, Hardware};
use crate::link::{Link, Work};
use crate::neighbour::{self, Neighbours, Outcome};

/// Frames that wait for the link.
const QUEUE: usize = 1024;

/// Addresses and ways out, whoever has set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub addresses: Vec<Subnet>,
    pub gateways: Vec<IpAddr>,
    pub name_servers: Vec<IpAddr>,
    /// Bytes in the longest IP packet on the wire.
    pub mtu: usize,
}

pub struct Output {
    pub hardware: Hardware,
    pub network: Network,
    neighbours: Neighbours,
    queue: VecDeque<Vec<u8>>,
    /// Connections whose neighbour has answered, or has not.
    pub reached: Vec<u32>,
    pub unreached: Vec<u32>,
    /// Packets nobody could be found for.
    pub lost: Vec<Vec<u8>>,
}

/// A way to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    To(Hardware),
    /// The neighbour with this address has been asked for.
    Asking(IpAddr),
    None,
}

impl Output {
    pub fn new(hardware: Hardware, network: Network) -> Self {
        Self {
            hardware,
            network,
            neighbours: Neighbours::default(),
            queue: VecDeque::new(),
            reached: Vec::new(),
            unreached: Vec::new(),
            lost: Vec::new(),
        }
    }

    pub fn is_own(&self, address: IpAddr) -> bool {
        self.network.addresses.iter().any(|subnet| subnet.address == address)
    }

    /// Whether an address is everybody's on the wire.
    pub fn is_broadcast(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        let ends = |subnet: &Subnet| subnet.broadcast() == Some(address);
        address.is_broadcast() || self.network.addresses.iter().any(ends)
    }

    /// The address of ours that a destination is to see.
    pub fn source(&self, destination: IpAddr) -> Option<IpAddr> {
        let same = |subnet: &&Subnet| subnet.address.is_ipv4() == destination.is_ipv4();
        let addresses = || self.network.addresses.iter().filter(same);
        let link_local = |address: IpAddr| matches!(address, IpAddr::V6(six) if six.is_unicast_link_local());
        let near = addresses().find(|subnet| subnet.contains(destination));
        let far = || addresses().find(|subnet| !link_local(subnet.address));
        near.or_else(far).or_else(|| addresses().next()).map(|subnet| subnet.address)
    }

    /// The neighbour that takes what goes to a destination.
    fn next(&self, destination: IpAddr) -> Option<IpAddr> {
        if self.network.addresses.iter().any(|subnet| subnet.contains(destination)) {
            return Some(destination);
        }
        self.network.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == destination.is_ipv4())
    }

    /// Whether there is a way, as far as routes tell.
    pub fn is_reachable(&self, destination: IpAddr) -> bool {
        destination.is_multicast() || self.is_broadcast(destination) || self.next(destination).is_some()
    }

    pub fn way(&mut self, destination: IpAddr, now_ns: u64) -> Way {
        if self.is_broadcast(destination) {
            return Way::To(frame::BROADCAST);
        }
        match destination {
            IpAddr::V4(address) if address.is_multicast() => {
                let [_, second, third, fourth] = address.octets();
                return Way::To([1, 0, 0x5e, second & 0x7f, third, fourth]);
            }
            IpAddr::V6(address) if address.is_multicast() => {
                let octets = address.octets();
                return Way::To([0x33, 0x33, octets[12], octets[13], octets[14], octets[15]]);
            }
            _ => {}
        }
        let Some(next) = self.next(destination) else { return Way::None };
        self.neighbours.find(next, now_ns).map_or(Way::Asking(next), Way::To)
    }

    /// A connection that is to be woken when the neighbour has answered.
    pub fn wait(&mut self, next: IpAddr, connection: u32) {
        if !self.neighbours.await_answer(next, connection) {
            self.unreached.push(connection);
        }
    }

    /// Whether neighbours were found, or not, since connections and packets that wait for them were looked at.
    pub fn has_outcomes(&self) -> bool {
        !(self.reached.is_empty() && self.unreached.is_empty() && self.lost.is_empty())
    }

    /// Whether no frame waits for the link.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether one more frame can be queued.
    pub fn has_room(&self) -> bool {
        self.queue.len() < QUEUE
    }

    /// Queues a complete frame.
    pub fn frame(&mut self, frame: Vec<u8>) {
        if self.has_room() {
            self.queue.push_back(frame);
        }
    }

    /// Sends a packet that has room for an Ethernet header in front.
    pub fn packet(&mut self, mut packet: Vec<u8>, destination: IpAddr, now_ns: u64) {
        match self.way(destination, now_ns) {
            Way::To(hardware) => {
                let kind = if destination.is_ipv4() { frame::IPV4 } else { frame::IPV6 };
                frame::write_ethernet(&mut packet[..ETHERNET], hardware, self.hardware, kind);
                self.frame(packet);
            }
            Way::Asking(next) => {
                self.neighbours.hold(next, packet);
            }
            Way::None => {}
        }
    }

    /// Takes note of who has an address.
    pub fn learn(&mut self, address: IpAddr, hardware: Hardware, now_ns: u64) {
        if let Some(outcome) = self.neighbours.learn(address, hardware, now_ns) {
            self.settle(outcome);
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        let (Some(address), Some(hardware)) = (outcome.address, outcome.hardware) else {
            self.unreached.extend(outcome.connections);
            self.lost.extend(outcome.packets);
            return;
        };
        self.reached.extend(outcome.connections);
        let kind = if address.is_ipv4() { frame::IPV4 } else { frame::IPV6 };
        for mut packet in outcome.packets {
            frame::write_ethernet(&mut packet[..ETHERNET], hardware, self.hardware, kind);
            self.frame(packet);
        }
    }

    /// Asks for neighbours whose time it is.
    pub fn expire(&mut self, now_ns: u64) {
        let (asks, failures) = self.neighbours.expire(now_ns);
        for address in asks {
            let own = self.source(address);
            if let Some(question) = own.and_then(|own| neighbour::question(self.hardware, own, address)) {
                self.frame(question);
            }
        }
        failures.into_iter().for_each(|failure| self.settle(failure));
    }

    pub fn next_ns(&self) -> Option<u64> {
        self.neighbours.next_ns()
    }

    /// Hands queued frames to the link; `false` if some are left.
    pub fn drain(&mut self, link: &mut impl Link) -> bool {
        while !self.queue.is_empty() {
            if !link.has_room() {
                return false;
            }
            let Some(frame) = self.queue.pop_front() else { break };
            link.transmit(frame.len(), &mut |buffer| {
                buffer.copy_from_slice(&frame);
                Work::default()
            });
        }
        true
    }
}
