//! The stack: what comes in is handed to whom it is for, what is due is done.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use abi::Code;
use machine::Readiness;

use crate::configuration::{Configuration, Subnet};
use crate::control::Control;
use crate::event::{Event, Notice, code};
use crate::fragment::Assembly;
use crate::frame::{self, Content, ETHERNET, ICMP, ICMP_6, Packet, TCP, UDP};
use crate::link::Link;
use crate::output::Output;
use crate::question::Question;
use crate::shared::Core;
use crate::slab::{Entry, Slab};
use crate::tcp::connection::{Connection, Owner, Phase};
use crate::tcp::engine::Engine;
use crate::tcp::segment::{ACK, Flow, RESET, SYN, Segment};
use crate::tcp::traffic::Progress;
use crate::tcp::{handshake, rest, traffic};
use crate::{datagram, icmp, neighbour};

/// Reports of missing ports that are sent per second.
const REPORTS: u32 = 50;

/// Who receives on a port of UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Socket(u32),
    Question(u64),
}

/// A TCP/IP stack. See the crate's documentation.
pub struct Stack {
    pub(crate) core: Core,
    pub(crate) control: Control,
    pub(crate) slab: Slab,
    pub(crate) listeners: BTreeMap<u16, u32>,
    pub(crate) ports: BTreeMap<u16, Port>,
    pub(crate) questions: BTreeMap<u64, Question>,
    pub(crate) asked: u64,
    pub(crate) crowded: Vec<u32>,
    assembly: Assembly,
    /// The second in which reports are counted, and how many there were.
    reports: (u64, u32),
}

impl Stack {
    /// A stack with these addresses. The seed is secret and differs from boot to boot: what peers must not
    /// guess comes from it. `Err` if there can be no such network.
    pub fn new(configuration: &Configuration, seed: [u8; 32], now_ns: u64) -> Result<Self, Code> {
        if !configuration.is_sound() {
            return Err(code::INVALID);
        }
        let number = u64::from_le_bytes(core::array::from_fn(|byte| seed[byte] ^ seed[byte + 16]));
        let control = Control::new(configuration, number, now_ns);
        let output = Output::new(configuration.hardware, control.network());
        let engine = Engine::new(configuration.offloads, !number, now_ns);
        Ok(Self {
            core: Core::new(engine, output, configuration.memory, &seed),
            control,
            slab: Slab::default(),
            listeners: BTreeMap::new(),
            ports: BTreeMap::new(),
            questions: BTreeMap::new(),
            asked: 0,
            crowded: Vec::new(),
            assembly: Assembly::default(),
            reports: (0, 0),
        })
    }

    /// Our addresses.
    pub fn addresses(&self) -> &[Subnet] {
        &self.core.output.network.addresses
    }

    pub fn gateways(&self) -> &[IpAddr] {
        &self.core.output.network.gateways
    }

    pub fn name_servers(&self) -> &[IpAddr] {
        &self.core.output.network.name_servers
    }

    /// Takes a frame from the driver, in one piece, which is lent for the time of the call and may be
    /// written to. `verified` says that the checksum of TCP or UDP is known to be right, or was never there
    /// (VIRTIO_NET_HDR_F_DATA_VALID, NEEDS_CSUM). What it brings about is told by [`Stack::next_event`], what
    /// it makes necessary is sent by the next [`Stack::poll`].
    pub fn deliver(&mut self, frame: &mut [u8], verified: bool, now_ns: u64) {
        let hardware = self.core.output.hardware;
        let Some(content) = frame::read(frame) else { return };
        if frame[0] & 1 == 0 && frame[..6] != hardware {
            return;
        }
        match content {
            Content::Arp => {
                if let Some((address, hardware)) = neighbour::sender(frame) {
                    self.core.output.learn(address, hardware, now_ns);
                }
                self.control.receive(frame, now_ns);
            }
            Content::Packet(packet) if packet.fragment.is_some() => {
                if self.core.output.is_own(packet.destination)
                    && let Some(mut whole) = self.assembly.add(frame, &packet, now_ns)
                    && let Some(Content::Packet(packet)) = frame::read(&whole)
                {
                    self.packet(&mut whole, &packet, false, now_ns);
                }
            }
            Content::Packet(packet) => self.packet(frame, &packet, verified, now_ns),
        }
    }

    fn packet(&mut self, frame: &mut [u8], packet: &Packet, verified: bool, now_ns: u64) {
        let (source, destination) = (packet.source, packet.destination);
        let own = self.core.output.is_own(destination);
        let transport = &frame[packet.start..packet.end];
        let lease = packet.protocol == UDP && transport.len() >= 4 && transport[..4] == [0, 67, 0, 68];
        if lease && source.is_ipv4() {
            return self.control.receive(frame, now_ns);
        }
        if source.is_unspecified() || source.is_multicast() || self.core.output.is_broadcast(source) {
            return;
        }
        match packet.protocol {
            TCP if own && !self.core.output.is_own(source) => {
                if verified || frame::is_sound(source, destination, TCP, transport) {
                    self.segment(frame, packet, now_ns);
                }
            }
            UDP if own => {
                let unchecked = source.is_ipv4() && transport.len() >= 8 && transport[6..8] == [0, 0];
                if verified || unchecked || frame::is_sound(source, destination, UDP, transport) {
                    self.datagram(frame, packet, now_ns);
                }
            }
            ICMP if own => {
                if let Some(report) = icmp::read(ICMP, transport) {
                    self.report(report);
                } else if transport.first() == Some(&8) {
                    self.control.receive(frame, now_ns);
                }
            }
            ICMP_6 if frame::is_sound(source, destination, ICMP_6, transport) => {
                if packet.hops == 255
                    && let Some((address, hardware)) = neighbour::subject(source, transport)
                {
                    self.core.output.learn(address, hardware, now_ns);
                }
                match icmp::read(ICMP_6, transport) {
                    Some(report) if own => self.report(report),
                    _ => self.control.receive(frame, now_ns),
                }
            }
            // Membership of groups: IGMP, and what comes behind a hop-by-hop header.
            2 | 0 => self.control.receive(frame, now_ns),
            _ => {}
        }
    }

