//! Streams, datagram sockets and listening sockets, as connections to the VMM (`abi::vm::vsock`).
//!
//! What arrives is kept with its connection until somebody reads it, never more than the credit that was
//! given; a packet beyond that is a lie of the device's. What is sent is copied. A connection's handle is
//! reported ready when something has changed, once it is watched.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use abi::network::{Address, Shutdown, split_datagram};
use abi::vm::vsock::{self, operation};
use abi::{Code, Handle};
use machine::{Event, Readiness, Sink, Source, Transfer};
use spin::{Mutex, Once};

use super::user;
use crate::cpu::clock;
use crate::memory::EFAULT;
use crate::virtio::queue::{Part, Queue};
use crate::virtio::{Device, Transport, Unusable};
use crate::vm;

/// Descriptors of each queue, and bytes of a buffer that something is received in.
const LENGTH: u16 = 256;
const BUFFERS: usize = 64;
const BUFFER: usize = 16 << 10;
/// Bytes that may arrive unread on a connection.
const CREDIT: u32 = 256 << 10;
/// Bytes of a packet that is sent, at most; a datagram is longer than none of these.
const MOST: usize = 64 << 10;
/// A packet of at most this length is copied out of its buffer, which is used again at once.
const SMALL: usize = 2048;

/// What arrives within this time of the last is a conversation.
const BRISK_NS: u64 = 300_000;

const EPIPE: Code = Code(32);
const ECONNRESET: Code = Code(104);
const EMSGSIZE: Code = Code(90);

/// What flows on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Bytes,
    /// Packets, each with its length.
    Packets,
    /// Nothing: connections come.
    Connections,
}

/// A connection.
pub struct Connection {
    number: u32,
    flow: Flow,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    handle: Option<Handle>,
    established: bool,
    /// What has arrived, and how far its first part was read.
    arrived: VecDeque<Vec<u8>>,
    read: usize,
    unread: usize,
    /// Connections that have come.
    accepted: VecDeque<(u32, Address)>,
    /// Bytes read ever, and as last told; bytes sent ever, and what the other side has told of its own.
    taken: u32,
    told: u32,
    sent: u32,
    room: u32,
    forwarded: u32,
    /// A send found no room.
    full: bool,
    no_more_to_read: bool,
    no_more_to_send: bool,
    reset: bool,
}

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
        let part = Part::write(&mut self.buffers[number as usize]);
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
        if let Err(packet) = self.offer(packet) {
            self.waiting.push_back(packet);
        }
    }

    fn offer(&mut self, packet: Vec<u8>) -> Result<(), Vec<u8>> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.under_way.push(None);
            self.under_way.len() as u32 - 1
        });
        if self.queue.push(&[Part::read(&packet)], slot).is_err() {
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

/// A packet's header (`struct virtio_vsock_hdr`), with room for what follows.
fn packet(number: u32, operation: u16, flags: u32, taken: u32, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vsock::HEADER + length);
    bytes.extend_from_slice(&vsock::GUEST.to_le_bytes());
    bytes.extend_from_slice(&vsock::HOST.to_le_bytes());
    for word in [number, number, length as u32] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(&vsock::STREAM.to_le_bytes());
    bytes.extend_from_slice(&operation.to_le_bytes());
    for word in [flags, CREDIT, taken] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// What a packet's header says.
struct Header {
    from: u64,
    to: u64,
    from_port: u32,
    to_port: u32,
    length: usize,
    kind: u16,
    operation: u16,
    flags: u32,
    room: u32,
    forwarded: u32,
}

impl Header {
    fn read(bytes: &[u8; vsock::HEADER]) -> Self {
        let long =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("invariant: eight bytes"));
        let word = |at: usize| long(at) as u32;
        let last = u32::from_le_bytes(bytes[40..44].try_into().expect("invariant: four bytes"));
        Self {
            from: long(0),
            to: long(8),
            from_port: word(16),
            to_port: word(20),
            length: word(24) as usize,
            kind: word(28) as u16,
            operation: (word(28) >> 16) as u16,
            flags: word(32),
            room: word(36),
            forwarded: last,
        }
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
        let Some(header) = packet.first_chunk().map(Header::read) else {
            vm::broken(format_args!("the VMM sent a packet of {} bytes", packet.len()));
        };
        let body = packet.len() - vsock::HEADER;
        let ours = header.from == vsock::HOST && header.to == vsock::GUEST && header.kind == vsock::STREAM;
        if !ours || header.length != body {
            vm::broken(format_args!("the VMM sent a packet for somebody else, or of another length"));
        }
        let connection = self.connections.lock().get(&header.to_port).cloned();
        match connection {
            Some(listener) if header.operation == operation::REQUEST => {
                self.accept(&listener, &header, &packet)
            }
            Some(connection) if header.from_port == connection.number => {
                connection.take(&header, packet, &self.events);
            }
            // What was closed here is closed there soon.
            _ => {}
        }
    }

    /// A connection has come to a listening socket.
    fn accept(&self, listener: &Connection, header: &Header, packet: &[u8]) {
        let peer = split_datagram(&packet[vsock::HEADER..]);
        let (Flow::Connections, Some((peer, _))) = (listener.flow, peer) else {
            vm::broken(format_args!("the VMM connected to what does not listen"));
        };
        let number = header.from_port;
        let connection = Connection::new(number, Flow::Bytes);
        {
            let mut state = connection.state.lock();
            state.established = true;
            (state.room, state.forwarded) = (header.room, header.forwarded);
        }
        self.connections.lock().insert(number, connection);
        self.send(self::packet(number, operation::RESPONSE, 0, 0, 0));
        let mut state = listener.state.lock();
        state.accepted.push_back((number, peer));
        report(&state, Readiness::READ, &self.events);
    }
}

