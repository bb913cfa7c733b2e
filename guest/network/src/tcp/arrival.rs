//! Segments are handed to their connections; connections begin, wait to be accepted, and go.

use core::net::SocketAddr;

use super::connection::{Connection, Owner, Phase};
use super::handshake;
use super::segment::{ACK, Flow, RESET, SYN, Segment};
use super::traffic::{self, Progress};
use crate::event::Notice;
use crate::frame::Packet;
use crate::slab::Entry;
use crate::stack::Stack;

impl Stack {
    pub(crate) fn segment(&mut self, frame: &mut [u8], packet: &Packet, now_ns: u64) {
        let Some(segment) = Segment::read(&frame[packet.start..packet.end]) else { return };
        let local = SocketAddr::new(packet.destination, segment.destination_port);
        let flow = Flow { local, peer: SocketAddr::new(packet.source, segment.source_port) };
        let Some(index) = self.core.flows.get(&flow).copied() else {
            return self.stranger(flow, &segment, now_ns);
        };
        let owner = self.slab.connection(index).map(|connection| connection.owner);
        let room = match owner {
            Some(Owner::Listener(listener)) => {
                self.slab.listener(listener).is_some_and(|found| found.has_room())
            }
            _ => false,
        };
        let Some(connection) = self.slab.connection(index) else { return };
        let arrived = (frame, packet, &segment);
        match traffic::receive(&mut self.core, connection, index, arrived, room, now_ns) {
            Progress::None => {}
            Progress::Established => self.established(index),
            Progress::Again => {
                traffic::finish(&mut self.core, connection, index, None);
                self.reap(index);
                return self.stranger(flow, &segment, now_ns);
            }
        }
        self.reap(index);
    }

    /// A segment of no connection: it begins one, or is refused.
    fn stranger(&mut self, flow: Flow, segment: &Segment, now_ns: u64) {
        if segment.flags & (SYN | ACK | RESET) == SYN
            && let Some(listener) = self.listeners.get(&flow.local.port()).copied()
            && let Some(found) = self.slab.listener(listener)
        {
            if !found.has_room() {
                return;
            }
            let sequence = self.core.initial_sequence(flow, now_ns);
            let owner = Owner::Listener(listener);
            let connection = Connection::new(flow, Phase::Answering, owner, sequence, now_ns);
            let index = self.insert(flow, connection);
            if let Some(connection) = self.slab.connection(index) {
                handshake::answer(&mut self.core, connection, index, segment, now_ns);
            }
            let oldest = self.slab.listener(listener).and_then(|found| found.begin(index));
            if let Some(oldest) = oldest
                && let Some(connection) = self.slab.connection(oldest)
            {
                traffic::finish(&mut self.core, connection, oldest, None);
                self.reap(oldest);
            }
        } else if let Some(refusal) = segment.refusal(flow) {
            self.core.send(refusal, now_ns);
        }
    }

    pub(crate) fn insert(&mut self, flow: Flow, connection: Connection) -> u32 {
        let index = self.slab.insert(Entry::Connection(connection.into()));
        self.core.flows.insert(flow, index);
        index
    }

    /// A listener's connection stands.
    fn established(&mut self, index: u32) {
        let Some(Owner::Listener(listener)) = self.slab.connection(index).map(|found| found.owner) else {
            return;
        };
        if let Some(found) = self.slab.listener(listener) {
            found.forget(index);
            found.standing.push_back(index);
            if !found.announced {
                found.announced = true;
                self.core.notices.push_back(Notice::Socket(listener));
            }
        }
    }

    /// Removes a connection that is over and that nobody asks about any more.
    pub(crate) fn reap(&mut self, index: u32) {
        let Some(connection) = self.slab.connection(index) else { return };
        if !matches!(connection.phase, Phase::Closed) {
            return;
        }
        match connection.owner {
            Owner::Program => {}
            Owner::Nobody => drop(self.slab.remove(index)),
            Owner::Listener(listener) => {
                // One that stood may still be accepted, with what it has received.
                let found = self.slab.listener(listener);
                if found.as_ref().is_some_and(|found| found.standing.contains(&index)) {
                    return;
                }
                found.into_iter().for_each(|found| found.forget(index));
                self.slab.remove(index);
            }
        }
    }
}
