//! Connected local sockets: AF_UNIX streams and sequenced packets (unix(7)).
//!
//! A connect makes the other end and puts it into the listener's backlog; from then on both ends are
//! equal, and data may flow before the connection is accepted.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

use crate::lock::{Mutex, Once};
use abi::network::Shutdown;

use super::address::{AF_UNIX, LocalName, Name};
use super::connection::Connection;
use super::mailbox::{Mailbox, Message, Posted};
use super::message::{Credentials, Outgoing, Received, flag};
use super::option::Options;
use super::rendezvous::{self, Bound, Named};
use super::socket::{Endpoint, Progress, SEQUENCED, STREAM, Socket};
use crate::errno::{Errno, Result};
use crate::file::pipe::broken;
use crate::file::ring::Sink;
use crate::file::{Description, Promise, event, kept};
use crate::kernel::Kernel;
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// The longest backlog (/proc/sys/net/core/somaxconn).
pub const BACKLOG_MAX: u32 = 4096;
/// Bytes of the longest sequenced packet.
const PACKET_MAX: usize = 208 << 10;

/// How data flows.
enum Carrier {
    Bytes(Connection),
    Packets { incoming: Arc<Mailbox>, outgoing: Arc<Mailbox> },
}

struct Link {
    carrier: Carrier,
    peer: LocalName,
    /// Who is at the other end, and who was here when they met.
    credentials: Credentials,
    own: Credentials,
    /// The other end's.
    options: Arc<Options>,
}

impl Link {
    /// Who sends, if the other end wants to know and does not already: another process may have the socket by
    /// now (fork(2)).
    fn announce(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) {
        if !self.options.pass_credentials.load(Ordering::Relaxed) || outgoing.ancillary.credentials.is_some()
        {
            return;
        }
        let sender = Credentials::of(thread);
        if sender != self.own {
            outgoing.ancillary.credentials = Some(sender);
        }
    }
}

struct Backlog {
    waiting: VecDeque<Arc<LocalStream>>,
    limit: usize,
    credentials: Credentials,
    /// Queues of those who found no place.
    connectors: Vec<Weak<WaitQueue>>,
}

impl Backlog {
    /// Whether there is no place; `connector` is told when there is.
    fn is_full_for(&mut self, connector: &Arc<WaitQueue>) -> bool {
        let full = self.waiting.len() >= self.limit;
        let connector = Arc::downgrade(connector);
        self.connectors.retain(|other| other.strong_count() > 0);
        if full && !self.connectors.iter().any(|other| other.ptr_eq(&connector)) {
            self.connectors.push(connector);
        }
        full
    }
}

/// A connected, or connectable, local socket.
pub struct LocalStream {
    this: Weak<LocalStream>,
    kernel: Arc<Kernel>,
    packets: bool,
    options: Arc<Options>,
    queue: Arc<WaitQueue>,
    bound: Mutex<Bound>,
    backlog: Mutex<Option<Backlog>>,
    link: Once<Link>,
}