    fn segment(&mut self, frame: &mut [u8], packet: &Packet, now_ns: u64) {
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

    fn datagram(&mut self, frame: &mut [u8], packet: &Packet, now_ns: u64) {
        let Some((from, to, payload)) = datagram::read(&frame[packet.start..packet.end]) else { return };
        let from = SocketAddr::new(packet.source, from);
        match self.ports.get(&to).copied() {
            Some(Port::Socket(index)) => {
                let Some(socket) = self.slab.datagram(index) else { return };
                if socket.arrive(from, payload) {
                    socket.news |= Readiness::READ;
                    self.announce(index);
                }
            }
            Some(Port::Question(number)) => {
                let answered =
                    self.questions.get(&number).is_some_and(|found| found.is_answered_by(from, payload));
                if answered && let Some(question) = self.questions.remove(&number) {
                    self.ports.remove(&to);
                    self.core.answer(question.query, Ok(payload.to_vec()));
                }
            }
            None => {
                let second = now_ns / 1_000_000_000;
                self.reports =
                    if self.reports.0 == second { (second, self.reports.1 + 1) } else { (second, 1) };
                if self.reports.1 <= REPORTS
                    && let Some(report) = icmp::no_such_port(frame, packet)
                {
                    self.core.output.packet(report, packet.source, now_ns);
                }
            }
        }
    }

    pub(crate) fn announce(&mut self, index: u32) {
        if let Some(socket) = self.slab.datagram(index)
            && !socket.announced
        {
            socket.announced = true;
            self.core.notices.push_back(Notice::Socket(index));
        }
    }

    /// Somebody on the way reports an error.
    fn report(&mut self, report: icmp::Report) {
        match report.protocol {
            TCP => {
                let flow = Flow { local: report.local, peer: report.peer };
                let Some(index) = self.core.flows.get(&flow).copied() else { return };
                let Some(connection) = self.slab.connection(index) else { return };
                match report.trouble {
                    icmp::Trouble::Unreachable(code) if report.sequence == connection.record.unacknowledged => {
                        handshake::fail(&mut self.core, connection, index, code);
                        self.reap(index);
                    }
                    icmp::Trouble::TooLong(mtu) => {
                        let version_6 = report.peer.is_ipv6();
                        connection.record.shorten(report.sequence, mtu, version_6);
                    },
                    icmp::Trouble::Unreachable(_) => {}
                }
            }
            UDP => {
                let Some(Port::Socket(index)) = self.ports.get(&report.local.port()).copied() else { return };
                let Some(socket) = self.slab.datagram(index) else { return };
                if socket.peer == Some(report.peer)
                    && let icmp::Trouble::Unreachable(code) = report.trouble
                {
                    socket.error = Some(code);
                    socket.news |= Readiness::READ | Readiness::ERROR;
                    self.announce(index);
                }
            }
            _ => {}
        }
    }

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
        self.core.output.expire(now_ns);
        self.unstick(now_ns);
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
            room = traffic::flush(&mut self.core, connection, index, link, now_ns);
            if !room {
                self.core.touch(connection, index);
            }
            self.reap(index);
        }
        // What came up on the way.
        self.core.output.expire(now_ns);
        self.unstick(now_ns);
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
                        for packet in datagram::packets(from, server, message, self.core.output.network.mtu, 0) {
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

    /// The next thing to be told.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(notice) = self.core.notices.pop_front() {
            let event = match notice {
                Notice::Resolved(query, result) => Some(Event::Resolved { query, result }),
                Notice::Connection(index) => self.connection_event(index),
                Notice::Socket(index) => self.socket_event(index),
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn connection_event(&mut self, index: u32) -> Option<Event> {
        let socket = self.slab.name(index);
        let connection = self.slab.connection(index)?;
        if let Some(result) = connection.connected.take() {
            if result.is_err() {
                connection.owner = Owner::Nobody;
                self.reap(index);
            } else if connection.news.is_empty() {
                connection.announced = false;
            } else {
                self.core.notices.push_back(Notice::Connection(index));
            }
            return Some(Event::Connected { socket, result });
        }
        connection.announced = false;
        let readiness = core::mem::replace(&mut connection.news, Readiness::empty());
        let told = connection.owner == Owner::Program && !readiness.is_empty();
        told.then_some(Event::Ready { socket, readiness })
    }

    fn socket_event(&mut self, index: u32) -> Option<Event> {
        let socket = self.slab.name(index);
        if let Some(listener) = self.slab.listener(index) {
            listener.announced = false;
            return Some(Event::Ready { socket, readiness: Readiness::READ });
        }
        let datagram = self.slab.datagram(index)?;
        datagram.announced = false;
        let readiness = core::mem::replace(&mut datagram.news, Readiness::empty());
        (!readiness.is_empty()).then_some(Event::Ready { socket, readiness })
    }
}
