//! The socket as a file, and what every kind of socket can be asked for.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::future::Future;
use core::sync::atomic::Ordering;

use abi::file::Attributes;
use abi::network::{Shutdown, SocketOption};
use machine::{Transfer, UserRange};

use super::address::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, Name};
use super::datagram::Datagram;
use super::inet::InetStream;
use super::local::LocalStream;
use super::local_datagram::LocalDatagram;
use super::message::{Ancillary, Credentials, Outgoing, Received};
use super::netlink::Netlink;
use super::option::Options;
use crate::errno::{Errno, Result};
use crate::file::pipe::{FIONREAD, anonymous, next_inode, put_word};
use crate::file::ring::{Sink, Source};
use crate::file::{Description, File, Promise, kept};
use crate::thread::Thread;
use crate::wait::WaitQueue;

pub const STREAM: u32 = 1;
pub const DATAGRAM: u32 = 2;
const RAW: u32 = 3;
pub const SEQUENCED: u32 = 5;
const PACKET: u32 = 10;

/// ioctl(2): whether urgent data comes next.
const SIOCATMARK: u32 = 0x8905;
/// ioctl(2): bytes not sent yet.
const SIOCOUTQ: u32 = 0x5411;

/// How far a connect came at once.
pub enum Progress {
    Done,
    /// Under way: [`Endpoint::connected`] has the outcome when the queue was told.
    Started,
    /// The same, since an earlier call.
    UnderWay,
    /// To be tried again when this says so; look whenever the queue was told.
    Busy(Box<dyn FnMut() -> bool + Send>),
    /// To be waited for even if the socket is non-blocking: it is soon over.
    Promised(Box<Promise<Progress>>),
}

impl Progress {
    pub fn later(future: impl Future<Output = Result<Self>> + Send + 'static) -> Self {
        Self::Promised(Box::new(Promise::later(future)))
    }
}

/// One kind of socket.
pub trait Endpoint: Send + Sync + 'static {
    fn bind(&self, thread: &Arc<Thread>, address: &[u8]) -> Promise<()>;

    fn listen(&self, _thread: &Arc<Thread>, _backlog: u32) -> Promise<()> {
        kept(Err(Errno::EOPNOTSUPP))
    }

    /// Takes a connection, if there is one.
    fn accept(&self, _thread: &Arc<Thread>) -> Result<Option<(Arc<Socket>, Name)>> {
        Err(Errno::EOPNOTSUPP)
    }

    fn connect(&self, thread: &Arc<Thread>, address: &[u8]) -> Result<Progress>;

    /// Looks up whom an address names, if that may take time.
    fn resolve(&self, _thread: &Arc<Thread>, _address: &[u8]) -> Option<Promise<Arc<dyn Endpoint>>> {
        None
    }

    /// The outcome of a connect under way, once.
    fn connected(&self) -> Option<Result<()>> {
        Some(Ok(()))
    }

    /// Sends; `None` if it would block.
    fn send(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) -> Result<Option<usize>>;

    /// Receives; `None` if it would block. Nothing at all is the end.
    fn receive(&self, thread: &Arc<Thread>, to: Sink<'_>, flags: u32) -> Result<Option<Received>>;

    fn shutdown(&self, how: Shutdown) -> Result<()>;

    fn name(&self) -> Name;

    fn peer(&self) -> Result<Name>;

    fn events(&self) -> u32;

    fn queue(&self) -> &WaitQueue;

    /// Whether what happens outside can change the events.
    fn outside(&self) -> bool {
        false
    }

    /// Bytes that can be read (of the next message).
    fn unread(&self) -> usize;

    fn unsent(&self) -> usize {
        0
    }

    /// Whether urgent data can be sent and received (MSG_OOB).
    fn takes_urgent(&self) -> bool {
        false
    }

    /// Whether the next byte is where urgent data was (sockatmark(3)).
    fn at_mark(&self) -> bool {
        false
    }

    fn listening(&self) -> bool {
        false
    }

    /// Shows the open files of each message that waits to be received here (AF_UNIX).
    fn waiting_rights(&self, _each: &mut dyn FnMut(&mut Vec<Arc<Description>>)) {}

    /// SO_ERROR: the pending error; forgets it.
    fn take_error(&self) -> Option<Errno> {
        None
    }

    /// Tells the host of an option, if the socket is known there.
    fn forward(&self, _option: SocketOption) -> Result<()> {
        Ok(())
    }

    /// SO_PEERCRED.
    fn peer_credentials(&self) -> Option<Credentials> {
        None
    }

    /// The last descriptor is gone.
    fn close(&self);

    fn as_any(&self) -> &dyn Any;
}

/// A socket.
pub struct Socket {
    pub domain: u32,
    pub kind: u32,
    pub protocol: u32,
    pub options: Arc<Options>,
    pub endpoint: Arc<dyn Endpoint>,
    inode: u64,
}

impl Socket {
    pub fn new(domain: u32, kind: u32, options: Arc<Options>, endpoint: Arc<dyn Endpoint>) -> Arc<Self> {
        let protocol = match (domain, kind) {
            (AF_INET | AF_INET6, STREAM) => 6,
            (AF_INET | AF_INET6, _) => 17,
            _ => 0,
        };
        Arc::new(Self { domain, kind, protocol, options, endpoint, inode: next_inode() })
    }

