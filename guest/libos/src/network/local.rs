//! Connected local sockets: AF_UNIX streams and sequenced packets (unix(7)).
//!
//! A connect makes the other end and puts it into the listener's backlog; from then on both ends are
//! equal, and data may flow before the connection is accepted.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;

use abi::network::Shutdown;
use spin::{Mutex, Once};

use super::address::{self, AF_UNIX, LocalName, Name};
use super::connection::Connection;
use super::mailbox::{Mailbox, Message, Posted};
use super::message::{Credentials, Outgoing, Received, flag};
use super::option::Options;
use super::socket::{Endpoint, Progress, SEQUENCED, STREAM, Socket};
use crate::errno::{Errno, Result};
use crate::file::pipe::broken;
use crate::file::ring::Sink;
use crate::file::{Promise, event, kept};
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
    credentials: Credentials,
}

struct Backlog {
    waiting: VecDeque<Arc<LocalStream>>,
    limit: usize,
    credentials: Credentials,
    /// Queues of those who found no place.
    connectors: Vec<Weak<WaitQueue>>,
}

/// A connected, or connectable, local socket.
pub struct LocalStream {
    this: Weak<LocalStream>,
    kernel: Arc<Kernel>,
    packets: bool,
    options: Arc<Options>,
    queue: Arc<WaitQueue>,
    /// Its name, and the key that binds it if it was bound itself.
    name: Mutex<(LocalName, Option<Vec<u8>>)>,
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
            name: Mutex::default(),
            backlog: Mutex::new(None),
            link: Once::new(),
        })
    }

    /// Connects two fresh sockets, given who is at each.
    pub fn join(one: &Self, other: &Self, one_is: Credentials, other_is: Credentials) {
        let names = (one.name.lock().0.clone(), other.name.lock().0.clone());
        let (first, second) = if one.packets {
            let (here, there) = (Mailbox::new(&one.queue), Mailbox::new(&other.queue));
            let first = Carrier::Packets { incoming: here.clone(), outgoing: there.clone() };
            (first, Carrier::Packets { incoming: there, outgoing: here })
        } else {
            let (first, second) = Connection::pair(&one.queue, &other.queue);
            (Carrier::Bytes(first), Carrier::Bytes(second))
        };
        one.link.call_once(|| Link { carrier: first, peer: names.1, credentials: other_is });
        other.link.call_once(|| Link { carrier: second, peer: names.0, credentials: one_is });
        one.queue.notify();
        other.queue.notify();
    }

    fn link(&self) -> Result<&Link> {
        self.link.get().ok_or(Errno::ENOTCONN)
    }

    fn kind(&self) -> u32 {
        if self.packets { SEQUENCED } else { STREAM }
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
        match mailbox.post(Message { data, from: None, ancillary }) {
            Posted::Refused => Err(Errno::EPIPE),
            _ => Ok(Some(length)),
        }
    }
}

/// Binds a name for a local socket; the empty one is chosen here (unix(7), autobind).
pub(super) fn bind(
    thread: &Arc<Thread>,
    place: &Mutex<(LocalName, Option<Vec<u8>>)>,
    endpoint: Weak<dyn Endpoint>,
    bytes: &[u8],
) -> Result<()> {
    let wanted = address::local(bytes)?;
    let mut place = place.lock();
    if place.1.is_some() {
        return Err(Errno::EINVAL);
    }
    let network = &thread.kernel().network;
    let (name, key) = match super::key(thread, &wanted) {
        Some(key) => {
            network.bind_local(key.clone(), endpoint)?;
            (wanted, key)
        }
        None => {
            let chosen = (0..0x10_0000_u32).find_map(|number| {
                let name = LocalName::Abstract(alloc::format!("{number:05x}").into_bytes());
                let key = super::key(thread, &name)?;
                network.bind_local(key.clone(), endpoint.clone()).ok().map(|()| (name, key))
            });
            chosen.ok_or(Errno::EADDRINUSE)?
        }
    };
    *place = (name, Some(key));
    Ok(())
}

impl Endpoint for LocalStream {
    fn bind(&self, thread: &Arc<Thread>, address: &[u8]) -> Promise<()> {
        kept(bind(thread, &self.name, self.this.clone(), address))
    }

    fn listen(&self, thread: &Arc<Thread>, backlog: u32) -> Promise<()> {
        if self.name.lock().1.is_none() || self.link.is_completed() {
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
        let key = super::key(thread, &address::local(bytes)?).ok_or(Errno::ECONNREFUSED)?;
        let found = thread.kernel().network.find_local(&key)?;
        let listener = found.as_any().downcast_ref::<LocalStream>().ok_or(Errno::EPROTOTYPE)?;
        if listener.packets != self.packets {
            return Err(Errno::EPROTOTYPE);
        }
        let name = listener.name.lock().0.clone();
        let mut place = listener.backlog.lock();
        let backlog = place.as_mut().ok_or(Errno::ECONNREFUSED)?;
        if backlog.waiting.len() >= backlog.limit {
            backlog.connectors.push(Arc::downgrade(&self.queue));
            return Ok(Progress::Busy);
        }
        let end = LocalStream::new(&self.kernel, self.packets, &Arc::new(listener.options.inherit()));
        *end.name.lock() = (name, None);
        let credentials = backlog.credentials;
        backlog.waiting.push_back(end.clone());
        drop(place);
        LocalStream::join(self, &end, Credentials::of(thread), credentials);
        listener.queue.notify();
        Ok(Progress::Done)
    }

    fn send(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) -> Result<Option<usize>> {
        let link = self.link()?;
        if outgoing.to.is_some() {
            return Err(Errno::EISCONN);
        }
        match &link.carrier {
            Carrier::Bytes(connection) => connection.send(thread, outgoing),
            Carrier::Packets { outgoing: mailbox, .. } => self.send_packet(thread, mailbox, outgoing),
        }
    }

    fn receive(&self, _thread: &Arc<Thread>, to: Sink<'_>, flags: u32) -> Result<Option<Received>> {
        let link = self.link()?;
        let received = match &link.carrier {
            Carrier::Bytes(connection) => connection.receive(to, flags)?,
            Carrier::Packets { incoming, .. } => incoming.take(to, flags)?,
        };
        Ok(received.map(|mut received| {
            received.ancillary.credentials.get_or_insert(link.credentials);
            received
        }))
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
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
        Name::local(&self.name.lock().0)
    }

    fn peer(&self) -> Result<Name> {
        Ok(Name::local(&self.link()?.peer))
    }

    fn events(&self) -> u32 {
        if let Some(link) = self.link.get() {
            return match &link.carrier {
                Carrier::Bytes(connection) => connection.events(),
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

    fn close(&self) {
        if let (_, Some(key)) = &*self.name.lock() {
            self.kernel.network.forget_local(key);
        }
        match self.link.get().map(|link| &link.carrier) {
            Some(Carrier::Bytes(connection)) => connection.close(),
            Some(Carrier::Packets { incoming, outgoing }) => {
                outgoing.end();
                incoming.refuse();
            }
            None => {}
        }
        if let Some(mut backlog) = self.backlog.lock().take() {
            backlog.waiting.drain(..).for_each(|end| end.close());
            backlog.connectors.iter().filter_map(Weak::upgrade).for_each(|connector| connector.notify());
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
