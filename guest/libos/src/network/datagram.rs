//! Datagram sockets of the internet families (udp(7)).
//!
//! Datagrams between sockets of the island go from mailbox to mailbox. Those from and to the outside go
//! through a relayed handle, whose packets carry the peer's address in a header, or, on a socket that is
//! connected to somebody outside, through a handle of that connection. The name server is asked through
//! the resolver. Nothing here waits for room: a datagram without is lost.

use alloc::collections::BTreeSet;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::net::IpAddr;

use crate::lock::{Mutex, Once};
use abi::network::{DATAGRAM_HEADER, Protocol, Shutdown, SocketOption, datagram_header, split_datagram};
use abi::request::{Reply, Request};

use super::address::{self, AF_UNSPEC, Address, Name};
use super::errand::Errand;
use super::host::HostSocket;
use super::mailbox::{Mailbox, Message};
use super::message::{Ancillary, Outgoing, Received, flag};
use super::option::Options;
use super::resolver;
use super::socket::{Endpoint, Progress};
use crate::errno::{Errno, Result};
use crate::file::pipe::broken;
use crate::file::ring::{Sink, Source};
use crate::file::{Promise, event, kept};
use crate::kernel::Kernel;
use crate::thread::Thread;
use crate::wait::{Listener as WaitListener, WaitQueue};

/// Bytes of the longest datagram.
const DATAGRAM_MAX: usize = 65_507;
/// Datagrams kept while the relayed handle is asked for.
const OUTBOX_MAX: usize = 64;
/// Loopback peers that are remembered; when there are more, all are forgotten.
const LOOPBACK_PEERS_MAX: usize = 4096;

#[derive(Default)]
struct State {
    local: Option<Address>,
    peer: Option<Address>,
    /// Of the connection to a peer outside.
    direct: Option<Arc<HostSocket>>,
    /// The relayed handle has been asked for.
    opening: bool,
    outbox: Vec<(Address, Vec<u8>)>,
    error: Option<Errno>,
    silent: bool,
    /// Peers outside that were heard from by the machine's loopback interface: by their addresses alone
    /// they could be the island's own.
    loopback_peers: BTreeSet<Address>,
}

/// A datagram socket.
pub struct Datagram {
    this: Weak<Datagram>,
    kernel: Arc<Kernel>,
    domain: u32,
    options: Arc<Options>,
    queue: Arc<WaitQueue>,
    mailbox: Arc<Mailbox>,
    state: Mutex<State>,
    relay: Once<HostSocket>,
    /// Where packets of the relayed handle are unwrapped; empty until the first.
    scratch: Mutex<Vec<u8>>,
}

