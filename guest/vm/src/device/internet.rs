//! TCP/IP of our own over a network card, for machines without our monitor.
//!
//! The stack is one, under one lock; whoever uses it sends what that made necessary. Its addresses come from
//! the command line (`ip=ADDRESS/PREFIX[,GATEWAY[,NAMESERVER]]`, a word for each version of IP) or from the wire:
//! by DHCP and from routers.
//!
//! Frames that a program sends leave when the card's bell rings (`bell.rs`). Each of its pairs of queues has one:
//! those with something untold ring together.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use abi::network::{
    Address, DATAGRAM_HEADER, Protocol, Shutdown, SocketOption, datagram_header, split_datagram,
};
use abi::request::{Reply, Request};
use abi::{Code, Handle};
use machine::{Event, Readiness, Sink, Source, Started, Ticket, Transfer};
use network::{Configuration, Query, Socket, Stack, Version4, Version6};
use spin::{Mutex, Once};

use super::bell::{Bell, Counted};
use super::card::Card;
use super::table::{self, Granted};
use super::{errand, user};
use crate::boot;
use crate::code::{EFAULT, EINVAL, EMSGSIZE};
use crate::cpu::{self, clock, idle};
use crate::virtio::{Device, Transport, Unusable};

/// Bytes of the longest datagram, with the header that names its peer.
const DATAGRAM_MOST: usize = DATAGRAM_HEADER + 65_535;
/// The part of memory that buffers of connections may take.
const SHARE: u64 = 8;
const MTU: u16 = 1500;

struct Network {
    stack: Stack,
    card: Card,
    bell: Bell,
    /// Handles of sockets that are watched.
    watched: BTreeMap<u64, Handle>,
    /// Connections and questions that have no answer yet.
    connecting: BTreeMap<u64, Ticket>,
    asking: BTreeMap<u64, Ticket>,
    /// When the stack is to be looked at, if nothing comes before.
    due_ns: Option<u64>,
    events: Vec<Event>,
}

static NETWORK: Once<Mutex<Network>> = Once::new();
/// The card's.
static TRANSPORT: Once<Arc<dyn Transport>> = Once::new();

/// What kind of socket a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Listener,
    Stream,
    /// Packets carry a header that names the peer.
    Datagrams,
    /// Packets from and to one peer.
    Connected,
}

/// A socket.
pub struct Internet {
    socket: Socket,
    kind: Kind,
}

/// Takes a card over.
pub fn begin(device: Device, seed: [u8; 32]) -> Result<(), Unusable> {
    let card = Card::new(device)?;
    TRANSPORT.call_once(|| card.transport().clone());
    let (version_4, version_6, name_servers) = addresses();
    let configuration = Configuration {
        hardware: card.hardware(),
        mtu: MTU,
        offloads: card.offloads(),
        version_4,
        version_6,
        memory: (crate::memory::frame::free_bytes() / SHARE) as usize,
        name_servers,
    };
    let stack = Stack::new(&configuration, seed, clock::monotonic());
    let Ok(stack) = stack else {
        boot::fatal("ip= on the command line has no address that a machine can have")
    };
    let network = Network {
        stack,
        card,
        bell: Bell::default(),
        watched: BTreeMap::new(),
        connecting: BTreeMap::new(),
        asking: BTreeMap::new(),
        due_ns: None,
        events: Vec::new(),
    };
    let mut network = NETWORK.call_once(|| Mutex::new(network)).lock();
    network.go_on();
    network.tell();
    Ok(())
}

/// Whether there is a card.
pub fn is_there() -> bool {
    NETWORK.get().is_some()
}

