//! Stream sockets of the internet families (tcp(7)), inside the island and through granted handles.
//!
//! Once connected, a socket's link never changes, so that reads and writes take no lock. The queue is
//! the handle's own for connections accepted from outside; a socket that connects may be polled before
//! its handle exists, so it has a queue of its own and passes the handle's news on.

use alloc::sync::{Arc, Weak};
use core::any::Any;
use core::sync::atomic::Ordering;

use crate::lock::{Mutex, Once};
use abi::network::{Protocol, Shutdown, SocketOption};
use abi::request::{Reply, Request};

use super::address::{self, AF_INET, AF_UNSPEC, Address, Name};
use super::connection::Connection;
use super::errand::Errand;
use super::host::HostSocket;
use super::listener::{Arrival, HostListener, Listener, Share};
use super::message::{Outgoing, Received};
use super::option::Options;
use super::socket::{Endpoint, Progress, STREAM, Socket};
use crate::errno::{Errno, Result};
use crate::file::pipe::broken;
use crate::file::ring::Sink;
use crate::file::{Promise, event, kept};
use crate::kernel::Kernel;
use crate::thread::Thread;
use crate::wait::{Listener as WaitListener, WaitQueue};

enum Link {
    Inside(Connection),
    Outside {
        host: HostSocket,
        /// Whether the handle's queue is the socket's.
        direct: bool,
    },
}

#[derive(Default)]
struct State {
    /// Claimed in the port table.
    claimed: bool,
    local: Option<Address>,
    peer: Option<Address>,
    connecting: bool,
    /// Outcome of a connect nobody has asked for yet.
    outcome: Option<Result<()>>,
    closed: bool,
}

/// A stream socket.
pub struct InetStream {
    this: Weak<InetStream>,
    kernel: Arc<Kernel>,
    domain: u32,
    options: Arc<Options>,
    queue: Arc<WaitQueue>,
    state: Mutex<State>,
    listener: Once<Listener>,
    link: Once<Link>,
}

