//! A connection to a descriptor of the VMM's.
//!
//! What arrives is kept until somebody reads it, never more than the credit that was given; a packet beyond
//! that is a lie of the device's. The handle is reported ready when something has changed, once it is
//! watched.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::network::{Address, Shutdown, split_datagram};
use abi::vm::vsock::{self, operation};
use abi::{Code, Handle};
use driver::Header;
use machine::{Event, Readiness, Sink, Source, Transfer};
use spin::Mutex;

use super::channel;
use super::packet::{CREDIT, packet};
use crate::code::{ECONNRESET, EFAULT, EMSGSIZE, EPIPE};
use crate::device::user;
use crate::vm;

/// Bytes of a packet that is sent, at most.
const MOST: usize = 64 << 10;
/// Packets that may wait when an end of file comes.
const ENDS_MOST: usize = 64 << 10;
/// Bytes before each datagram, which say its length.
const FRAME: usize = 4;

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
    arrived: VecDeque<Arrived>,
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

/// A packet, and how far it was read. One without bytes is an end of file that is read once: a terminal's.
struct Arrived {
    packet: Vec<u8>,
    read: usize,
}

impl Arrived {
    fn rest(&self) -> &[u8] {
        &self.packet[self.read..]
    }
}

impl Connection {
    fn new(number: u32, flow: Flow) -> Arc<Self> {
        let state = State { room: vsock::FIRST_ROOM, ..State::default() };
        Arc::new(Self { number, flow, state: Mutex::new(state) })
    }

    /// One that has come to a listening socket.
    pub fn arrived(header: &Header) -> Arc<Self> {
        let connection = Self::new(header.from_port, Flow::Bytes);
        {
            let mut state = connection.state.lock();
            (state.room, state.forwarded) = (header.room, header.forwarded);
        }
        connection
    }

    /// Whether the other side knows it by this number.
    pub fn is(&self, number: u32) -> bool {
        self.number == number
    }

    /// A connection has come, from the peer that is named like a datagram's.
    pub fn offer(&self, number: u32, peer: &[u8]) {
        let (Flow::Connections, Some((peer, _))) = (self.flow, split_datagram(peer)) else {
            vm::broken(format_args!("the VMM connected to what does not listen"));
        };
        let mut state = self.state.lock();
        state.accepted.push_back((number, peer));
        state.report(Readiness::READ);
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
    pub fn take(&self, header: &Header, packet: Vec<u8>) {
        let mut state = self.state.lock();
        (state.room, state.forwarded) = (header.room, header.forwarded);
        let mut changed = Readiness::empty();
        if state.full && state.window() > 0 {
            state.full = false;
            changed |= Readiness::WRITE;
        }
        match header.operation {
            operation::DATA if header.length > 0 || self.flow == Flow::Bytes => {
                if header.length == 0 && state.arrived.len() > ENDS_MOST {
                    vm::broken(format_args!("the VMM sent too many ends of file"));
                }
                if state.unread + header.length > CREDIT as usize || self.flow == Flow::Connections {
                    vm::broken(format_args!("the VMM sent more than it had credit for"));
                }
                state.unread += header.length;
                state.arrived.push_back(Arrived { packet, read: vsock::HEADER });
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
            state.report(changed);
        }
    }

    /// Begins to report readiness under this handle; what is over already is reported at once. That there is
    /// something to read may have changed by the time that this is heard.
    pub fn watch(&self, handle: Handle) {
        let mut state = self.state.lock();
        state.handle = Some(handle);
        let mut readiness = Readiness::empty();
        readiness.set(Readiness::READ_END, state.no_more_to_read);
        readiness.set(Readiness::HANGUP, state.no_more_to_read && state.no_more_to_send);
        readiness.set(Readiness::ERROR, state.reset);
        if !readiness.is_empty() {
            state.report(readiness);
        }
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
        let Some(first) = state.arrived.front() else { return state.nothing(&to) };
        if first.rest().is_empty() {
            if !peek {
                state.arrived.pop_front();
            }
            return Ok(Transfer::Done(0));
        }
        let mut done = 0;
        for part in state.arrived.iter().take_while(|part| !part.rest().is_empty()) {
            match to.put(part.rest()) {
                Ok(copied) => {
                    done += copied;
                    if copied < part.rest().len() {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(_) => return Err(EFAULT),
            }
        }
        state.finish(self.number, done, peek)
    }

    fn receive_packet(&self, to: Sink<'_>, peek: bool) -> Result<Transfer, Code> {
        let mut to = user::Sink::new(to);
        let mut state = self.state.lock();
        let Some(packet) = state.packet() else { return state.nothing(&to) };
        to.put(&packet).map_err(|_| EFAULT)?;
        state.finish(self.number, FRAME + packet.len(), peek)?;
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
        let window = state.window() as usize;
        let length = from.length();
        if self.flow == Flow::Packets {
            if length + FRAME > CREDIT as usize / 2 {
                return Err(EMSGSIZE);
            }
            if length + FRAME > window {
                state.full = true;
                return Ok(Transfer::NotReady);
            }
            // Whole before anything of it is sent.
            let mut datagram = (length as u32).to_le_bytes().to_vec();
            from.take(0, length, &mut datagram).map_err(|_| EFAULT)?;
            self.pass(&mut state, &user::Source::new(Source::Kernel(&datagram)), datagram.len(), false)?;
            return Ok(Transfer::Done(length));
        }
        // Who could not send all wants to hear of room as well as who could send nothing.
        state.full = window < length;
        if window == 0 && length > 0 {
            return Ok(Transfer::NotReady);
        }
        self.pass(&mut state, &from, length.min(window), more).map(Transfer::Done)
    }

    /// Sends so many bytes, for which there is room; how many it were, if not all could be read.
    fn pass(
        &self,
        state: &mut State,
        from: &user::Source<'_>,
        total: usize,
        more: bool,
    ) -> Result<usize, Code> {
        let channel = channel();
        let mut sent = 0;
        while sent < total {
            let length = (total - sent).min(MOST);
            let flags = if more || sent + length < total { vsock::MORE } else { 0 };
            let mut packet = packet(self.number, operation::DATA, flags, state.tell(), length);
            // It may have to wait for a page, and what it waits for may send: so nothing is locked there yet.
            if from.take(sent, length, &mut packet).is_err() {
                break;
            }
            state.sent = state.sent.wrapping_add(length as u32);
            channel.send.lock().send(packet);
            sent += length;
        }
        channel.send.lock().queue.tell();
        if sent == 0 && total > 0 { Err(EFAULT) } else { Ok(sent) }
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
        state.report(changed);
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
    fn report(&self, readiness: Readiness) {
        if let Some(handle) = self.handle {
            channel().events.lock().push(Event::Ready { handle, readiness });
        }
    }

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
        while let Some(part) = self.arrived.front_mut() {
            let left = part.rest().len();
            if rest < left || left == 0 {
                part.read += rest;
                break;
            }
            rest -= left;
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
        let mut bytes = self.arrived.iter().flat_map(|part| part.rest().iter().copied());
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