/// What the command line says of our addresses: one word for each version of IP.
fn addresses() -> (Version4, Version6, Vec<IpAddr>) {
    let (mut version_4, mut version_6, mut name_servers) =
        (Version4::Dynamic, Version6::Automatic, Vec::new());
    let words = boot::command_line().split(|byte| *byte == b' ');
    for told in words.filter_map(|word| word.strip_prefix(b"ip=")).filter(|told| *told != b"dhcp") {
        let Some((address, prefix, rest)) = core::str::from_utf8(told).ok().and_then(address) else {
            boot::fatal("ip= on the command line is not ADDRESS/PREFIX[,GATEWAY[,NAMESERVER]] or dhcp");
        };
        match (address, rest.first()) {
            (IpAddr::V4(address), None) => {
                version_4 = Version4::Static { address, prefix, gateway: None };
            }
            (IpAddr::V4(address), Some(IpAddr::V4(gateway))) => {
                version_4 = Version4::Static { address, prefix, gateway: Some(*gateway) };
            }
            (IpAddr::V6(address), None) => {
                version_6 = Version6::Static { address, prefix, gateway: None };
            }
            (IpAddr::V6(address), Some(IpAddr::V6(gateway))) => {
                version_6 = Version6::Static { address, prefix, gateway: Some(*gateway) };
            }
            _ => boot::fatal("ip= on the command line has address and gateway of different versions"),
        }
        name_servers.extend(rest.into_iter().skip(1));
    }
    (version_4, version_6, name_servers)
}

/// `ADDRESS/PREFIX`, and the addresses that follow after commas.
fn address(told: &str) -> Option<(IpAddr, u8, Vec<IpAddr>)> {
    let mut parts = told.split(',');
    let (address, prefix) = parts.next()?.split_once('/')?;
    let rest = parts.map(str::parse).collect::<Result<_, _>>().ok()?;
    Some((address.parse().ok()?, prefix.parse().ok()?, rest))
}

impl Network {
    /// Takes what has arrived, does what is due, and sends what there is to send.
    fn go_on(&mut self) {
        let now_ns = clock::monotonic();
        let Self { stack, card, .. } = self;
        card.receive(&mut |frame, verified| stack.deliver(frame, verified, now_ns));
        self.send(now_ns);
    }

    fn send(&mut self, now_ns: u64) {
        let Self { stack, card, bell, .. } = self;
        self.due_ns = stack.poll(now_ns, &mut Counted { card, bell, now_ns });
        // Who sleeps until something happens rings no more.
        if self.bell.is_due(now_ns) || idle::is_watched() {
            self.tell();
        } else if self.bell.is_wanted() {
            idle::set_alarm(cpu::current(), now_ns, self.bell.end_ns());
        }
        while let Some(event) = self.stack.next_event() {
            self.event(event);
        }
    }

    /// Tells the card of what there is to be sent.
    fn tell(&mut self) {
        self.bell.ring(&mut self.card);
    }

    fn event(&mut self, event: network::Event) {
        match event {
            network::Event::Ready { socket, readiness } => {
                if let Some(handle) = self.watched.get(&socket.0) {
                    self.events.push(Event::Ready { handle: *handle, readiness });
                }
            }
            network::Event::Connected { socket, result } => {
                let Some(ticket) = self.connecting.remove(&socket.0) else { return };
                let result = result.and_then(|()| grant(&mut self.stack, socket, Kind::Stream));
                self.events.push(Event::Completed { ticket, result });
            }
            network::Event::Resolved { query, result } => {
                let Some(ticket) = self.asking.remove(&query.0) else { return };
                self.events.push(Event::Completed { ticket, result: result.map(Reply::Bytes) });
            }
        }
    }
}

/// Enters a socket into the table.
fn grant(stack: &mut Stack, socket: Socket, kind: Kind) -> Result<Reply, Code> {
    let (local, peer) = stack.names(socket)?;
    let handle = table::keep(Granted::Internet(Arc::new(Internet { socket, kind })));
    Ok(Reply::Socket { handle, local, peer })
}