impl InetStream {
    pub fn new(kernel: &Arc<Kernel>, domain: u32, options: &Arc<Options>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            kernel: kernel.clone(),
            domain,
            options: options.clone(),
            queue: Arc::new(WaitQueue::new()),
            state: Mutex::default(),
            listener: Once::new(),
            link: Once::new(),
        })
    }

    /// Why it could not connect, told once.
    fn failure(&self) -> Result<()> {
        let mut state = self.state.lock();
        let failed = matches!(state.outcome, Some(Err(_)));
        if failed { state.outcome.take().unwrap_or(Ok(())) } else { Ok(()) }
    }

    /// Whether the other end of a connection on the island is gone.
    pub fn is_left(&self) -> bool {
        matches!(self.link.get(), Some(Link::Inside(connection)) if connection.is_left())
    }

    /// A connection that nobody has accepted is reset.
    fn refuse(&self) {
        if let Some(Link::Inside(connection)) = self.link.get() {
            connection.close(true);
        }
    }

    /// Nobody accepts any more: those who wait hear of it.
    fn end_listening(&self, listener: &Listener) {
        for arrival in listener.end() {
            match arrival {
                Arrival::Inside(end, _) => end.refuse(),
                Arrival::Outside(handle, _) => self.kernel.machine.close(handle),
            }
        }
    }

    fn link(&self) -> Result<&Link> {
        self.link.get().ok_or(Errno::ENOTCONN)
    }

    /// Whether connections of a version come to a socket of this kind.
    fn hears(&self, version_4: bool) -> bool {
        match self.domain {
            AF_INET => version_4,
            _ => !version_4 || !self.options.only_version_6.load(Ordering::Relaxed),
        }
    }

    fn inline(&self) -> bool {
        self.options.urgent_inline.load(Ordering::Relaxed)
    }

    fn weak(&self) -> Weak<dyn Endpoint> {
        self.this.clone()
    }

    /// Claims an address, unless the socket has one.
    fn claim(&self, wanted: Address) -> Result<()> {
        let mut state = self.state.lock();
        if state.claimed {
            return Err(Errno::EINVAL);
        }
        let local = self.kernel.network.streams.claim(wanted, self.weak(), &self.options)?;
        state.local = Some(local);
        state.claimed = true;
        Ok(())
    }

    /// Connects to a listener of the island.
    fn connect_inside(&self, to: Address) -> Result<Progress> {
        let to = Address::new(address::concrete(to.ip()), to.port());
        let network = &self.kernel.network;
        let Some(found) = network.streams.find(to, |owner| owner.listening()) else {
            return if network.may_be_outside(to) {
                self.connect_outside(to)
            } else {
                Err(Errno::ECONNREFUSED)
            };
        };
        let target = found.as_any().downcast_ref::<InetStream>().ok_or(Errno::ECONNREFUSED)?;
        let listener = target.listener.get().ok_or(Errno::ECONNREFUSED)?;
        let mut state = self.state.lock();
        let port = state.local.map_or_else(|| network.streams.unclaimed(), |local| local.port());
        // The near end has the address it reached: both are the island.
        let local = state.local.filter(|local| !local.ip().is_unspecified());
        let local = Address::new(local.map_or(to.ip(), |local| local.ip()), port);
        state.local = Some(local);
        state.peer = Some(to);
        drop(state);
        let end = InetStream::new(&self.kernel, target.domain, &Arc::new(target.options.inherit()));
        {
            let mut state = end.state.lock();
            state.local = Some(to);
            state.peer = Some(local);
        }
        let (near, far) = Connection::pair(&self.queue, &end.queue, true);
        end.link.call_once(|| Link::Inside(far));
        if !listener.arrive(Arrival::Inside(end, local)) {
            return Err(Errno::ECONNREFUSED);
        }
        self.link.call_once(|| Link::Inside(near));
        target.queue.notify();
        self.queue.notify();
        Ok(Progress::Done)
    }

    /// Asks for a connection to the outside.
    fn connect_outside(&self, to: Address) -> Result<Progress> {
        if !self.kernel.network.outgoing {
            return Err(Errno::ENETUNREACH);
        }
        let this = self.this.upgrade().ok_or(Errno::EIO)?;
        self.state.lock().connecting = true;
        Errand::start(Promise::later(async move {
            let request = Request::Connect { protocol: Protocol::Tcp, destination: to };
            let reply = this.kernel.devices.request(&this.kernel, request).await;
            this.finish(to, reply);
            Ok(())
        }));
        Ok(Progress::Started)
    }

    /// The connect is over.
    fn finish(&self, to: Address, reply: Result<Reply>) {
        let adopted = match reply {
            Ok(Reply::Socket { handle, local, peer }) => {
                HostSocket::adopt(&self.kernel, handle, true, &self.options)
                    .map(|host| (host, local, peer.unwrap_or(to)))
            }
            Ok(_) => Err(Errno::EIO),
            // What is not granted of the machine's loopback is the island's own, where nobody listens.
            Err(Errno::ENETUNREACH) if address::is_own(to.ip()) => Err(Errno::ECONNREFUSED),
            Err(errno) => Err(errno),
        };
        let mut state = self.state.lock();
        state.connecting = false;
        match adopted {
            // Closed meanwhile: the handle goes with the host socket, outside the lock.
            Ok(unwanted) if state.closed => {
                drop(state);
                drop(unwanted);
                return;
            }
            Ok((host, local, peer)) => {
                state.local = Some(local);
                state.peer = Some(peer);
                state.outcome = Some(Ok(()));
                let listener: Weak<dyn WaitListener> = self.this.clone();
                host.watched.queue.listen(listener);
                self.link.call_once(|| Link::Outside { host, direct: false });
            }
            Err(errno) => state.outcome = Some(Err(errno)),
        }
        drop(state);
        self.queue.notify();
    }

    /// Makes the socket of an arrival.
    fn admit(&self, arrival: Arrival) -> Result<(Arc<Socket>, Name)> {
        let (end, from) = match arrival {
            Arrival::Inside(end, from) => (end, from),
            Arrival::Outside(handle, from) => {
                let options = Arc::new(self.options.inherit());
                let host = HostSocket::adopt(&self.kernel, handle, true, &options)?;
                let end = InetStream::new(&self.kernel, self.domain, &options);
                {
                    let mut state = end.state.lock();
                    state.local = self.state.lock().local.map(|local| {
                        let ip = if local.ip().is_unspecified() {
                            address::reached(from.ip())
                        } else {
                            local.ip()
                        };
                        Address::new(ip, local.port())
                    });
                    state.peer = Some(from);
                }
                end.link.call_once(|| Link::Outside { host, direct: true });
                (end, from)
            }
        };
        let options = end.options.clone();
        Ok((Socket::new(self.domain, STREAM, options, end), Name::internet(self.domain, from)))
    }
}