fn report(state: &State, readiness: Readiness, events: &Mutex<Vec<Event>>) {
    if let Some(handle) = state.handle {
        events.lock().push(Event::Ready { handle, readiness });
    }
}

impl Connection {
    fn new(number: u32, flow: Flow) -> Arc<Self> {
        Arc::new(Self { number, flow, state: Mutex::new(State::default()) })
    }

    /// Connects to a descriptor of the VMM's, or finds the connection that has come.
    pub fn open(number: u32, flow: Flow) -> Arc<Self> {
        let channel = channel();
        let mut connections = channel.connections.lock();
        if let Some(there) = connections.get(&number) {
            return there.clone();
        }
        let connection = Self::new(number, flow);
        connections.insert(number, connection.clone());
        drop(connections);
        channel.send(packet(number, operation::REQUEST, 0, 0, 0));
        connection
    }

    /// Something has arrived for this connection.
    fn take(&self, header: &Header, packet: Vec<u8>, events: &Mutex<Vec<Event>>) {
        let mut state = self.state.lock();
        (state.room, state.forwarded) = (header.room, header.forwarded);
        let mut changed = Readiness::empty();
        if state.full && state.window() > 0 {
            state.full = false;
            changed |= Readiness::WRITE;
        }
        match header.operation {
            operation::RESPONSE => {
                state.established = true;
                changed |= Readiness::WRITE;
            }
            operation::DATA if header.length > 0 => {
                if state.unread + header.length > CREDIT as usize || self.flow == Flow::Connections {
                    vm::broken(format_args!("the VMM sent more than it had credit for"));
                }
                let mut packet = packet;
                packet.drain(..vsock::HEADER);
                state.unread += packet.len();
                state.arrived.push_back(packet);
                changed |= Readiness::READ;
            }
            operation::CREDIT_REQUEST => {
                let taken = state.tell();
                channel().send(self::packet(self.number, operation::CREDIT_UPDATE, 0, taken, 0));
            }
            operation::SHUTDOWN => {
                if header.flags & vsock::NO_SEND != 0 {
                    state.no_more_to_read = true;
                    changed |= Readiness::READ | Readiness::READ_END;
                }
                if header.flags & vsock::NO_RECEIVE != 0 {
                    state.no_more_to_send = true;
                    changed |= Readiness::WRITE;
                }
                if state.no_more_to_read && state.no_more_to_send {
                    changed |= Readiness::HANGUP;
                }
            }
            operation::RESET => {
                state.reset = true;
                state.no_more_to_read = true;
                state.no_more_to_send = true;
                changed = Readiness::all();
            }
            _ => {}
        }
        if !changed.is_empty() {
            report(&state, changed, events);
        }
    }