/// Answers a request that is about the network, if there is one.
pub fn request(request: &Request<'_>) -> Option<Started> {
    let network = NETWORK.get()?;
    let mut network = network.lock();
    let now_ns = clock::monotonic();
    let ready = |result| Some(Started::Ready(result));
    match *request {
        Request::Listen { port, backlog } => {
            let listening = network.stack.listen(port, backlog);
            ready(listening.and_then(|socket| grant(&mut network.stack, socket, Kind::Listener)))
        }
        Request::Datagram { port } => {
            let bound = network.stack.bind(port);
            ready(bound.and_then(|socket| grant(&mut network.stack, socket, Kind::Datagrams)))
        }
        Request::Connect { protocol: Protocol::Udp, destination } => {
            let bound = network.stack.bind(0).and_then(|socket| {
                network.stack.connect_datagram(socket, Some(destination))?;
                grant(&mut network.stack, socket, Kind::Connected)
            });
            ready(bound)
        }
        Request::Connect { protocol: Protocol::Tcp, destination } => {
            match network.stack.connect(destination, now_ns) {
                Ok(socket) => {
                    let ticket = errand::ticket();
                    network.connecting.insert(socket.0, ticket);
                    network.send(now_ns);
                    Some(Started::Later(ticket))
                }
                Err(code) => ready(Err(code)),
            }
        }
        Request::Resolve { message } => match network.stack.resolve(message, now_ns) {
            Ok(Query(number)) => {
                let ticket = errand::ticket();
                network.asking.insert(number, ticket);
                network.send(now_ns);
                Some(Started::Later(ticket))
            }
            Err(code) => ready(Err(code)),
        },
        _ => None,
    }
}

fn network() -> spin::MutexGuard<'static, Network> {
    NETWORK.get().expect("invariant: sockets exist only with a card").lock()
}

impl Internet {
    pub fn watch(&self, handle: Handle) -> Result<(), Code> {
        let mut network = network();
        network.watched.insert(self.socket.0, handle);
        // That there is something to read may have changed by the time that this is heard.
        let readiness = network.stack.readiness(self.socket)? - (Readiness::READ | Readiness::WRITE);
        if !readiness.is_empty() {
            network.events.push(Event::Ready { handle, readiness });
        }
        Ok(())
    }

    pub fn receive(&self, to: Sink<'_>, peek: bool) -> Result<Transfer, Code> {
        let mut to = user::Sink::new(to);
        let mut network = network();
        let now_ns = clock::monotonic();
        let received = match self.kind {
            Kind::Listener => return Err(EINVAL),
            Kind::Stream if to.room() == 0 => return Ok(Transfer::Done(0)),
            Kind::Stream if peek => {
                let mut bytes = vec![0; to.room().min(64 << 10) as usize];
                let count = network.stack.receive(self.socket, &mut bytes, true, now_ns)?;
                count.map(|count| to.put(&bytes[..count])).transpose().map_err(|_| EFAULT)?
            }
            Kind::Stream => {
                let mut fault = false;
                let count =
                    network.stack.receive_with(self.socket, now_ns, &mut |bytes| match to.put(bytes) {
                        Ok(count) => count,
                        Err(_) => {
                            fault = true;
                            0
                        }
                    })?;
                match count {
                    Some(0) if fault => return Err(EFAULT),
                    count => count,
                }
            }
            Kind::Datagrams | Kind::Connected => {
                let mut bytes = vec![0; DATAGRAM_MOST];
                let header = if self.kind == Kind::Datagrams { DATAGRAM_HEADER } else { 0 };
                let received = network.stack.receive_from(self.socket, &mut bytes[header..], peek)?;
                match received {
                    Some((length, from)) => {
                        bytes[..header].copy_from_slice(&datagram_header(from)[..header]);
                        to.put(&bytes[..header + length]).map_err(|_| EFAULT)?;
                        Some(header + length)
                    }
                    None => None,
                }
            }
        };
        // What was read makes room, which the peer may have to hear of.
        if network.stack.is_busy() {
            network.send(now_ns);
        }
        Ok(received.map_or(Transfer::NotReady, Transfer::Done))
    }

