//! smoltcp as the engine of connections that are awake.
//!
//! One interface, which knows no addresses, serves all of them; each connection has a socket set of its
//! own with one socket, so that neither a packet nor a deadline costs a walk over the others.
//!
//! smoltcp never sees a handshake of the network. A connection is shaken hands for by this stack and then
//! woken: a fresh socket is led through a handshake that nobody else hears, after which it stands where the
//! connection does. Its own sequence numbers differ from the connection's by a constant, which is added on
//! the way out and taken off on the way in. So a connection that is quiet can give its socket and its
//! buffers up and get others later, of another size; and a window can be announced with one scale while
//! buffers change.

use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroUsize;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::HardwareAddress;

use super::connection::{Record, Settings};
use super::segment::{self, FIN, RESET, before};
use crate::control::instant;
use crate::frame::{ETHERNET, LONGEST_PACKET, double, header_length, put_double, put_word, word};
use crate::link::Offloads;

/// Writes a packet into a buffer of its length.
pub type Write<'a> = dyn FnMut(&mut [u8]) + 'a;

/// A packet for smoltcp, and where its packets go.
struct Wire<'a, F> {
    packet: Option<&'a [u8]>,
    send: F,
    capabilities: &'a DeviceCapabilities,
}

struct Incoming<'a>(&'a [u8]);

/// Hands a packet of some length on: it is written by the function that it is given.
struct Outgoing<'a, F>(&'a mut F);

impl RxToken for Incoming<'_> {
    fn consume<R, G: FnOnce(&[u8]) -> R>(self, read: G) -> R {
        read(self.0)
    }
}

impl<F: FnMut(usize, &mut dyn FnMut(&mut [u8]))> TxToken for Outgoing<'_, F> {
    fn consume<R, G: FnOnce(&mut [u8]) -> R>(self, length: usize, write: G) -> R {
        let (mut write, mut result) = (Some(write), None);
        self.0(length, &mut |buffer| {
            if let Some(write) = write.take() {
                result = Some(write(buffer));
            }
        });
        match (result, write) {
            (Some(result), _) => result,
            // Whoever takes the packet has not: it is lost.
            (None, Some(write)) => write(&mut vec![0; length]),
            (None, None) => unreachable!("a packet is written or left"),
        }
    }
}