impl LocalStream {
    pub fn new(kernel: &Arc<Kernel>, packets: bool, options: &Arc<Options>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            kernel: kernel.clone(),
            packets,
            options: options.clone(),
            queue: Arc::new(WaitQueue::new()),
            bound: Mutex::default(),
            backlog: Mutex::new(None),
            link: Once::new(),
        })
    }

    /// Connects two fresh sockets, given who is at each.
    pub fn join(one: &Self, other: &Self, one_is: Credentials, other_is: Credentials) {
        let name = |socket: &Self| socket.bound.lock().name.clone();
        let names = (name(one), name(other));
        let (first, second) = if one.packets {
            let (here, there) = (Mailbox::new(&one.queue), Mailbox::new(&other.queue));
            let first = Carrier::Packets { incoming: here.clone(), outgoing: there.clone() };
            (first, Carrier::Packets { incoming: there, outgoing: here })
        } else {
            let (first, second) = Connection::pair(&one.queue, &other.queue, false);
            (Carrier::Bytes(first), Carrier::Bytes(second))
        };
        one.link.call_once(|| Link {
            carrier: first,
            peer: names.1,
            credentials: other_is,
            own: one_is,
            options: other.options.clone(),
        });
        other.link.call_once(|| Link {
            carrier: second,
            peer: names.0,
            credentials: one_is,
            own: other_is,
            options: one.options.clone(),
        });
        one.queue.notify();
        other.queue.notify();
    }

    /// A connection that nobody has accepted is reset.
    fn refuse(&self) {
        match self.link.get().map(|link| &link.carrier) {
            Some(Carrier::Bytes(connection)) => connection.close(true),
            _ => self.close(),
        }
    }

    /// Nobody accepts any more: those who wait hear of it. False if nobody did.
    fn end_listening(&self) -> bool {
        let Some(mut backlog) = self.backlog.lock().take() else { return false };
        backlog.waiting.drain(..).for_each(|end| end.refuse());
        backlog.connectors.iter().filter_map(Weak::upgrade).for_each(|connector| connector.notify());
        true
    }

    fn link(&self) -> Result<&Link> {
        self.link.get().ok_or(Errno::ENOTCONN)
    }

    fn kind(&self) -> u32 {
        if self.packets { SEQUENCED } else { STREAM }
    }

    fn connect_to(&self, thread: &Arc<Thread>, found: &Arc<dyn Endpoint>) -> Result<Progress> {
        if self.link.is_completed() {
            return Err(Errno::EISCONN);
        }
        let listener = found.as_any().downcast_ref::<LocalStream>().ok_or(Errno::EPROTOTYPE)?;
        if listener.packets != self.packets {
            return Err(Errno::EPROTOTYPE);
        }
        let name = listener.bound.lock().name.clone();
        let mut place = listener.backlog.lock();
        let backlog = place.as_mut().ok_or(Errno::ECONNREFUSED)?;
        if backlog.is_full_for(&self.queue) {
            drop(place);
            let (listener, queue) = (listener.this.clone(), self.queue.clone());
            return Ok(Progress::Busy(Box::new(move || {
                let Some(listener) = listener.upgrade() else { return true };
                listener.backlog.lock().as_mut().is_none_or(|backlog| !backlog.is_full_for(&queue))
            })));
        }
        let credentials = backlog.credentials;
        drop(place);
        let end = LocalStream::new(&self.kernel, self.packets, &Arc::new(listener.options.inherit()));
        *end.bound.lock() = Bound::named(name);
        LocalStream::join(self, &end, Credentials::of(thread), credentials);
        match listener.backlog.lock().as_mut() {
            // Others may have come meanwhile: one too many does no harm.
            Some(backlog) => backlog.waiting.push_back(end),
            None => end.close(),
        }
        listener.queue.notify();
        Ok(Progress::Done)
    }

    fn send_packet(
        &self,
        thread: &Arc<Thread>,
        mailbox: &Arc<Mailbox>,
        outgoing: &mut Outgoing<'_>,
    ) -> Result<Option<usize>> {
        if mailbox.is_over() {
            let silent = outgoing.flags & flag::NO_SIGNAL != 0;
            return Err(if silent { Errno::EPIPE } else { broken(thread) });
        }
        if !mailbox.has_room(Some(&self.queue)) {
            return Ok(None);
        }
        let data = outgoing.from.gather(PACKET_MAX)?;
        let length = data.len();
        let ancillary = core::mem::take(&mut outgoing.ancillary);
        match mailbox.deliver(Message { data, from: None, to: None, ancillary }) {
            Posted::Refused => Err(Errno::EPIPE),
            _ => Ok(Some(length)),
        }
    }
}

impl Named for LocalStream {
    fn bound(&self) -> &Mutex<Bound> {
        &self.bound
    }
}

impl Endpoint for LocalStream {
    fn bind(&self, thread: &Arc<Thread>, address: &[u8]) -> Promise<()> {
        rendezvous::bind(thread, &self.this, address)
    }

    fn listen(&self, thread: &Arc<Thread>, backlog: u32) -> Promise<()> {
        if !self.bound.lock().is_bound() || self.link.is_completed() {
            return kept(Err(Errno::EINVAL));
        }
        let limit = backlog.min(BACKLOG_MAX) as usize + 1;
        let mut place = self.backlog.lock();
        match place.as_mut() {
            Some(backlog) => backlog.limit = limit,
            None => {
                *place = Some(Backlog {
                    waiting: VecDeque::new(),
                    limit,
                    credentials: Credentials::of(thread),
                    connectors: Vec::new(),
                });
            }
        }
        kept(Ok(()))
    }

    fn accept(&self, _thread: &Arc<Thread>) -> Result<Option<(Arc<Socket>, Name)>> {
        let mut place = self.backlog.lock();
        let backlog = place.as_mut().ok_or(Errno::EINVAL)?;
        let Some(end) = backlog.waiting.pop_front() else { return Ok(None) };
        let connectors = core::mem::take(&mut backlog.connectors);
        drop(place);
        connectors.iter().filter_map(Weak::upgrade).for_each(|connector| connector.notify());
        let name = end.link.get().map_or(LocalName::Unnamed, |link| link.peer.clone());
        let options = end.options.clone();
        Ok(Some((Socket::new(AF_UNIX, self.kind(), options, end), Name::local(&name))))
    }

