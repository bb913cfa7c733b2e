//! Waking a connection: a fresh socket is led to where the connection stands.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use smoltcp::iface::SocketSet;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

use super::connection::Record;
use super::engine::{Awake, Engine, Translation, into};
use super::segment::{self, ACK, Announcement, Bare, Flow, PUSH, SYN};
use crate::frame::{ETHERNET, double, header_length, put_word};

/// Segments that may be under way before the first is acknowledged (RFC 6928).
const INITIAL_WINDOW: usize = 10;

impl Engine {
    /// Wakes a connection. `round_trip_ns` is what is known of the way to the peer.
    pub fn wake(&mut self, flow: Flow, record: &Record, sizes: (usize, usize), now_ns: u64) -> Box<Awake> {
        let (receive_size, send_size) = sizes;
        let buffer = |size| SocketBuffer::new(vec![0; size]);
        let mut socket = Socket::new(buffer(receive_size), buffer(send_size));
        // A port above zero: there is a connection.
        let _ = socket.listen(flow.local.port());
        let bits = usize::BITS - receive_size.leading_zeros();
        let scale = if record.peer.scale.is_some() { bits.saturating_sub(16) as u8 } else { 0 };
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        let mut awake = Box::new(Awake {
            sockets,
            handle,
            translation: Translation { ahead: 0, scale },
            receive_size,
            send_size,
            received: 0,
            counted_ns: now_ns,
            acknowledged: 0,
            disordered: false,
            state: State::Established,
        });
        self.shake_hands(&mut awake, flow, record, now_ns);
        awake
    }

    /// Leads a listening socket to where the connection stands.
    fn shake_hands(&mut self, awake: &mut Awake, flow: Flow, record: &Record, now_ns: u64) {
        // The peer's part, seen from it.
        let back = Flow { local: flow.peer, peer: flow.local };
        let segment = |flags, sequence, acknowledged, window| Bare {
            flow: back,
            flags,
            sequence,
            acknowledged,
            window,
            announcement: None,
        };
        let earlier_ns = now_ns.saturating_sub(record.round_trip_ns);
        let mut reply = Vec::new();
        let announcement = Announcement {
            maximum: Some(record.peer.maximum),
            scale: record.peer.scale,
            selective: record.peer.selective,
        };
        let first = record.expected.wrapping_sub(1);
        let hello = Bare { announcement: Some(announcement), ..segment(SYN, first, 0, u16::MAX) };
        self.receive(awake, &hello.build()[ETHERNET..], earlier_ns, &mut reply);
        self.send(awake, earlier_ns, into(&mut reply));
        let at = ETHERNET + header_length(flow.peer.is_ipv6()) + segment::SEQUENCE;
        let chosen = if reply.len() >= at + 4 { double(&reply, at) } else { 0 };
        let start = chosen.wrapping_add(1);
        let answer = segment(ACK, record.expected, start, record.peer.window);
        self.receive(awake, &answer.build()[ETHERNET..], now_ns, &mut reply);
        let end = self.open_window(awake, &segment, record, start, now_ns);
        awake.translation.ahead = record.next.wrapping_sub(end);
        // A byte that has been received already: it is answered by an acknowledgement with a scaled window,
        // from which on smoltcp knows how far the peer may go. The window of a SYN it would scale.
        let old = segment(ACK | PUSH, first, end, record.peer.window);
        let mut old = old.build();
        old.push(0);
        lengthen(&mut old[ETHERNET..], flow.peer.ip());
        self.receive(awake, &old[ETHERNET..], now_ns, &mut reply);
    }

    /// Lets the congestion window grow to where a connection may begin, which smoltcp's does not: bytes are
    /// sent to nobody and acknowledged. Returns the sequence number that is next.
    fn open_window(
        &mut self,
        awake: &mut Awake,
        segment: &dyn Fn(u8, u32, u32, u16) -> Bare,
        record: &Record,
        start: u32,
        now_ns: u64,
    ) -> u32 {
        let maximum = usize::from(record.peer.maximum);
        let mut sequence = start;
        // smoltcp begins with 2048 bytes and adds a segment for each that is acknowledged.
        let mut missing = (INITIAL_WINDOW * maximum).saturating_sub(2048);
        if record.peer_room() < missing {
            return start;
        }
        let earlier_ns = now_ns.saturating_sub(record.round_trip_ns);
        let mut reply = Vec::new();
        while missing > 0 {
            let size = maximum.min(awake.send_size).min(2048).min(missing);
            let written = awake.socket().send(|buffer| {
                let size = size.min(buffer.len());
                (size, size)
            });
            let Ok(written @ 1..) = written else { break };
            self.send(awake, earlier_ns, into(&mut reply));
            sequence = sequence.wrapping_add(written as u32);
            missing -= written;
            let answer = segment(ACK, record.expected, sequence, record.peer.window);
            self.receive(awake, &answer.build()[ETHERNET..], now_ns, &mut reply);
        }
        sequence
    }
}

/// Corrects the length of a packet that has got a byte more. The checksums stay wrong: nobody looks.
fn lengthen(packet: &mut [u8], peer: IpAddr) {
    let length = packet.len();
    match peer {
        IpAddr::V4(_) => put_word(packet, 2, length as u16),
        IpAddr::V6(_) => put_word(packet, 4, (length - 40) as u16),
    }
}