    /// Begins to report readiness under this handle; what is so already is reported at once.
    pub fn watch(&self, handle: Handle) {
        let mut state = self.state.lock();
        state.handle = Some(handle);
        let mut readiness = Readiness::empty();
        readiness
            .set(Readiness::READ, state.unread > 0 || state.no_more_to_read || !state.accepted.is_empty());
        readiness.set(Readiness::READ_END, state.no_more_to_read);
        readiness.set(Readiness::WRITE, state.established);
        readiness.set(Readiness::HANGUP, state.no_more_to_read && state.no_more_to_send);
        readiness.set(Readiness::ERROR, state.reset);
        report(&state, readiness, &channel().events);
    }

    /// Takes a connection that has come.
    pub fn accept(&self) -> Option<(u32, Address)> {
        self.state.lock().accepted.pop_front()
    }

    pub fn receive(&self, to: Sink<'_>, peek: bool) -> Result<Transfer, Code> {
        match self.flow {
            Flow::Packets => self.receive_packet(to, peek),
            _ => self.receive_bytes(to, peek),
        }
    }

    fn receive_bytes(&self, to: Sink<'_>, peek: bool) -> Result<Transfer, Code> {
        let mut to = user::Sink::new(to);
        let mut state = self.state.lock();
        if state.unread == 0 {
            return state.nothing(&to);
        }
        let (mut done, mut number, mut from) = (0, 0, state.read);
        while let Some(part) = state.arrived.get(number) {
            let copied = to.put(&part[from..]);
            let Ok(copied) = copied else {
                return if done > 0 { state.finish(self.number, done, peek) } else { Err(EFAULT) };
            };
            done += copied;
            if from + copied < part.len() {
                break;
            }
            (number, from) = (number + 1, 0);
        }
        state.finish(self.number, done, peek)
    }

    fn receive_packet(&self, to: Sink<'_>, peek: bool) -> Result<Transfer, Code> {
        let mut to = user::Sink::new(to);
        let mut state = self.state.lock();
        let Some(packet) = state.packet() else { return state.nothing(&to) };
        to.put(&packet).map_err(|_| EFAULT)?;
        state.finish(self.number, 4 + packet.len(), peek)?;
        Ok(Transfer::Done(packet.len()))
    }

    pub fn send(&self, from: Source<'_>, more: bool) -> Result<Transfer, Code> {
        let from = user::Source::new(from);
        let mut state = self.state.lock();
        if core::mem::take(&mut state.reset) {
            return Err(ECONNRESET);
        }
        if state.no_more_to_send {
            return Err(EPIPE);
        }
        let whole = self.flow == Flow::Packets;
        let frame = if whole { 4 } else { 0 };
        if whole && from.length() + frame > CREDIT as usize / 2 {
            return Err(EMSGSIZE);
        }
        let window = if state.established { state.window() as usize } else { 0 };
        let wanted = from.length() + frame;
        if window == 0 || whole && wanted > window {
            if wanted == 0 {
                return Ok(Transfer::Done(0));
            }
            state.full = true;
            return Ok(Transfer::NotReady);
        }
        let total = wanted.min(window);
        let mut sent = 0;
        while sent < total || whole && sent == 0 {
            let length = (total - sent).min(MOST);
            let flags = if more || sent + length < total { vsock::MORE } else { 0 };
            let mut packet = packet(self.number, operation::DATA, flags, state.tell(), length);
            let lead = if sent == 0 { frame } else { 0 };
            if lead > 0 {
                packet.extend_from_slice(&(from.length() as u32).to_le_bytes());
            }
            let start = sent + lead - frame;
            let taken = from.take(start, length - lead, &mut packet).map_err(|_| EFAULT);
            if let Err(code) = taken {
                return if sent > 0 { Ok(Transfer::Done(sent - frame)) } else { Err(code) };
            }
            state.sent = state.sent.wrapping_add(length as u32);
            channel().send.lock().send(packet);
            sent += length;
        }
        channel().send.lock().queue.tell();
        Ok(Transfer::Done(sent - frame))
    }

