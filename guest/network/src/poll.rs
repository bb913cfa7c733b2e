//! What time and the link's room bring about: deadlines, neighbours that answer or do not, questions to be
//! put again, and everything that is to be sent.

use alloc::vec::Vec;
use core::net::SocketAddr;

use machine::Readiness;

use crate::event::code;
use crate::frame::{self, ETHERNET};
use crate::link::Link;
use crate::shared::Core;
use crate::stack::Stack;
use crate::tcp::connection::Connection;
use crate::tcp::{outgoing, rest, traffic};
use crate::{datagram, icmp};

impl Stack {
    /// Does what is due and sends what there is to send, as far as the link has room. Returns when to call
    /// again, if nothing comes before.
    pub fn poll(&mut self, now_ns: u64, link: &mut impl Link) -> Option<u64> {
        if self.control.next_ns().is_some_and(|next_ns| next_ns <= now_ns) {
            self.control.poll(now_ns);
            self.renumber(now_ns);
        }
        while let Some(frame) = self.control.sent.pop_front() {
            self.core.output.frame(frame);
        }
        self.look_for_neighbours(now_ns);
        while let Some((entry_ns, index)) = self.core.deadlines.due(now_ns) {
            let Some(connection) = self.slab.connection(index) else { continue };
            if self.core.deadlines.confirm(&mut connection.deadline, entry_ns, now_ns, index) {
                rest::due(&mut self.core, connection, index, now_ns);
                self.reap(index);
            }
        }
        self.ask(now_ns);
        let mut room = self.core.output.drain(link);
        let mut left = self.core.dirty.len();
        while room && left > 0 {
            let Some(index) = self.core.dirty.pop_front() else { break };
            left -= 1;
            let Some(connection) = self.slab.connection(index) else { continue };
            connection.dirty = false;
            room = outgoing::flush(&mut self.core, connection, index, link, now_ns);
            if !room {
                self.core.touch(connection, index);
            }
            self.reap(index);
        }
        // What came up on the way.
        self.look_for_neighbours(now_ns);
        let room = room && self.core.output.drain(link);
        self.relieve();
        self.next_ns(now_ns, room)
    }

    fn next_ns(&self, now_ns: u64, room: bool) -> Option<u64> {
        let questions_ns = self.questions.values().map(|question| question.at_ns).min();
        let pending = room && !self.core.dirty.is_empty();
        let times = [
            self.control.next_ns(),
            self.core.output.next_ns(),
            self.core.deadlines.next_ns(),
            questions_ns,
            pending.then_some(now_ns),
        ];
        times.into_iter().flatten().min()
    }

    fn look_for_neighbours(&mut self, now_ns: u64) {
        self.core.output.expire(now_ns);
        if self.core.output.has_outcomes() {
            self.unstick(now_ns);
        }
    }

    /// Whether [`Stack::poll`] may have anything to do, time aside.
    pub fn is_busy(&self) -> bool {
        !self.core.dirty.is_empty() || !self.core.output.is_empty() || !self.core.notices.is_empty()
    }

    /// Connections whose neighbour has answered go on; those that have none end, if they just begin.
    fn unstick(&mut self, now_ns: u64) {
        for index in core::mem::take(&mut self.core.output.reached) {
            if let Some(connection) = self.slab.connection(index) {
                connection.stuck = false;
                self.core.touch(connection, index);
            }
        }
        for index in core::mem::take(&mut self.core.output.unreached) {
            if let Some(connection) = self.slab.connection(index) {
                connection.stuck = false;
                self.core.deadlines.set(&mut connection.deadline, now_ns + 1_000_000_000, index);
            }
        }
        for packet in core::mem::take(&mut self.core.output.lost) {
            let version_6 = packet[ETHERNET] >> 4 == 6;
            let header = frame::header_length(version_6);
            let protocol = packet[ETHERNET + if version_6 { 6 } else { 9 }];
            let Some(start) = packet.get(ETHERNET + header..ETHERNET + header + 8) else { continue };
            let (local, peer) = frame::addresses(&packet[ETHERNET..], version_6);
            self.report(icmp::Report {
                protocol,
                local: SocketAddr::new(local, frame::word(start, 0)),
                peer: SocketAddr::new(peer, frame::word(start, 2)),
                sequence: frame::double(start, 4),
                trouble: icmp::Trouble::Unreachable(code::UNREACHABLE_HOST),
            });
        }
    }

    /// Asks name servers whose turn it is.
    fn ask(&mut self, now_ns: u64) {
        if !self.questions.values().any(|question| question.at_ns <= now_ns) {
            return;
        }
        let servers = self.core.output.network.name_servers.clone();
        let due: Vec<u64> = self
            .questions
            .iter()
            .filter(|(_, found)| found.at_ns <= now_ns)
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            let Some(question) = self.questions.get_mut(&number) else { continue };
            let (query, port) = (question.query, question.port);
            match question.next(&servers, now_ns) {
                Some((server, message)) => {
                    if let Some(source) = self.core.output.source(server.ip()) {
                        let from = SocketAddr::new(source, port);
                        for packet in
                            datagram::packets(from, server, message, self.core.output.network.mtu, 0)
                        {
                            self.core.output.packet(packet, server.ip(), now_ns);
                        }
                    }
                }
                None => {
                    self.questions.remove(&number);
                    self.ports.remove(&port);
                    self.core.answer(query, Err(code::TIMED_OUT));
                }
            }
        }
    }

    /// Adopts addresses that have changed. Connections of those that are gone are gone too.
    fn renumber(&mut self, _now_ns: u64) {
        let network = self.control.network();
        if network == self.core.output.network {
            return;
        }
        self.core.output.network = network;
        let gone = |connection: &Connection, core: &Core| !core.output.is_own(connection.flow.local.ip());
        let lost: Vec<u32> = {
            let core = &self.core;
            let connections = self.slab.connections();
            connections.filter(|(_, connection)| gone(connection, core)).map(|(index, _)| index).collect()
        };
        for index in lost {
            if let Some(connection) = self.slab.connection(index) {
                traffic::finish(&mut self.core, connection, index, Some(code::NOT_AVAILABLE));
                self.reap(index);
            }
        }
    }

    /// Tells sockets that found no room that there is some.
    fn relieve(&mut self) {
        if self.crowded.is_empty() || !self.core.output.has_room() {
            return;
        }
        for index in core::mem::take(&mut self.crowded) {
            if let Some(socket) = self.slab.datagram(index)
                && core::mem::take(&mut socket.crowded)
            {
                socket.news |= Readiness::WRITE;
                self.announce(index);
            }
        }
    }
}