    fn connect(&self, thread: &Arc<Thread>, bytes: &[u8]) -> Result<Progress> {
        if self.link.is_completed() {
            return Err(Errno::EISCONN);
        }
        let this = self.this.upgrade().ok_or(Errno::EIO)?;
        let (thread, found) = (thread.clone(), rendezvous::find(thread, bytes));
        Ok(Progress::later(async move { this.connect_to(&thread, &found.await?) }))
    }

    fn send(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) -> Result<Option<usize>> {
        let link = self.link()?;
        if outgoing.to.is_some() {
            return Err(Errno::EISCONN);
        }
        link.announce(thread, outgoing);
        match &link.carrier {
            Carrier::Bytes(connection) => connection.send(thread, outgoing),
            Carrier::Packets { outgoing: mailbox, .. } => self.send_packet(thread, mailbox, outgoing),
        }
    }

    fn receive(&self, _thread: &Arc<Thread>, to: Sink<'_>, flags: u32) -> Result<Option<Received>> {
        let link = self.link()?;
        let received = match &link.carrier {
            Carrier::Bytes(connection) => connection.receive(to, flags, false)?,
            Carrier::Packets { incoming, .. } => incoming.take(to, flags)?,
        };
        Ok(received.map(|mut received| {
            received.ancillary.credentials.get_or_insert(link.credentials);
            received
        }))
    }

    /// Those of connections that wait to be accepted are among them.
    fn waiting_rights(&self, each: &mut dyn FnMut(&mut Vec<Arc<Description>>)) {
        match self.link.get().map(|link| &link.carrier) {
            Some(Carrier::Bytes(connection)) => connection.waiting_rights(each),
            Some(Carrier::Packets { incoming, .. }) => incoming.waiting_rights(each),
            None => {}
        }
        let backlog = self.backlog.lock();
        let waiting = backlog.iter().flat_map(|backlog| &backlog.waiting);
        waiting.for_each(|connection| connection.waiting_rights(each));
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        if how != Shutdown::Write && self.end_listening() {
            self.queue.notify();
            return Ok(());
        }
        match &self.link()?.carrier {
            Carrier::Bytes(connection) => connection.shutdown(how),
            Carrier::Packets { incoming, outgoing } => {
                if how != Shutdown::Write {
                    incoming.end();
                }
                if how != Shutdown::Read {
                    outgoing.end();
                }
                self.queue.notify();
            }
        }
        Ok(())
    }

    fn name(&self) -> Name {
        Name::local(&self.bound.lock().name)
    }

    fn peer(&self) -> Result<Name> {
        Ok(Name::local(&self.link()?.peer))
    }

    fn events(&self) -> u32 {
        if let Some(link) = self.link.get() {
            return match &link.carrier {
                Carrier::Bytes(connection) => connection.events(false),
                Carrier::Packets { incoming, outgoing } => {
                    let mut events = 0;
                    if incoming.has_mail() {
                        events |= event::IN | event::READ_NORMAL;
                    }
                    if incoming.is_over() {
                        events |= event::READ_HANGUP;
                    }
                    if outgoing.has_room(Some(&self.queue)) {
                        events |= event::OUT | event::WRITE_NORMAL;
                    }
                    if incoming.is_over() && outgoing.is_over() {
                        events |= event::HANGUP;
                    }
                    events
                }
            };
        }
        match self.backlog.lock().as_ref() {
            Some(backlog) if !backlog.waiting.is_empty() => event::IN | event::READ_NORMAL,
            Some(_) => 0,
            None => event::OUT | event::HANGUP,
        }
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn unread(&self) -> usize {
        match self.link.get().map(|link| &link.carrier) {
            Some(Carrier::Bytes(connection)) => connection.unread(),
            Some(Carrier::Packets { incoming, .. }) => incoming.next_length(),
            None => 0,
        }
    }

    fn unsent(&self) -> usize {
        match self.link.get().map(|link| &link.carrier) {
            Some(Carrier::Bytes(connection)) => connection.unsent(),
            _ => 0,
        }
    }

    fn listening(&self) -> bool {
        self.backlog.lock().is_some()
    }

    fn peer_credentials(&self) -> Option<Credentials> {
        self.link.get().map(|link| link.credentials)
    }

    fn take_error(&self) -> Option<Errno> {
        match self.link.get().map(|link| &link.carrier) {
            Some(Carrier::Bytes(connection)) => connection.take_error(),
            _ => None,
        }
    }

    fn close(&self) {
        self.bound.lock().release(&self.kernel.network.names);
        match self.link.get().map(|link| &link.carrier) {
            Some(Carrier::Bytes(connection)) => connection.close(false),
            Some(Carrier::Packets { incoming, outgoing }) => {
                outgoing.end();
                incoming.refuse();
            }
            None => {}
        }
        self.end_listening();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