impl WaitListener for InetStream {
    fn changed(&self) {
        self.queue.notify();
    }
}

impl Endpoint for InetStream {
    fn bind(&self, _thread: &Arc<Thread>, bytes: &[u8]) -> Promise<()> {
        kept(address::internet(self.domain, bytes).and_then(|wanted| self.claim(wanted)))
    }

    fn listen(&self, _thread: &Arc<Thread>, backlog: u32) -> Promise<()> {
        let limit = backlog.clamp(1, super::local::BACKLOG_MAX);
        if self.listener.is_completed() {
            return kept(Ok(()));
        }
        let Some(this) = self.this.upgrade().filter(|_| !self.link.is_completed()) else {
            return kept(Err(Errno::EINVAL));
        };
        Promise::later(async move {
            if !this.state.lock().claimed {
                this.claim(address::any(this.domain))?;
            }
            let port = this.state.lock().local.map_or(0, |local| local.port());
            let host = HostListener::open(&this.kernel, port, limit).await?;
            let share = host.map(|host| {
                let kin = this.hears(host.version_4);
                Share::new(host, this.this.clone(), kin)
            });
            this.listener.call_once(|| Listener::new(share, limit));
            this.queue.notify();
            Ok(())
        })
    }

    fn accept(&self, _thread: &Arc<Thread>) -> Result<Option<(Arc<Socket>, Name)>> {
        let listener = self.listener.get().ok_or(Errno::EINVAL)?;
        listener.take()?.map(|arrival| self.admit(arrival)).transpose()
    }

    fn connect(&self, _thread: &Arc<Thread>, bytes: &[u8]) -> Result<Progress> {
        if address::family(bytes)? == AF_UNSPEC {
            return Ok(Progress::Done);
        }
        let to = address::internet(self.domain, bytes)?;
        let mut state = self.state.lock();
        if state.connecting {
            return Ok(Progress::UnderWay);
        }
        match state.outcome.take() {
            Some(Ok(())) => return Ok(Progress::Done),
            Some(Err(errno)) => return Err(errno),
            None if self.link.is_completed() || self.listener.is_completed() => return Err(Errno::EISCONN),
            None => {}
        }
        drop(state);
        if !address::is_own(to.ip()) {
            return self.connect_outside(to);
        }
        // As on a network the outcome comes after the call, which says only that it has begun.
        let outcome = match self.connect_inside(to) {
            Ok(Progress::Done) => Ok(()),
            Err(Errno::ECONNREFUSED) => Err(Errno::ECONNREFUSED),
            other => return other,
        };
        self.state.lock().outcome = Some(outcome);
        self.queue.notify();
        Ok(Progress::Started)
    }

    fn connected(&self) -> Option<Result<()>> {
        let mut state = self.state.lock();
        if state.connecting { None } else { Some(state.outcome.take().unwrap_or(Ok(()))) }
    }

    fn send(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) -> Result<Option<usize>> {
        match self.link.get() {
            Some(Link::Outside { host, .. }) => host.send(thread, &outgoing.from, outgoing.flags),
            Some(Link::Inside(connection)) => {
                outgoing.ancillary = Default::default();
                connection.send(thread, outgoing)
            }
            None if self.state.lock().connecting => Ok(None),
            None => {
                self.failure()?;
                let silent = outgoing.flags & super::message::flag::NO_SIGNAL != 0;
                Err(if silent { Errno::EPIPE } else { broken(thread) })
            }
        }
    }

