//! The socket device (virtio-vsock, as `abi::vm::vsock` has it): streams, datagrams and listeners, each a
//! connection to the descriptor of its number.
//!
//! Connections that have something to do stand in a list and are served in turn, one packet each. Invariants:
//! nothing is read from a descriptor that the guest has no buffer and no credit for; packets without data are
//! owed by a connection, never queued, so that a guest that gives no buffers costs nothing.

mod close;
mod connection;
mod listen;
mod packet;
mod receive;
mod send;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use abi::vm::vsock::{self, operation};
use rustc_hash::FxHashMap;
use rustix::event::epoll::EventFlags;

use crate::descriptor::Kind;
use crate::outside::Outside;
use crate::transport::{Broken, Chain, Description, Device, Ring};
use connection::{Connection, Stage};
use packet::Header;
use receive::Served;

const ID: u32 = 19;
/// Received, sent, events.
const QUEUES: &[u16] = &[1024, 1024, 16];
const RECEIVE: usize = 0;
const SEND: usize = 1;
/// Packets for nobody that are answered when there are buffers; the others are not.
const STRAYS: usize = 256;
const SCRATCH: usize = 65_536 + abi::network::DATAGRAM_HEADER;

/// The device.
pub struct Socket {
    connections: FxHashMap<u32, Connection>,
    /// Connections with something to do.
    list: VecDeque<u32>,
    /// Listeners for whose connections there were no descriptors, and how many had been closed then.
    short: BTreeSet<u32>,
    closed: u64,
    /// Offers without an answer, by listener.
    offered: FxHashMap<u32, u32>,
    /// Who is to be told that nobody is connected: to and from ports.
    strays: VecDeque<(u32, u32)>,
    /// The guest has given too few buffers.
    starved: bool,
    scratch: Vec<u8>,
}

impl Socket {
    pub fn new() -> Self {
        Self {
            connections: FxHashMap::default(),
            list: VecDeque::new(),
            short: BTreeSet::new(),
            closed: 0,
            offered: FxHashMap::default(),
            strays: VecDeque::new(),
            starved: false,
            scratch: vec![0; SCRATCH],
        }
    }

    /// A descriptor's readiness has changed.
    pub fn ready(&mut self, number: u32, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        connection.readable |= ending || flags.contains(EventFlags::IN);
        connection.writable |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
        connection.ending |= ending;
        self.enlist(number);
    }

    /// Whether all that the guest has sent is out, or at least what goes into pipes and terminals: who writes
    /// into those waits for the reader in any case.
    pub fn is_drained(&self, pipes_only: bool) -> bool {
        let counts = |connection: &&Connection| !pipes_only || connection.kind.is_stream();
        self.connections.values().filter(counts).all(|connection| connection.waiting.is_empty())
    }

    fn enlist(&mut self, number: u32) {
        if let Some(connection) = self.connections.get_mut(&number)
            && !std::mem::replace(&mut connection.listed, true)
        {
            self.list.push_back(number);
        }
    }

    /// A packet of the guest's.
    fn take(&mut self, chain: Chain, outside: &mut Outside) {
        let mut bytes = [0; vsock::HEADER];
        let mut data = chain.readable;
        if data.read(&mut bytes) < vsock::HEADER {
            return;
        }
        let header = Header::read(&bytes);
        data.skip(vsock::HEADER);
        if header.from != vsock::GUEST || header.to != vsock::HOST || header.length as usize > data.length() {
            return;
        }
        data.truncate(header.length as usize);
        let number = header.to_port;
        if header.kind != vsock::STREAM || header.from_port != number {
            return self.stray(&header);
        }
        match header.operation {
            operation::REQUEST => return self.connect(&header, outside),
            operation::RESET => return self.abort(number, outside),
            _ => {}
        }
        let Some(connection) = self.connections.get_mut(&number) else {
            let both = vsock::NO_RECEIVE | vsock::NO_SEND;
            match header.operation {
                // It closes what it never used.
                operation::SHUTDOWN if header.flags & both == both => self.drop(number, outside),
                operation::SHUTDOWN | operation::CREDIT_UPDATE => {}
                _ => self.stray(&header),
            }
            return;
        };
        (connection.guest_room, connection.guest_forwarded) = (header.room, header.forwarded);
        match (header.operation, connection.stage) {
            (operation::RESPONSE, Stage::Offered) => {
                connection.stage = Stage::Established;
                let listener = connection.listener;
                // What cannot be watched is always ready.
                let _ = outside.watch(&connection.file, number);
                self.answered(listener);
            }
            (operation::DATA, Stage::Established) => {
                send::take(connection, data, header.flags & vsock::MORE != 0);
            }
            (operation::SHUTDOWN, _) => shut(connection, header.flags),
            (operation::CREDIT_REQUEST, Stage::Established) => connection.owed.credit = true,
            _ => {}
        }
        self.enlist(number);
    }

