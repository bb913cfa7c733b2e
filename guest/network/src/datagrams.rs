//! What the machine does with datagram sockets, and questions to name servers.

use core::net::SocketAddr;

use abi::Code;
use abi::network::Address;

use crate::datagram::{self, Datagram};
use crate::event::{Query, Socket, code};
use crate::question::{self, Question};
use crate::slab::Entry;
use crate::sockets::{ANY, plain};
use crate::stack::{Port, Stack};

impl Stack {
    /// A datagram socket at a port, or (0) at any.
    pub fn bind(&mut self, port: u16) -> Result<Socket, Code> {
        let port = if port == 0 { self.any_port()? } else { port };
        if self.ports.contains_key(&port) {
            return Err(code::IN_USE);
        }
        let index = self.slab.insert(Entry::Datagram(Datagram::new(port).into()));
        self.ports.insert(port, Port::Socket(index));
        Ok(self.slab.name(index))
    }

    fn any_port(&mut self) -> Result<u16, Code> {
        let span = u64::from(ANY.end - ANY.start);
        let start = self.core.random() % span;
        let mut ports = (0..span).map(|step| ANY.start + ((start + step) % span) as u16);
        ports.find(|port| !self.ports.contains_key(port)).ok_or(code::NOT_AVAILABLE)
    }

    fn datagram_socket(&mut self, socket: Socket) -> Result<(u32, &mut Datagram), Code> {
        let index = self.slab.index(socket).ok_or(code::BAD_HANDLE)?;
        self.slab.datagram(index).map(|datagram| (index, datagram)).ok_or(code::BAD_HANDLE)
    }

    /// Receives from there only, and hears of what is reported about it; `None` ends that.
    pub fn connect_datagram(&mut self, socket: Socket, peer: Option<Address>) -> Result<(), Code> {
        self.datagram_socket(socket)?.1.peer = peer.map(plain);
        Ok(())
    }

    /// Sends a datagram; `None` if there is no room.
    pub fn send_to(
        &mut self,
        socket: Socket,
        destination: Address,
        payload: &[u8],
        now_ns: u64,
    ) -> Result<Option<usize>, Code> {
        let destination = plain(destination);
        let (index, datagram) = self.datagram_socket(socket)?;
        if let Some(error) = datagram.error.take() {
            return Err(error);
        }
        let port = datagram.port;
        if destination.port() == 0 || destination.ip().is_unspecified() {
            return Err(code::INVALID);
        }
        if payload.len() > datagram::longest(destination.ip()) {
            return Err(code::TOO_LONG);
        }
        let source = self.core.output.source(destination.ip()).ok_or(code::UNREACHABLE_NETWORK)?;
        if !self.core.output.is_reachable(destination.ip()) {
            return Err(code::UNREACHABLE_NETWORK);
        }
        if !self.core.output.has_room() {
            if let Some(datagram) = self.slab.datagram(index) {
                datagram.crowded = true;
                self.crowded.push(index);
            }
            return Ok(None);
        }
        let identification = self.core.random() as u32;
        let from = SocketAddr::new(source, port);
        for packet in
            datagram::packets(from, destination, payload, self.core.output.network.mtu, identification)
        {
            self.core.output.packet(packet, destination.ip(), now_ns);
        }
        Ok(Some(payload.len()))
    }

    /// Receives a datagram: its full length, of which as much is written as there is room for, and its
    /// source. With `peek` it stays.
    pub fn receive_from(
        &mut self,
        socket: Socket,
        to: &mut [u8],
        peek: bool,
    ) -> Result<Option<(usize, Address)>, Code> {
        let (_, datagram) = self.datagram_socket(socket)?;
        if let Some(error) = datagram.error.take() {
            return Err(error);
        }
        let Some((from, bytes)) = datagram.first() else { return Ok(None) };
        let length = bytes.len();
        let count = length.min(to.len());
        to[..count].copy_from_slice(&bytes[..count]);
        if !peek {
            datagram.pop();
        }
        Ok(Some((length, from)))
    }

    /// Asks the name servers; [`crate::Event::Resolved`] follows.
    pub fn resolve(&mut self, message: &[u8], now_ns: u64) -> Result<Query, Code> {
        if self.core.output.network.name_servers.is_empty() {
            return Err(code::UNREACHABLE_NETWORK);
        }
        if self.questions.len() >= question::LIMIT {
            return Err(code::IN_USE);
        }
        let port = self.any_port()?;
        let query = Query(self.asked);
        let question = Question::new(query, port, message, now_ns).ok_or(code::INVALID)?;
        self.asked += 1;
        self.ports.insert(port, Port::Question(query.0));
        self.questions.insert(query.0, question);
        Ok(query)
    }
}