    fn receive(&self, _thread: &Arc<Thread>, to: Sink<'_>, flags: u32) -> Result<Option<Received>> {
        match self.link.get() {
            Some(Link::Outside { host, .. }) => host.receive(to, flags),
            Some(Link::Inside(connection)) => connection.receive(to, flags, self.inline()),
            None if self.state.lock().connecting => Ok(None),
            None => self.failure().and(Err(Errno::ENOTCONN)),
        }
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        if let Some(listener) = self.listener.get() {
            if how != Shutdown::Write {
                self.end_listening(listener);
                self.queue.notify();
            }
            return Ok(());
        }
        match self.link()? {
            Link::Inside(connection) => connection.shutdown(how),
            Link::Outside { host, .. } => host.shutdown(how)?,
        }
        Ok(())
    }

    fn name(&self) -> Name {
        let local = self.state.lock().local.unwrap_or(address::any(self.domain));
        Name::internet(self.domain, local)
    }

    fn peer(&self) -> Result<Name> {
        self.link()?;
        if self.events() & event::HANGUP != 0 {
            return Err(Errno::ENOTCONN);
        }
        let peer = self.state.lock().peer.ok_or(Errno::ENOTCONN)?;
        Ok(Name::internet(self.domain, peer))
    }

    fn events(&self) -> u32 {
        if let Some(link) = self.link.get() {
            return match link {
                Link::Inside(connection) => connection.events(self.inline()),
                Link::Outside { host, .. } => host.events(),
            };
        }
        if let Some(listener) = self.listener.get() {
            let over = if listener.is_over() { event::HANGUP | event::READ_HANGUP } else { 0 };
            let waits = over != 0 || listener.has_arrival();
            return if waits { event::IN | event::READ_NORMAL | over } else { 0 };
        }
        let state = self.state.lock();
        match (state.connecting, state.outcome) {
            (true, _) => 0,
            (_, Some(Err(_))) => event::IN | event::OUT | event::ERROR | event::HANGUP | event::READ_HANGUP,
            _ => event::OUT | event::HANGUP,
        }
    }

    fn queue(&self) -> &WaitQueue {
        match self.link.get() {
            Some(Link::Outside { host, direct: true }) => &host.watched.queue,
            _ => &self.queue,
        }
    }

    fn outside(&self) -> bool {
        self.kernel.network.reaches_outside() && !matches!(self.link.get(), Some(Link::Inside(_)))
    }

    fn unread(&self) -> usize {
        match self.link.get() {
            Some(Link::Inside(connection)) => connection.unread(),
            Some(Link::Outside { host, .. }) => host.unread(),
            None => 0,
        }
    }

    fn unsent(&self) -> usize {
        match self.link.get() {
            Some(Link::Inside(connection)) => connection.unsent(),
            _ => 0,
        }
    }

    fn listening(&self) -> bool {
        self.listener.is_completed()
    }

    fn takes_urgent(&self) -> bool {
        matches!(self.link.get(), Some(Link::Inside(_)))
    }

    fn at_mark(&self) -> bool {
        matches!(self.link.get(), Some(Link::Inside(connection)) if connection.at_mark())
    }

    fn take_error(&self) -> Option<Errno> {
        let outcome = self.state.lock().outcome.take();
        match (outcome, self.link.get()) {
            (Some(Err(errno)), _) => Some(errno),
            (_, Some(Link::Inside(connection))) => connection.take_error(),
            (_, Some(Link::Outside { host, .. })) => host.error(),
            _ => None,
        }
    }

    fn forward(&self, option: SocketOption) -> Result<()> {
        match self.link.get() {
            Some(Link::Outside { host, .. }) => host.set_option(option),
            _ => Ok(()),
        }
    }

    fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let claimed = state.local.filter(|_| state.claimed);
        drop(state);
        if let Some(local) = claimed {
            self.kernel.network.streams.release(local.port(), &self.weak());
        }
        if let Some(listener) = self.listener.get() {
            self.end_listening(listener);
        }
        if let Some(Link::Inside(connection)) = self.link.get() {
            connection.close(self.options.aborts());
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
