//! Local datagram sockets: AF_UNIX, SOCK_DGRAM (unix(7)).
//!
//! Unlike on a network nothing is lost: a sender waits while the receiver's mailbox is full.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::lock::Mutex;
use abi::network::Shutdown;

use super::address::{self, AF_UNSPEC, LocalName, Name};
use super::mailbox::{Mailbox, Message, Posted};
use super::message::{Credentials, Outgoing, Received, flag};
use super::rendezvous::{self, Bound, Named};
use super::socket::{Endpoint, Progress};
use crate::errno::{Errno, Result};
use crate::file::pipe::broken;
use crate::file::ring::Sink;
use crate::file::{Description, Promise, event};
use crate::kernel::Kernel;
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// Bytes of the longest datagram.
const DATAGRAM_MAX: usize = 208 << 10;

/// A local datagram socket.
pub struct LocalDatagram {
    this: Weak<LocalDatagram>,
    kernel: Arc<Kernel>,
    queue: Arc<WaitQueue>,
    mailbox: Arc<Mailbox>,
    bound: Mutex<Bound>,
    peer: Mutex<Option<Weak<LocalDatagram>>>,
    /// shutdown(2) for writing.
    silent: AtomicBool,
}

impl LocalDatagram {
    pub fn new(kernel: &Arc<Kernel>) -> Arc<Self> {
        let queue = Arc::new(WaitQueue::new());
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            kernel: kernel.clone(),
            mailbox: Mailbox::new(&queue),
            queue,
            bound: Mutex::default(),
            peer: Mutex::new(None),
            silent: AtomicBool::new(false),
        })
    }

    /// socketpair(2).
    pub fn join(one: &Self, other: &Self) {
        *one.peer.lock() = Some(other.this.clone());
        *other.peer.lock() = Some(one.this.clone());
    }

    /// A socket that was found by name, if it is of this kind.
    fn checked(found: &Arc<dyn Endpoint>) -> Result<Arc<LocalDatagram>> {
        let datagram = found.as_any().downcast_ref::<LocalDatagram>().ok_or(Errno::EPROTOTYPE)?;
        datagram.this.upgrade().ok_or(Errno::ECONNREFUSED)
    }

    /// Who has a name, if that can be said without waiting. Only sendmmsg comes here: other senders have
    /// resolved the name before.
    fn find_now(thread: &Arc<Thread>, bytes: &[u8]) -> Result<Arc<LocalDatagram>> {
        let found = rendezvous::find(thread, bytes).at_once().ok_or(Errno::EAGAIN)?;
        Self::checked(&found?)
    }

    /// Whether another socket's datagrams are welcome: a connected socket hears its peer only.
    fn hears(&self, sender: &Weak<LocalDatagram>) -> bool {
        self.peer.lock().as_ref().is_none_or(|peer| peer.ptr_eq(sender))
    }
}

impl Named for LocalDatagram {
    fn bound(&self) -> &Mutex<Bound> {
        &self.bound
    }
}

impl Endpoint for LocalDatagram {
    fn bind(&self, thread: &Arc<Thread>, address: &[u8]) -> Promise<()> {
        rendezvous::bind(thread, &self.this, address)
    }

    fn connect(&self, thread: &Arc<Thread>, bytes: &[u8]) -> Result<Progress> {
        if address::family(bytes)? == AF_UNSPEC {
            *self.peer.lock() = None;
            return Ok(Progress::Done);
        }
        let this = self.this.upgrade().ok_or(Errno::EIO)?;
        let found = rendezvous::find(thread, bytes);
        Ok(Progress::later(async move {
            let peer = Self::checked(&found.await?)?;
            if !peer.hears(&this.this) {
                return Err(Errno::EPERM);
            }
            *this.peer.lock() = Some(Arc::downgrade(&peer));
            this.queue.notify();
            Ok(Progress::Done)
        }))
    }

    fn resolve(&self, thread: &Arc<Thread>, bytes: &[u8]) -> Option<Promise<Arc<dyn Endpoint>>> {
        Some(rendezvous::find(thread, bytes))
    }

    fn send(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) -> Result<Option<usize>> {
        if self.silent.load(Ordering::SeqCst) {
            let quiet = outgoing.flags & flag::NO_SIGNAL != 0;
            return Err(if quiet { Errno::EPIPE } else { broken(thread) });
        }
        let peer = match (&outgoing.target, outgoing.to) {
            (Some(target), _) => Self::checked(target)?,
            (None, Some(bytes)) => Self::find_now(thread, bytes)?,
            (None, None) => {
                let peer = self.peer.lock().clone().ok_or(Errno::ENOTCONN)?;
                peer.upgrade().ok_or(Errno::ECONNREFUSED)?
            }
        };
        if !peer.hears(&self.this) {
            return Err(Errno::EPERM);
        }
        if !peer.mailbox.has_room(Some(&self.queue)) {
            return Ok(None);
        }
        let data = outgoing.from.gather(DATAGRAM_MAX)?;
        let length = data.len();
        let mut ancillary = core::mem::take(&mut outgoing.ancillary);
        ancillary.credentials.get_or_insert_with(|| Credentials::of(thread));
        // Who has no name has no address either (unix_copy_addr in Linux).
        let name = self.bound.lock().name.clone();
        let from = (!matches!(name, LocalName::Unnamed)).then(|| Name::local(&name));
        match peer.mailbox.deliver(Message { data, from, to: None, ancillary }) {
            Posted::Refused => Err(Errno::ECONNREFUSED),
            _ => Ok(Some(length)),
        }
    }

    fn receive(&self, _thread: &Arc<Thread>, to: Sink<'_>, flags: u32) -> Result<Option<Received>> {
        self.mailbox.take(to, flags)
    }

    fn waiting_rights(&self, each: &mut dyn FnMut(&mut Vec<Arc<Description>>)) {
        self.mailbox.waiting_rights(each);
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        if how != Shutdown::Read {
            self.silent.store(true, Ordering::SeqCst);
        }
        if how != Shutdown::Write {
            self.mailbox.end();
        }
        Ok(())
    }

    fn name(&self) -> Name {
        Name::local(&self.bound.lock().name)
    }

    fn peer(&self) -> Result<Name> {
        let peer = self.peer.lock().clone().ok_or(Errno::ENOTCONN)?;
        Ok(peer.upgrade().map_or_else(|| Name::local(&LocalName::Unnamed), |peer| peer.name()))
    }

    fn events(&self) -> u32 {
        let mut events = 0;
        if self.mailbox.has_mail() {
            events |= event::IN | event::READ_NORMAL;
        }
        if self.mailbox.is_over() {
            events |= event::READ_HANGUP;
        }
        let peer = self.peer.lock().as_ref().and_then(Weak::upgrade);
        if peer.is_none_or(|peer| peer.mailbox.has_room(Some(&self.queue))) {
            events |= event::OUT | event::WRITE_NORMAL;
        }
        events
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn unread(&self) -> usize {
        self.mailbox.next_length()
    }

    fn close(&self) {
        self.bound.lock().release(&self.kernel.network.names);
        self.mailbox.refuse();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