impl Datagram {
    pub fn new(kernel: &Arc<Kernel>, domain: u32, options: &Arc<Options>) -> Arc<Self> {
        let queue = Arc::new(WaitQueue::new());
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            kernel: kernel.clone(),
            domain,
            options: options.clone(),
            mailbox: Mailbox::new(&queue),
            queue,
            state: Mutex::default(),
            relay: Once::new(),
            scratch: Mutex::default(),
        })
    }

    fn weak(&self) -> Weak<dyn Endpoint> {
        self.this.clone()
    }

    /// Claims an address, unless the socket has one.
    fn claim(&self, wanted: Address) -> Result<Address> {
        let mut state = self.state.lock();
        if let Some(local) = state.local {
            return Ok(local);
        }
        let local = self.kernel.network.datagrams.claim(wanted, self.weak(), &self.options)?;
        state.local = Some(local);
        Ok(local)
    }

    fn listen_to(&self, host: &HostSocket) {
        let listener: Weak<dyn WaitListener> = self.this.clone();
        host.watched.queue.listen(listener);
    }

    /// Gets the relayed handle: that of a published port, or (0) a fresh one.
    async fn open_relay(self: Arc<Self>, port: u16) -> Result<()> {
        let reply = self.kernel.devices.request(&self.kernel, Request::Datagram { port }).await;
        let host = match reply {
            Ok(Reply::Socket { handle, .. }) => {
                HostSocket::adopt(&self.kernel, handle, false, &Options::default())
            }
            Ok(_) => Err(Errno::EIO),
            Err(errno) => Err(errno),
        };
        let mut state = self.state.lock();
        state.opening = false;
        let outbox = core::mem::take(&mut state.outbox);
        match host {
            Ok(host) => {
                drop(state);
                self.listen_to(&host);
                let relay = self.relay.call_once(|| host);
                for (to, data) in outbox {
                    // Lost if the relay has no room: these are datagrams.
                    let _ = self.relay_packet(relay, to, &data);
                }
                self.queue.notify();
                Ok(())
            }
            Err(errno) => {
                state.error = Some(errno);
                drop(state);
                self.queue.notify();
                Err(errno)
            }
        }
    }

    /// Sends one packet with its header; false if there was no room.
    fn relay_packet(&self, relay: &HostSocket, to: Address, data: &[u8]) -> Result<bool> {
        let mut packet = Vec::with_capacity(DATAGRAM_HEADER + data.len());
        packet.extend_from_slice(&datagram_header(to));
        packet.extend_from_slice(data);
        Ok(relay.send_quietly(&Source::Kernel(&packet))?.is_some())
    }

    fn send_outside(&self, to: Address, data: Vec<u8>) -> Result<Option<usize>> {
        let length = data.len();
        if let Some(relay) = self.relay.get() {
            return Ok(self.relay_packet(relay, to, &data)?.then_some(length));
        }
        if !self.kernel.network.outgoing {
            return Err(Errno::ENETUNREACH);
        }
        let mut state = self.state.lock();
        if state.outbox.len() < OUTBOX_MAX {
            state.outbox.push((to, data));
        }
        if !state.opening {
            state.opening = true;
            drop(state);
            let this = self.this.upgrade().ok_or(Errno::EIO)?;
            Errand::start(Promise::later(this.open_relay(0)));
        }
        Ok(Some(length))
    }

    /// Delivers to a socket of the island.
    fn send_inside(&self, to: Address, data: Vec<u8>, connected: bool) -> Result<Option<usize>> {
        let length = data.len();
        let to = Address::new(address::concrete(to.ip()), to.port());
        let local = self.claim(address::any(self.domain))?;
        let from = Address::new(if local.ip().is_unspecified() { to.ip() } else { local.ip() }, local.port());
        let hears = |owner: &dyn Endpoint| {
            owner.as_any().downcast_ref::<Datagram>().is_some_and(|datagram| datagram.hears(from))
        };
        let found = self.kernel.network.datagrams.find(to, hears);
        match found.as_ref().and_then(|owner| owner.as_any().downcast_ref::<Datagram>()) {
            Some(target) => {
                let from = Some(Name::internet(target.domain, from));
                target.mailbox.post(Message {
                    data,
                    from,
                    to: Some(to.ip()),
                    ancillary: Ancillary::default(),
                });
            }
            // As if the refusal had come back as an ICMP message: only a connected socket hears of it.
            None if connected => {
                self.state.lock().error = Some(Errno::ECONNREFUSED);
                self.queue.notify();
            }
            None => {}
        }
        Ok(Some(length))
    }

    /// Whether datagrams from an address are welcome.
    fn hears(&self, from: Address) -> bool {
        self.state.lock().peer.is_none_or(|peer| peer == from)
    }

    /// Receives from the relayed handle.
    fn receive_relayed(&self, relay: &HostSocket, to: &mut Sink<'_>, flags: u32) -> Result<Option<Received>> {
        let mut scratch = self.scratch.lock();
        if scratch.is_empty() {
            scratch.resize(DATAGRAM_HEADER + DATAGRAM_MAX, 0);
        }
        let peer = self.state.lock().peer;
        loop {
            let Some(packet) = relay.receive(Sink::Kernel(&mut scratch), flags)? else { return Ok(None) };
            let length = packet.length;
            match split_datagram(&scratch[..length]) {
                Some((from, payload)) if peer.is_none_or(|peer| peer == from) => {
                    self.remember(from);
                    return Ok(Some(Received {
                        length: to.copy(0, payload)?,
                        full: payload.len(),
                        from: Some(Name::internet(self.domain, from)),
                        reached: Some(address::reached(from.ip())),
                        ..Received::default()
                    }));
                }
                // Not for this socket, or no packet at all: taken, if it was only looked at.
                _ if flags & flag::PEEK != 0 => {
                    relay.receive(Sink::Kernel(&mut scratch), 0)?;
                }
                _ if length == 0 => return Ok(None),
                _ => {}
            }
        }
    }

    /// Notes that somebody outside has this address.
    fn remember(&self, from: Address) {
        if from.ip().is_loopback() {
            let peers = &mut self.state.lock().loopback_peers;
            if peers.len() >= LOOPBACK_PEERS_MAX {
                peers.clear();
            }
            peers.insert(from);
        }
    }

    /// Whether an address of the island's is somebody's outside: he has been heard from, or nobody on the
    /// island has it.
    fn goes_outside(&self, to: Address) -> bool {
        if self.state.lock().loopback_peers.contains(&to) {
            return true;
        }
        let to = Address::new(address::concrete(to.ip()), to.port());
        let network = &self.kernel.network;
        network.may_be_outside(to) && network.datagrams.find(to, |_| true).is_none()
    }

    /// Takes somebody for the peer without a connection outside.
    fn connect_inside(&self, to: Address) -> Result<()> {
        let to = Address::new(address::concrete(to.ip()), to.port());
        let local = self.claim(address::any(self.domain))?;
        let mut state = self.state.lock();
        state.peer = Some(to);
        if local.ip().is_unspecified() && address::is_own(to.ip()) {
            let ip =
                if to.ip().is_loopback() && to.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { to.ip() };
            state.local = Some(Address::new(ip, local.port()));
        }
        let direct = state.direct.take();
        drop(state);
        drop(direct);
        Ok(())
    }

    fn connect_outside(&self, to: Address) -> Result<Progress> {
        if !self.kernel.network.outgoing {
            return Err(Errno::ENETUNREACH);
        }
        let this = self.this.upgrade().ok_or(Errno::EIO)?;
        Ok(Progress::later(async move {
            let request = Request::Connect { protocol: Protocol::Udp, destination: to };
            let reply = match this.kernel.devices.request(&this.kernel, request).await {
                Err(Errno::ENETUNREACH) if address::is_own(to.ip()) => {
                    return this.connect_inside(to).map(|()| Progress::Done);
                }
                other => other?,
            };
            let Reply::Socket { handle, local, .. } = reply else { return Err(Errno::EIO) };
            let host = Arc::new(HostSocket::adopt(&this.kernel, handle, false, &this.options)?);
            this.listen_to(&host);
            let mut state = this.state.lock();
            state.peer = Some(to);
            state.local.get_or_insert(local);
            let before = state.direct.replace(host);
            drop(state);
            drop(before);
            Ok(Progress::Done)
        }))
    }
}