    pub fn shutdown(&self, how: Shutdown) {
        let mut state = self.state.lock();
        let flags = match how {
            Shutdown::Read => vsock::NO_RECEIVE,
            Shutdown::Write => vsock::NO_SEND,
            Shutdown::Both => vsock::NO_RECEIVE | vsock::NO_SEND,
        };
        state.no_more_to_read |= flags & vsock::NO_RECEIVE != 0;
        state.no_more_to_send |= flags & vsock::NO_SEND != 0;
        let taken = state.tell();
        let mut changed = Readiness::empty();
        changed.set(Readiness::READ | Readiness::READ_END, state.no_more_to_read);
        changed.set(Readiness::HANGUP, state.no_more_to_read && state.no_more_to_send);
        report(&state, changed, &channel().events);
        // One packet with both would close the descriptor.
        for flag in [vsock::NO_SEND, vsock::NO_RECEIVE].into_iter().filter(|flag| flags & flag != 0) {
            channel().send(packet(self.number, operation::SHUTDOWN, flag, taken, 0));
        }
    }

    /// Ends the connection: what was sent before still arrives, unless something that came was never read.
    pub fn close(&self) {
        channel().connections.lock().remove(&self.number);
        let accepted = core::mem::take(&mut self.state.lock().accepted);
        for (number, _) in accepted {
            channel().connections.lock().remove(&number);
            channel().send(packet(number, operation::RESET, 0, 0, 0));
        }
        let unread = self.flow == Flow::Bytes && self.state.lock().unread > 0;
        let (operation, flags) = if unread {
            (operation::RESET, 0)
        } else {
            (operation::SHUTDOWN, vsock::NO_RECEIVE | vsock::NO_SEND)
        };
        channel().send(packet(self.number, operation, flags, 0, 0));
    }
}

impl State {
    /// Bytes that may be sent.
    fn window(&self) -> u32 {
        self.room.saturating_sub(self.sent.wrapping_sub(self.forwarded))
    }

    /// Bytes read ever, as a packet tells now.
    fn tell(&mut self) -> u32 {
        self.told = self.taken;
        self.taken
    }

    /// What a read answers when there is nothing.
    fn nothing(&mut self, to: &user::Sink<'_>) -> Result<Transfer, Code> {
        if core::mem::take(&mut self.reset) {
            return Err(ECONNRESET);
        }
        Ok(if self.no_more_to_read || to.room() == 0 { Transfer::Done(0) } else { Transfer::NotReady })
    }

    /// Notes that so much was read.
    fn finish(&mut self, number: u32, length: usize, peek: bool) -> Result<Transfer, Code> {
        if peek {
            return Ok(Transfer::Done(length));
        }
        let mut rest = length;
        while let Some(part) = self.arrived.front() {
            let left = part.len() - self.read;
            if rest < left {
                self.read += rest;
                break;
            }
            rest -= left;
            self.read = 0;
            self.arrived.pop_front();
        }
        self.unread -= length;
        self.taken = self.taken.wrapping_add(length as u32);
        if self.taken.wrapping_sub(self.told) >= CREDIT / 2 {
            let taken = self.tell();
            channel().send(packet(number, operation::CREDIT_UPDATE, 0, taken, 0));
        }
        Ok(Transfer::Done(length))
    }

    /// The next whole packet, if it is there.
    fn packet(&self) -> Option<Vec<u8>> {
        let mut bytes = self
            .arrived
            .iter()
            .enumerate()
            .flat_map(|(number, part)| part[if number == 0 { self.read } else { 0 }..].iter().copied());
        let mut length = [0; 4];
        for byte in &mut length {
            *byte = bytes.next()?;
        }
        let length = u32::from_le_bytes(length) as usize;
        if length > CREDIT as usize {
            vm::broken(format_args!("the VMM sent a datagram of {length} bytes"));
        }
        let packet: Vec<u8> = bytes.take(length).collect();
        (packet.len() == length).then_some(packet)
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
