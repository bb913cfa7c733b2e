//! Streams, datagram sockets and listening sockets, as connections to the VMM (`abi::vm::vsock`).
//!
//! Here are the device's queues, and who a packet is for; what it does there is `connection.rs`'s. What is
//! sent is copied. Lock order: what is received, all connections, a connection, what is sent.

mod connection;
mod packet;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use abi::vm::vsock::{self, operation};
use driver::Header;
use machine::Event;
use spin::{Mutex, Once};

use crate::cpu::clock;
use crate::virtio::queue::{self, Queue};
use crate::virtio::{Device, Transport, Unusable};
use crate::vm;

pub use connection::{Connection, Flow};

/// Descriptors of each queue, and bytes of a buffer that something is received in.
const LENGTH: u16 = 256;
const BUFFERS: usize = 64;
const BUFFER: usize = 16 << 10;
/// A packet of at most this length is copied out of its buffer, which is used again at once.
const SMALL: usize = 2048;

/// What arrives within this time of the last is a conversation.
const BRISK_NS: u64 = 300_000;

struct Channel {
    transport: Box<dyn Transport>,
    receive: Mutex<Receive>,
    send: Mutex<Send>,
    connections: Mutex<BTreeMap<u32, Arc<Connection>>>,
    events: Mutex<Vec<Event>>,
}

struct Receive {
    queue: Queue,
    buffers: Vec<Vec<u8>>,
    /// When something arrived last, and whether that followed closely on what came before.
    arrived_ns: u64,
    brisk: bool,
}

struct Send {
    queue: Queue,
    under_way: Vec<Option<Vec<u8>>>,
    free: Vec<u32>,
    waiting: VecDeque<Vec<u8>>,
}

static CHANNEL: Once<Channel> = Once::new();

/// Takes the device over.
pub fn begin(device: Device) -> Result<(), Unusable> {
    let (receive, send) = (device.queue(0, LENGTH)?, device.queue(1, LENGTH)?);
    let transport = device.finish();
    let mut receive = Receive { queue: receive, buffers: Vec::new(), arrived_ns: 0, brisk: false };
    for number in 0..BUFFERS {
        receive.buffers.push(vec![0; BUFFER]);
        receive.offer(number as u32);
    }
    receive.queue.tell();
    let send = Send { queue: send, under_way: Vec::new(), free: Vec::new(), waiting: VecDeque::new() };
    CHANNEL.call_once(|| Channel {
        transport,
        receive: Mutex::new(receive),
        send: Mutex::new(send),
        connections: Mutex::new(BTreeMap::new()),
        events: Mutex::new(Vec::new()),
    });
    Ok(())
}

fn channel() -> &'static Channel {
    CHANNEL.get().expect("invariant: connections exist only with a VMM")
}

impl Receive {
    fn offer(&mut self, number: u32) {
        let part = queue::writable(&mut self.buffers[number as usize]);
        // There are fewer buffers than descriptors.
        let _ = self.queue.push(&[part], number);
    }
}

impl Send {
    /// Sends a packet, or queues it.
    fn send(&mut self, packet: Vec<u8>) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(packet);
        }
        let Err(packet) = self.offer(packet) else { return };
        self.waiting.push_back(packet);
        // Whoever sleeps until something happens did so when nobody waited for room.
        while !self.waiting.is_empty() && !self.queue.await_next() {
            self.go_on();
        }
    }

    fn offer(&mut self, packet: Vec<u8>) -> Result<(), Vec<u8>> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.under_way.push(None);
            self.under_way.len() as u32 - 1
        });
        if self.queue.push(&[queue::readable(&packet)], slot).is_err() {
            self.free.push(slot);
            return Err(packet);
        }
        self.under_way[slot as usize] = Some(packet);
        Ok(())
    }

    /// Forgets what was sent, and sends what waits.
    fn go_on(&mut self) {
        while let Some((slot, _)) = self.queue.pop() {
            self.under_way[slot as usize] = None;
            self.free.push(slot);
        }
        while let Some(packet) = self.waiting.pop_front() {
            if let Err(packet) = self.offer(packet) {
                self.waiting.push_front(packet);
                break;
            }
        }
        self.queue.tell();
    }
}

/// Adds what has arrived.
pub fn collect(events: &mut Vec<Event>) {
    let Some(channel) = CHANNEL.get() else { return };
    {
        let mut receive = channel.receive.lock();
        let mut any = false;
        while let Some((number, length)) = receive.queue.pop() {
            any = true;
            let buffer = &mut receive.buffers[number as usize];
            let large = length > vsock::HEADER + SMALL;
            let packet = if large {
                let mut full = core::mem::replace(buffer, vec![0; BUFFER]);
                full.truncate(length);
                full
            } else {
                buffer[..length].to_vec()
            };
            receive.offer(number);
            channel.arrived(packet);
        }
        if any {
            let now_ns = clock::monotonic();
            receive.brisk = now_ns - receive.arrived_ns < BRISK_NS;
            receive.arrived_ns = now_ns;
            receive.queue.tell();
        }
    }
    channel.send.lock().go_on();
    events.append(&mut channel.events.lock());
}

impl Channel {
    fn send(&self, packet: Vec<u8>) {
        let mut send = self.send.lock();
        send.send(packet);
        send.queue.tell();
    }

    fn arrived(&self, packet: Vec<u8>) {
        let header = driver::judge(&packet).unwrap_or_else(|lie| vm::broken(format_args!("{lie}")));
        let connection = self.connections.lock().get(&header.to_port).cloned();
        match (connection, header.operation) {
            (Some(listener), operation::REQUEST) => self.accept(&listener, &header, &packet),
            // Nobody listens any more.
            (None, operation::REQUEST) => {
                self.send(packet::packet(header.from_port, operation::RESET, 0, 0, 0))
            }
            (Some(connection), _) if connection.is(header.from_port) => connection.take(&header, packet),
            // What was closed here is closed there soon.
            _ => {}
        }
    }

    /// A connection has come to a listening socket.
    fn accept(&self, listener: &Connection, header: &Header, packet: &[u8]) {
        let number = header.from_port;
        self.connections.lock().insert(number, Connection::arrived(header));
        self.send(packet::packet(number, operation::RESPONSE, 0, 0, 0));
        listener.offer(number, &packet[vsock::HEADER..]);
    }
}

/// Wants an interrupt for what arrives next; false if something has.
pub fn await_next() -> bool {
    let Some(channel) = CHANNEL.get() else { return true };
    let quiet = channel.receive.lock().queue.await_next();
    let sent = {
        let mut send = channel.send.lock();
        // Only who waits for room wants to hear that something was sent.
        send.waiting.is_empty() || send.queue.await_next()
    };
    quiet && sent && channel.events.lock().is_empty()
}

/// Whether something has arrived.
pub fn is_ready() -> bool {
    CHANNEL.get().is_some_and(|channel| channel.receive.lock().queue.is_ready())
}

/// Whether something may arrive any moment.
pub fn is_brisk() -> bool {
    CHANNEL.get().is_some_and(|channel| channel.receive.lock().brisk)
}

pub fn look_away() {
    if let Some(channel) = CHANNEL.get() {
        channel.receive.lock().queue.look_away();
        channel.send.lock().queue.look_away();
    }
}

pub fn acknowledge() {
    if let Some(channel) = CHANNEL.get() {
        channel.transport.acknowledge();
    }
}
