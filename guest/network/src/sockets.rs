//! What the machine does with sockets on behalf of the library OS. Nothing here waits: `None` says that
//! there is nothing yet, or no room yet, and an event follows a later change.

use core::net::{IpAddr, SocketAddr};

use abi::Code;
use abi::network::{Address, Shutdown, SocketOption};
use machine::Readiness;

use crate::event::{Socket, code};
use crate::listener::Listener;
use crate::slab::Entry;
use crate::stack::Stack;
use crate::tcp::connection::{Connection, Owner, Phase};
use crate::tcp::segment::Flow;
use crate::tcp::{handshake, program, rest, traffic};

/// Ports that are given to those who want any (RFC 6335, and Linux's).
pub(crate) const ANY: core::ops::Range<u16> = 32_768..60_999;

/// An address as connections know it.
pub(crate) fn plain(address: Address) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Stack {
    fn connection(&mut self, socket: Socket) -> Result<u32, Code> {
        let index = self.slab.index(socket).ok_or(code::BAD_HANDLE)?;
        self.slab.connection(index).map(|_| index).ok_or(code::BAD_HANDLE)
    }

    /// Does something with a connection.
    fn with<T>(
        &mut self,
        socket: Socket,
        act: impl FnOnce(&mut crate::shared::Core, &mut Connection, u32) -> Result<T, Code>,
    ) -> Result<T, Code> {
        let index = self.connection(socket)?;
        let connection = self.slab.connection(index).ok_or(code::BAD_HANDLE)?;
        act(&mut self.core, connection, index)
    }

    /// Listens on a port, at all addresses.
    pub fn listen(&mut self, port: u16, backlog: u32) -> Result<Socket, Code> {
        if port == 0 {
            return Err(code::INVALID);
        }
        if self.listeners.contains_key(&port) {
            return Err(code::IN_USE);
        }
        let index = self.slab.insert(Entry::Listener(Listener::new(port, backlog).into()));
        self.listeners.insert(port, index);
        Ok(self.slab.name(index))
    }

    /// Takes a connection from a listening socket, if there is one.
    pub fn accept(&mut self, socket: Socket) -> Result<Option<(Socket, Address)>, Code> {
        let index = self.slab.index(socket).ok_or(code::BAD_HANDLE)?;
        loop {
            let listener = self.slab.listener(index).ok_or(code::BAD_HANDLE)?;
            let Some(standing) = listener.standing.pop_front() else { return Ok(None) };
            if let Some(connection) = self.slab.connection(standing) {
                connection.owner = Owner::Program;
                let peer = connection.flow.peer;
                return Ok(Some((self.slab.name(standing), peer)));
            }
        }
    }

    /// Begins to connect; [`crate::Event::Connected`] follows.
    pub fn connect(&mut self, destination: Address, now_ns: u64) -> Result<Socket, Code> {
        let peer = plain(destination);
        if peer.port() == 0 || peer.ip().is_unspecified() || peer.ip().is_multicast() {
            return Err(code::NOT_AVAILABLE);
        }
        let source = self.core.output.source(peer.ip()).ok_or(code::UNREACHABLE_NETWORK)?;
        if !self.core.output.is_reachable(peer.ip()) || source == peer.ip() {
            return Err(code::UNREACHABLE_NETWORK);
        }
        let span = u64::from(ANY.end - ANY.start);
        let start = self.core.random() % span;
        let flow = (0..span)
            .map(|step| ANY.start + ((start + step) % span) as u16)
            .map(|port| Flow { local: SocketAddr::new(source, port), peer })
            .find(|flow| !self.core.flows.contains_key(flow))
            .ok_or(code::NOT_AVAILABLE)?;
        let sequence = self.core.initial_sequence(flow, now_ns);
        let connection = Connection::new(flow, Phase::Opening, Owner::Program, sequence, now_ns);
        let index = self.insert(flow, connection);
        if let Some(connection) = self.slab.connection(index) {
            handshake::open(&mut self.core, connection, index, now_ns);
        }
        Ok(self.slab.name(index))
    }

    /// Sends bytes of a connection; with `more` the last part may wait for what follows.
    pub fn send(
        &mut self,
        socket: Socket,
        bytes: &[u8],
        more: bool,
        now_ns: u64,
    ) -> Result<Option<usize>, Code> {
        let mut rest = bytes;
        self.send_with(socket, more, now_ns, &mut |room| {
            let count = rest.len().min(room.len());
            room[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            count
        })
    }

    /// The same for bytes that `write` puts in place: it is given all the room there is, in at most two
    /// pieces, and says how much of each it has used. Less than a piece ends it.
    pub fn send_with(
        &mut self,
        socket: Socket,
        more: bool,
        now_ns: u64,
        write: &mut dyn FnMut(&mut [u8]) -> usize,
    ) -> Result<Option<usize>, Code> {
        self.with(socket, |core, connection, index| {
            program::send(core, connection, index, more, now_ns, write)
        })
    }

    /// Receives bytes of a connection; `Some(0)` is the end. With `peek` they stay.
    pub fn receive(
        &mut self,
        socket: Socket,
        to: &mut [u8],
        peek: bool,
        now_ns: u64,
    ) -> Result<Option<usize>, Code> {
        if peek {
            return self.with(socket, |_, connection, _| program::peek(connection, to));
        }
        let mut filled = 0;
        self.receive_with(socket, now_ns, &mut |bytes| {
            let count = bytes.len().min(to.len() - filled);
            to[filled..filled + count].copy_from_slice(&bytes[..count]);
            filled += count;
            count
        })
    }

    /// The same for bytes that `read` takes: it is given all there are, piece by piece, and says how much of
    /// each it has taken. Less than a piece ends it.
    pub fn receive_with(
        &mut self,
        socket: Socket,
        now_ns: u64,
        read: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Result<Option<usize>, Code> {
        self.with(socket, |core, connection, index| program::receive(core, connection, index, now_ns, read))
    }

    /// Ends directions of a connection.
    pub fn shutdown(&mut self, socket: Socket, how: Shutdown, now_ns: u64) -> Result<(), Code> {
        self.with(socket, |core, connection, index| program::shutdown(core, connection, index, how, now_ns))
    }

    /// Sets an option; what means nothing to a socket of its kind is let pass.
    pub fn set_option(&mut self, socket: Socket, option: SocketOption, now_ns: u64) -> Result<(), Code> {
        let index = self.slab.index(socket).ok_or(code::BAD_HANDLE)?;
        if let Some(connection) = self.slab.connection(index) {
            program::set_option(&mut self.core, connection, index, option, now_ns);
        }
        Ok(())
    }

    /// Gives a socket up. What a connection has sent is still delivered, unless something that it received
    /// was never read, or the program wants it so (SO_LINGER with no time): then it is reset.
    pub fn close(&mut self, socket: Socket, now_ns: u64) {
        let Some(index) = self.slab.index(socket) else { return };
        if let Some(connection) = self.slab.connection(index) {
            program::close(&mut self.core, connection, index, now_ns);
            self.reap(index);
            return;
        }
        match self.slab.remove(index) {
            Entry::Listener(listener) => {
                self.listeners.remove(&listener.port);
                for index in listener.standing.into_iter().chain(listener.begun) {
                    if let Some(connection) = self.slab.connection(index) {
                        connection.owner = Owner::Nobody;
                        rest::abort(&mut self.core, connection, index, now_ns);
                        self.reap(index);
                    }
                }
            }
            Entry::Datagram(datagram) => drop(self.ports.remove(&datagram.port)),
            Entry::Connection(_) | Entry::Free => {}
        }
    }

    /// Resets a connection, and gives it up.
    pub fn abort(&mut self, socket: Socket, now_ns: u64) {
        let aborted = self.with(socket, |core, connection, index| {
            connection.owner = Owner::Nobody;
            rest::abort(core, connection, index, now_ns);
            traffic::finish(core, connection, index, None);
            Ok(index)
        });
        if let Ok(index) = aborted {
            self.reap(index);
        }
    }

    /// What a socket is ready for now.
    pub fn readiness(&mut self, socket: Socket) -> Result<Readiness, Code> {
        let index = self.slab.index(socket).ok_or(code::BAD_HANDLE)?;
        if let Some(connection) = self.slab.connection(index) {
            return Ok(connection.readiness());
        }
        if let Some(listener) = self.slab.listener(index) {
            let waits = !listener.standing.is_empty();
            return Ok(if waits { Readiness::READ } else { Readiness::empty() });
        }
        self.slab.datagram(index).map(|datagram| datagram.readiness()).ok_or(code::BAD_HANDLE)
    }

    /// A socket's own address (unspecified if it is all of them) and its peer's, if it has one.
    pub fn names(&mut self, socket: Socket) -> Result<(Address, Option<Address>), Code> {
        let index = self.slab.index(socket).ok_or(code::BAD_HANDLE)?;
        let everywhere = |port| SocketAddr::new(IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED), port);
        if let Some(connection) = self.slab.connection(index) {
            return Ok((connection.flow.local, Some(connection.flow.peer)));
        }
        if let Some(listener) = self.slab.listener(index) {
            return Ok((everywhere(listener.port), None));
        }
        let datagram = self.slab.datagram(index).ok_or(code::BAD_HANDLE)?;
        Ok((everywhere(datagram.port), datagram.peer))
    }

    /// Bytes that a connection's buffers take now, and how many connections there are: for measurements.
    pub fn usage(&self) -> (usize, usize) {
        (self.core.awake, self.core.flows.len())
    }
}