    pub fn send(&self, from: Source<'_>, more: bool) -> Result<Transfer, Code> {
        let from = user::Source::new(from);
        let mut network = network();
        let now_ns = clock::monotonic();
        let sent = match self.kind {
            Kind::Listener => return Err(EINVAL),
            Kind::Stream => {
                let (mut taken, mut fault) = (0, false);
                let total = from.length();
                let sent = network.stack.send_with(self.socket, more, now_ns, &mut |room| {
                    let count = room.len().min(total - taken);
                    if from.copy(taken, &mut room[..count]).is_err() {
                        fault = true;
                        return 0;
                    }
                    taken += count;
                    count
                })?;
                match sent {
                    Some(0) | None if fault => return Err(EFAULT),
                    Some(0) if total > 0 => None,
                    sent => sent,
                }
            }
            Kind::Datagrams | Kind::Connected => {
                if from.length() > DATAGRAM_MOST {
                    return Err(EMSGSIZE);
                }
                let mut bytes = vec![0; from.length()];
                from.copy(0, &mut bytes).map_err(|_| EFAULT)?;
                let length = bytes.len();
                let sent = if self.kind == Kind::Connected {
                    let (_, peer) = network.stack.names(self.socket)?;
                    network.stack.send_to(self.socket, peer.ok_or(EINVAL)?, &bytes, now_ns)?
                } else {
                    let (to, data) = split_datagram(&bytes).ok_or(EINVAL)?;
                    network.stack.send_to(self.socket, to, data, now_ns)?
                };
                sent.map(|_| length)
            }
        };
        network.send(now_ns);
        Ok(sent.map_or(Transfer::NotReady, Transfer::Done))
    }

    pub fn accept(&self) -> Result<Option<(Handle, Address)>, Code> {
        let mut network = network();
        let Some((socket, peer)) = network.stack.accept(self.socket)? else { return Ok(None) };
        let accepted = Internet { socket, kind: Kind::Stream };
        Ok(Some((table::keep(Granted::Internet(Arc::new(accepted))), peer)))
    }

    pub fn shutdown(&self, how: Shutdown) -> Result<(), Code> {
        let mut network = network();
        let now_ns = clock::monotonic();
        network.stack.shutdown(self.socket, how, now_ns)?;
        network.send(now_ns);
        Ok(())
    }

    pub fn set_option(&self, option: SocketOption) -> Result<(), Code> {
        let mut network = network();
        let now_ns = clock::monotonic();
        network.stack.set_option(self.socket, option, now_ns)?;
        network.send(now_ns);
        Ok(())
    }

    pub fn close(&self) {
        let mut network = network();
        let now_ns = clock::monotonic();
        network.watched.remove(&self.socket.0);
        network.stack.close(self.socket, now_ns);
        network.send(now_ns);
    }
}

/// Adds what has happened.
pub fn collect(events: &mut Vec<Event>) {
    let Some(network) = NETWORK.get() else { return };
    let mut network = network.lock();
    let now_ns = clock::monotonic();
    if network.bell.is_due(now_ns) {
        network.tell();
    }
    let due = network.due_ns.is_some_and(|due_ns| due_ns <= now_ns);
    if due || network.card.is_ready() {
        network.go_on();
    }
    events.append(&mut network.events);
}

/// When something is due, if nothing happens before.
pub fn due_ns() -> Option<u64> {
    NETWORK.get().and_then(|network| network.lock().due_ns)
}

pub fn is_ready() -> bool {
    NETWORK.get().is_some_and(|network| network.lock().card.is_ready())
}

/// Wants an interrupt for what arrives next; false if something has.
pub fn await_next() -> bool {
    let Some(network) = NETWORK.get() else { return true };
    let mut network = network.lock();
    network.tell();
    network.card.reclaim();
    network.card.await_next() && network.events.is_empty()
}

/// Has what was sent leave, before the machine ends.
pub fn finish() {
    const PATIENCE_NS: u64 = 100_000_000;
    // Whoever is broken may hold the lock for ever.
    let Some(mut network) = NETWORK.get().and_then(Mutex::try_lock) else { return };
    network.tell();
    let until_ns = clock::monotonic() + PATIENCE_NS;
    while network.card.is_sending() && clock::monotonic() < until_ns {
        network.card.reclaim();
    }
}

pub fn look_away() {
    if let Some(network) = NETWORK.get() {
        network.lock().card.look_away();
    }
}

/// The network may be locked by this very processor, which waits for a page.
pub fn acknowledge() {
    if let Some(transport) = TRANSPORT.get() {
        transport.acknowledge();
    }
}
