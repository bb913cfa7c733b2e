//! What comes in is handed to whom it is for.

use core::net::SocketAddr;

use machine::Readiness;

use crate::event::Notice;
use crate::frame::{self, Content, ICMP, ICMP_6, Packet, TCP, UDP};
use crate::stack::{Port, Stack};
use crate::tcp::handshake;
use crate::tcp::segment::Flow;
use crate::{datagram, icmp, neighbour};

/// Reports of missing ports that are sent per second.
const REPORTS: u32 = 50;

impl Stack {
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
            TCP if own
                && !self.core.output.is_own(source)
                && (verified || frame::is_sound(source, destination, TCP, transport)) =>
            {
                self.segment(frame, packet, now_ns);
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
    pub(crate) fn report(&mut self, report: icmp::Report) {
        match report.protocol {
            TCP => {
                let flow = Flow { local: report.local, peer: report.peer };
                let Some(index) = self.core.flows.get(&flow).copied() else { return };
                let Some(connection) = self.slab.connection(index) else { return };
                match report.trouble {
                    icmp::Trouble::Unreachable(code)
                        if report.sequence == connection.record.unacknowledged =>
                    {
                        handshake::fail(&mut self.core, connection, index, code);
                        self.reap(index);
                    }
                    icmp::Trouble::TooLong(mtu) => {
                        let version_6 = report.peer.is_ipv6();
                        connection.record.shorten(report.sequence, mtu, version_6);
                    }
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
}