impl WaitListener for Datagram {
    fn changed(&self) {
        self.queue.notify();
    }
}

impl Endpoint for Datagram {
    fn bind(&self, _thread: &Arc<Thread>, bytes: &[u8]) -> Promise<()> {
        let claimed = address::internet(self.domain, bytes).and_then(|wanted| {
            let fresh = self.state.lock().local.is_none();
            if fresh { self.claim(wanted) } else { Err(Errno::EINVAL) }
        });
        match (claimed, self.this.upgrade()) {
            (Ok(local), Some(this)) if self.kernel.network.is_published(Protocol::Udp, local.port()) => {
                Promise::later(this.open_relay(local.port()))
            }
            (claimed, _) => kept(claimed.map(|_| ())),
        }
    }

    fn connect(&self, _thread: &Arc<Thread>, bytes: &[u8]) -> Result<Progress> {
        if address::family(bytes)? == AF_UNSPEC {
            let mut state = self.state.lock();
            state.peer = None;
            let direct = state.direct.take();
            drop(state);
            drop(direct);
            return Ok(Progress::Done);
        }
        let to = address::internet(self.domain, bytes)?;
        let relayed = self.relay.is_completed();
        if !relayed && (!address::is_own(to.ip()) || self.goes_outside(to)) {
            return self.connect_outside(to);
        }
        self.connect_inside(to).map(|()| Progress::Done)
    }