    /// Whether a send goes on until all is sent.
    pub fn is_stream(&self) -> bool {
        self.kind == STREAM
    }

    fn put(&self, thread: &Arc<Thread>, from: Source<'_>) -> Result<Transfer> {
        let mut outgoing =
            Outgoing { from, flags: 0, to: None, target: None, ancillary: Ancillary::default() };
        Ok(self.endpoint.send(thread, &mut outgoing)?.map_or(Transfer::NotReady, Transfer::Done))
    }

    fn take(&self, thread: &Arc<Thread>, to: Sink<'_>) -> Result<Transfer> {
        let received = self.endpoint.receive(thread, to, 0)?;
        Ok(received.map_or(Transfer::NotReady, |received| Transfer::Done(received.length)))
    }
}

/// socket(2).
pub fn create(thread: &Arc<Thread>, domain: u32, kind: u32, protocol: u32) -> Result<Arc<Socket>> {
    let options = Arc::new(Options::default());
    let kernel = thread.kernel();
    let known = match domain {
        AF_UNIX => protocol <= 1,
        AF_INET | AF_INET6 => match kind {
            STREAM => matches!(protocol, 0 | 6),
            DATAGRAM => matches!(protocol, 0 | 17),
            RAW | PACKET => return Err(Errno::EPERM),
            _ => return Err(Errno::ESOCKTNOSUPPORT),
        },
        AF_NETLINK if kind == DATAGRAM || kind == RAW => protocol == 0,
        AF_NETLINK => return Err(Errno::ESOCKTNOSUPPORT),
        // AF_PACKET: nobody on an island may.
        17 => return Err(Errno::EPERM),
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    if !known {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let endpoint: Arc<dyn Endpoint> = match (domain, kind) {
        (AF_UNIX, STREAM | SEQUENCED) => LocalStream::new(kernel, kind == SEQUENCED, &options),
        // Linux takes a raw local socket for a datagram one.
        (AF_UNIX, DATAGRAM | RAW) => LocalDatagram::new(kernel),
        (AF_UNIX, _) => return Err(Errno::ESOCKTNOSUPPORT),
        (AF_NETLINK, _) => Netlink::new(),
        (_, STREAM) => InetStream::new(kernel, domain, &options),
        _ => Datagram::new(kernel, domain, &options),
    };
    let kind = if domain == AF_UNIX && kind == RAW { DATAGRAM } else { kind };
    Ok(Socket::new(domain, kind, options, endpoint))
}

/// socketpair(2).
pub fn pair(
    thread: &Arc<Thread>,
    domain: u32,
    kind: u32,
    protocol: u32,
) -> Result<(Arc<Socket>, Arc<Socket>)> {
    let first = create(thread, domain, kind, protocol)?;
    let second = create(thread, domain, kind, protocol)?;
    if domain != AF_UNIX {
        return Err(Errno::EOPNOTSUPP);
    }
    let credentials = Credentials::of(thread);
    let (one, other) = (first.endpoint.as_any(), second.endpoint.as_any());
    if let (Some(one), Some(other)) = (one.downcast_ref::<LocalStream>(), other.downcast_ref()) {
        LocalStream::join(one, other, credentials, credentials);
    } else if let (Some(one), Some(other)) = (one.downcast_ref::<LocalDatagram>(), other.downcast_ref()) {
        LocalDatagram::join(one, other);
    }
    Ok((first, second))
}

impl File for Socket {
    fn tells_owner(&self) -> bool {
        true
    }

    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => self.take(thread, Sink::user(thread, to)),
        }
    }

    fn write(&self, thread: &Arc<Thread>, from: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => self.put(thread, Source::user(thread, from)),
        }
    }

    fn read_kernel(&self, thread: &Arc<Thread>, to: &mut [u8], _offset: u64) -> Result<usize> {
        match self.take(thread, Sink::Kernel(to))? {
            Transfer::Done(count) => Ok(count),
            _ => Err(Errno::EAGAIN),
        }
    }

    fn write_kernel(&self, thread: &Arc<Thread>, from: &[u8]) -> Result<Transfer> {
        self.put(thread, Source::Kernel(from))
    }

    fn events(&self) -> u32 {
        self.endpoint.events()
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(self.endpoint.queue())
    }

    fn outside(&self) -> bool {
        self.endpoint.outside()
    }

    fn timeout_ns(&self, write: bool) -> Option<u64> {
        let timeout_ns = if write { &self.options.send_timeout_ns } else { &self.options.receive_timeout_ns };
        Some(timeout_ns.load(Ordering::Relaxed)).filter(|timeout_ns| *timeout_ns != 0)
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(anonymous(thread, 0o140777, self.inode)))
    }

    fn control(&self, thread: &Arc<Thread>, command: u32, argument: u64) -> Promise<u64> {
        match command {
            FIONREAD if self.endpoint.listening() => kept(Err(Errno::EINVAL)),
            FIONREAD => kept(put_word(thread, argument, self.endpoint.unread() as u32)),
            SIOCATMARK => kept(put_word(thread, argument, self.endpoint.at_mark().into())),
            SIOCOUTQ => kept(put_word(thread, argument, self.endpoint.unsent() as u32)),
            _ => kept(super::interface::control(thread, command, argument)),
        }
    }

    fn closed(&self) {
        self.endpoint.close();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