    fn stray(&mut self, header: &Header) {
        if header.operation != operation::RESET && self.strays.len() < STRAYS {
            self.strays.push_back((header.from_port, header.to_port));
        }
    }

    fn connect(&mut self, header: &Header, outside: &mut Outside) {
        let number = header.to_port;
        let granted = match outside.table.get(number.into()) {
            Ok(granted) if granted.kind != Kind::File && !self.connections.contains_key(&number) => granted,
            _ => return self.stray(header),
        };
        let mut connection = Connection::new(number, granted);
        connection.owed.response = true;
        (connection.guest_room, connection.guest_forwarded) = (header.room, header.forwarded);
        // What cannot be watched is always ready.
        let _ = outside.watch(&connection.file, number);
        self.connections.insert(number, connection);
        self.enlist(number);
    }

    /// Serves one connection; whether the guest had a buffer for all of it.
    fn serve(&mut self, number: u32, ring: &mut Ring, outside: &mut Outside) -> Result<bool, Broken> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(true) };
        send::flush(connection);
        if connection.closing {
            // What is left of a packet that has not come as a whole never goes.
            let stuck = connection.kind.is_framed() && connection.writable;
            if connection.waiting.is_empty() || connection.write_over || stuck {
                self.drop(number, outside);
            }
            return Ok(true);
        }
        if !receive::pay(connection, ring)? {
            return Ok(false);
        }
        if connection.kind == Kind::Listener {
            self.accept(number, outside);
            return Ok(true);
        }
        let served = receive::step(connection, ring, &mut self.scratch)?;
        if core::mem::take(&mut connection.nothing) {
            outside.watch_anew(&connection.file, number);
        }
        if served == Served::NoBuffer || !receive::pay(connection, ring)? {
            return Ok(false);
        }
        if served == Served::More && connection.wants_to_read() {
            self.enlist(number);
        }
        Ok(true)
    }

    /// Serves those in the list once; whether there was anybody.
    fn serve_all(&mut self, ring: &mut Ring, outside: &mut Outside) -> Result<bool, Broken> {
        let mut any = false;
        self.starved = false;
        while let Some((to, from)) = self.strays.front().copied() {
            if !receive::stray(ring, to, from)? {
                self.starved = true;
                return Ok(any);
            }
            self.strays.pop_front();
            any = true;
        }
        for _ in 0..self.list.len() {
            let Some(number) = self.list.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.listed = false;
            }
            if !self.serve(number, ring, outside)? {
                self.starved = true;
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.listed = true;
                    self.list.push_front(number);
                }
                break;
            }
            any = true;
        }
        Ok(any)
    }
}

/// How long a peer may take nothing of what is left of a closed connection (tcp(7), TCP_USER_TIMEOUT).
const FAREWELL_MS: u32 = 120_000;

/// The guest has shut directions of a connection; with both at once it has closed it.
fn shut(connection: &mut Connection, flags: u32) {
    let (receive, send) = (flags & vsock::NO_RECEIVE != 0, flags & vsock::NO_SEND != 0);
    if receive && send {
        connection.closing = true;
        connection.owed = Default::default();
        if connection.kind == Kind::Socket && !connection.waiting.is_empty() {
            // A peer that takes nothing does not hold the descriptor for ever. Other streams than TCP's cannot.
            let _ = rustix::net::sockopt::set_tcp_user_timeout(&connection.file, FAREWELL_MS);
        }
    } else if receive && !connection.read_over {
        connection.read_over = true;
        if connection.kind.is_socket() {
            // It fails only for a connection that is over.
            let _ = rustix::net::shutdown(&connection.file, rustix::net::Shutdown::Read);
        }
    } else if send {
        connection.finishing = true;
    }
}

impl Device for Socket {
    fn description(&self) -> Description {
        Description {
            id: ID,
            features: 0,
            configuration: vsock::GUEST.to_le_bytes().to_vec(),
            queues: QUEUES,
        }
    }

    fn activate(&mut self, _features: u64, _generation: u64, outside: &mut Outside) {
        // A driver that begins again has forgotten its connections; what was granted it may connect to again.
        for connection in self.connections.values() {
            outside.ignore(&connection.file);
        }
        self.connections.clear();
        self.list.clear();
        self.short.clear();
        self.offered.clear();
        self.strays.clear();
    }

    fn process(&mut self, queue: usize, rings: &mut [Ring], outside: &mut Outside) -> Result<bool, Broken> {
        // What is received answers what was sent, so both are done at once, in this order.
        if queue != SEND {
            return Ok(false);
        }
        let mut any = false;
        while let Some(chain) = rings[SEND].pop()? {
            any = true;
            let head = chain.head;
            self.take(chain, outside);
            rings[SEND].used(head, 0)?;
        }
        Ok(self.serve_all(&mut rings[RECEIVE], outside)? | any)
    }

    fn listens(&self, queue: usize) -> bool {
        queue == SEND || queue == RECEIVE && self.starved
    }
}