impl<F: FnMut(usize, &mut dyn FnMut(&mut [u8]))> Device for Wire<'_, F> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b, F>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, Outgoing<'_, F>)> {
        let packet = self.packet.take()?;
        Some((Incoming(packet), Outgoing(&mut self.send)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_, F>> {
        Some(Outgoing(&mut self.send))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

/// What a connection has while it is awake.
pub struct Awake {
    pub sockets: SocketSet<'static>,
    pub handle: SocketHandle,
    pub translation: Translation,
    pub receive_size: usize,
    pub send_size: usize,
    /// Bytes that have come since some time not long ago.
    pub received: usize,
    pub counted_ns: u64,
    /// Bytes that the peer has acknowledged since it was woken.
    pub acknowledged: usize,
    /// Segments have come out of order, and nothing in order since.
    pub disordered: bool,
    /// The last segment's fate was told at once.
    pub state: State,
}

impl Awake {
    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub fn view(&self) -> &Socket<'static> {
        self.sockets.get(self.handle)
    }
}

/// How what the socket says becomes what the connection says.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// What the connection's sequence numbers are ahead of the socket's.
    pub ahead: u32,
    /// The scale of the windows that the socket announces.
    pub scale: u8,
}

impl Translation {
    /// The socket's sequence number for one of the connection.
    pub fn inside(self, sequence: u32) -> u32 {
        sequence.wrapping_sub(self.ahead)
    }

    /// Turns a packet of the socket into one of the connection, and notes how far that has come.
    pub fn outward(self, record: &mut Record, packet: &mut [u8], version_6: bool) {
        let transport = &mut packet[header_length(version_6)..];
        let flags = transport[13];
        let header = usize::from(transport[12] >> 4) * 4;
        let sequence = double(transport, segment::SEQUENCE).wrapping_add(self.ahead);
        put_double(transport, segment::SEQUENCE, sequence);
        let length = transport.len() - header + usize::from(flags & FIN != 0);
        let end = sequence.wrapping_add(length as u32);
        if before(record.next, end) {
            record.next = end;
        }
        if flags & RESET == 0 {
            let room = usize::from(word(transport, segment::WINDOW)) << self.scale;
            record.window = (room >> record.scale()).min(usize::from(u16::MAX)) as u16;
            put_word(transport, segment::WINDOW, record.window);
            record.expected = double(transport, segment::ACKNOWLEDGED);
            record.since = 0;
        }
    }
}

pub struct Engine {
    interface: Interface,
    capabilities: DeviceCapabilities,
    pub offloads: Offloads,
}

/// Takes smoltcp's packets into a vector, with room for an Ethernet header.
pub fn into(reply: &mut Vec<u8>) -> impl FnMut(usize, &mut Write<'_>) {
    |length, write| {
        reply.clear();
        reply.resize(ETHERNET + length, 0);
        write(&mut reply[ETHERNET..]);
    }
}

impl Engine {
    pub fn new(offloads: Offloads, seed: u64, now_ns: u64) -> Self {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        // What limits a segment is the peer's word, which is cut to the wire's length beforehand.
        capabilities.max_transmission_unit = LONGEST_PACKET;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities.checksum.ipv4 = Checksum::Tx;
        let longest = NonZeroUsize::new(LONGEST_PACKET);
        capabilities.segmentation.tcpv4 = longest.filter(|_| offloads.checksum && offloads.segmentation_4);
        capabilities.segmentation.tcpv6 = longest.filter(|_| offloads.checksum && offloads.segmentation_6);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let send = |_: usize, _: &mut dyn FnMut(&mut [u8])| {};
        let mut wire = Wire { packet: None, send, capabilities: &capabilities };
        let mut interface = Interface::new(config, &mut wire, instant(now_ns));
        // Which addresses are ours is decided before a packet gets here.
        interface.set_any_ip(true);
        Self { interface, capabilities, offloads }
    }

    /// Gives a connection's socket a packet; its answer is written to `reply`.
    pub fn receive(&mut self, awake: &mut Awake, packet: &[u8], now_ns: u64, reply: &mut Vec<u8>) {
        reply.clear();
        let mut wire = Wire { packet: Some(packet), send: into(reply), capabilities: &self.capabilities };
        self.interface.poll_ingress_single(instant(now_ns), &mut wire, &mut awake.sockets);
    }

    /// Lets a connection's socket say one thing, if it has anything to say; whether it had.
    pub fn send(
        &mut self,
        awake: &mut Awake,
        now_ns: u64,
        mut send: impl FnMut(usize, &mut dyn FnMut(&mut [u8])),
    ) -> bool {
        let mut sent = false;
        let send = |length: usize, write: &mut dyn FnMut(&mut [u8])| {
            sent = true;
            send(length, write);
        };
        let mut wire = Wire { packet: None, send, capabilities: &self.capabilities };
        self.interface.poll_egress(instant(now_ns), &mut wire, &mut awake.sockets);
        sent
    }

    /// When the socket has something to do of itself.
    pub fn next_ns(&mut self, awake: &Awake, now_ns: u64) -> Option<u64> {
        let next = self.interface.poll_at(instant(now_ns), &awake.sockets)?;
        Some((next.total_micros().max(0) as u64).saturating_mul(1000))
    }

    /// Sets what a program may choose.
    pub fn adjust(awake: &mut Awake, settings: &Settings) {
        let socket = awake.socket();
        socket.set_nagle_enabled(!settings.no_delay);
        socket.set_ack_delay((!settings.quick).then_some(Duration::from_millis(10)));
    }
}