    fn send(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) -> Result<Option<usize>> {
        let mut state = self.state.lock();
        if let Some(errno) = state.error.take() {
            return Err(errno);
        }
        if state.silent {
            drop(state);
            let quiet = outgoing.flags & flag::NO_SIGNAL != 0;
            return Err(if quiet { Errno::EPIPE } else { broken(thread) });
        }
        let (peer, direct) = (state.peer, state.direct.clone());
        drop(state);
        let to = match outgoing.to {
            Some(bytes) => address::internet(self.domain, bytes)?,
            None => peer.ok_or(Errno::EDESTADDRREQ)?,
        };
        if let Some(direct) = direct.filter(|_| peer == Some(to)) {
            return direct.send(thread, &outgoing.from, outgoing.flags);
        }
        let data = outgoing.from.gather(DATAGRAM_MAX)?;
        if to == resolver::ADDRESS {
            let length = data.len();
            self.claim(address::any(self.domain))?;
            resolver::ask(&self.kernel, self.domain, data, &self.mailbox);
            return Ok(Some(length));
        }
        if address::is_own(to.ip()) && !self.goes_outside(to) {
            self.send_inside(to, data, outgoing.to.is_none())
        } else {
            self.send_outside(to, data)
        }
    }

    fn receive(&self, _thread: &Arc<Thread>, to: Sink<'_>, flags: u32) -> Result<Option<Received>> {
        let mut to = to;
        let mut state = self.state.lock();
        if let Some(errno) = state.error.take() {
            return Err(errno);
        }
        let (peer, direct) = (state.peer, state.direct.clone());
        drop(state);
        if self.mailbox.has_mail() {
            return self.mailbox.take(to, flags);
        }
        if let Some(direct) = direct
            && let Some(mut received) = direct.receive(to.again(), flags)?
        {
            received.from = peer.map(|peer| Name::internet(self.domain, peer));
            return Ok(Some(received));
        }
        match self.relay.get() {
            Some(relay) => self.receive_relayed(relay, &mut to, flags),
            None => Ok(None),
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        let mut state = self.state.lock();
        if state.peer.is_none() {
            return Err(Errno::ENOTCONN);
        }
        state.silent |= how != Shutdown::Read;
        drop(state);
        if how != Shutdown::Write {
            self.mailbox.end();
        }
        self.queue.notify();
        Ok(())
    }

    fn name(&self) -> Name {
        Name::internet(self.domain, self.state.lock().local.unwrap_or(address::any(self.domain)))
    }

    fn peer(&self) -> Result<Name> {
        let peer = self.state.lock().peer.ok_or(Errno::ENOTCONN)?;
        Ok(Name::internet(self.domain, peer))
    }

    fn events(&self) -> u32 {
        let (error, direct) = {
            let state = self.state.lock();
            (state.error.is_some(), state.direct.clone())
        };
        let mut events = 0;
        if error {
            events |= event::ERROR | event::IN | event::READ_NORMAL;
        }
        if self.mailbox.has_mail() {
            events |= event::IN | event::READ_NORMAL;
        }
        let direct = direct.map(|direct| direct.events());
        let relay = self.relay.get().map(|relay| relay.events());
        // What is sent goes one way; inside the island there is always room.
        let writable = event::OUT | event::WRITE_NORMAL;
        events |= direct.or(relay).map_or(writable, |events| events & writable);
        let readable = event::IN | event::READ_NORMAL | event::ERROR;
        events | (direct.unwrap_or(0) | relay.unwrap_or(0)) & readable
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn outside(&self) -> bool {
        self.kernel.network.reaches_outside()
    }

    fn unread(&self) -> usize {
        match self.mailbox.next_length() {
            0 => {}
            length => return length,
        }
        let direct = self.state.lock().direct.clone();
        match (direct, self.relay.get()) {
            (Some(direct), _) => direct.unread(),
            (None, Some(relay)) => relay.unread().saturating_sub(DATAGRAM_HEADER),
            (None, None) => 0,
        }
    }

    fn take_error(&self) -> Option<Errno> {
        let (own, direct) = {
            let mut state = self.state.lock();
            (state.error.take(), state.direct.clone())
        };
        own.or_else(|| direct?.error())
    }

    fn forward(&self, option: SocketOption) -> Result<()> {
        let direct = self.state.lock().direct.clone();
        direct.map_or(Ok(()), |direct| direct.set_option(option))
    }

    fn close(&self) {
        let local = self.state.lock().local;
        if let Some(local) = local {
            self.kernel.network.datagrams.release(local.port(), &self.weak());
        }
        self.mailbox.refuse();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
