//! Listening on a port of the island: connections from inside queue here, those from outside on the
//! monitor's socket.
//!
//! A published port is listened on outside as soon as anybody listens on it inside, whatever address he
//! has bound: publishing is the user's word. Listeners that share a port share the granted handle; one
//! whose own family the handle's connections are not of takes them only while no other one is there.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::lock::Mutex;
use abi::network::Protocol;
use abi::request::{Reply, Request};
use machine::{Handle, Readiness};

use super::address::Address;
use super::inet::InetStream;
use crate::device::Watched;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::wait::Listener as WaitListener;

/// Listening sockets outside, by port.
pub type Shared = Mutex<BTreeMap<u16, Weak<HostListener>>>;

/// A granted listening socket, closed when dropped.
pub struct HostListener {
    kernel: Arc<Kernel>,
    pub watched: Arc<Watched>,
    /// Whether connections come over IPv4.
    pub version_4: bool,
    /// Number of listeners that are of the connections' own family.
    kin: AtomicUsize,
}

impl HostListener {
    /// Starts to listen on a published port, or joins those who do; `None` if it is not published.
    pub async fn open(kernel: &Arc<Kernel>, port: u16, backlog: u32) -> Result<Option<Arc<Self>>> {
        if !kernel.network.is_published(Protocol::Tcp, port) {
            return Ok(None);
        }
        if let Some(shared) = kernel.network.listeners.lock().get(&port).and_then(Weak::upgrade) {
            return Ok(Some(shared));
        }
        let listener = Arc::new(Self::listen(kernel, port, backlog).await?);
        kernel.network.listeners.lock().insert(port, Arc::downgrade(&listener));
        Ok(Some(listener))
    }

    /// Starts to listen on a port that the monitor has bound.
    pub(crate) async fn listen(kernel: &Arc<Kernel>, port: u16, backlog: u32) -> Result<Self> {
        let reply = kernel.devices.request(kernel, Request::Listen { port, backlog }).await?;
        let Reply::Socket { handle, local, .. } = reply else { return Err(Errno::EIO) };
        let watched = match kernel.devices.watch(handle) {
            Ok(watched) => watched,
            Err(errno) => {
                kernel.machine.close(handle);
                return Err(errno);
            }
        };
        let (version_4, kin) = (local.is_ipv4(), AtomicUsize::new(0));
        Ok(Self { kernel: kernel.clone(), watched, version_4, kin })
    }

    /// Takes a connection, if there is one.
    pub(crate) fn accept(&self) -> Result<Option<(Handle, Address)>> {
        let (readiness, token) = self.watched.readiness();
        if !readiness.intersects(Readiness::all() - Readiness::WRITE) {
            return Ok(None);
        }
        let accepted = self.kernel.machine.accept(self.watched.handle)?;
        if accepted.is_none() {
            self.watched.exhausted(token, Readiness::READ);
        }
        Ok(accepted)
    }
}

impl Drop for HostListener {
    fn drop(&mut self) {
        self.kernel.devices.close(self.watched.handle);
    }
}

/// A connection nobody has accepted yet.
pub enum Arrival {
    /// From inside: the near end, and where it comes from.
    Inside(Arc<InetStream>, Address),
    Outside(Handle, Address),
}

impl Arrival {
    /// Whether the other end has closed.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Inside(end, _) if end.is_left())
    }
}

/// A listening socket's share in a granted handle.
pub struct Share {
    host: Arc<HostListener>,
    /// The socket's place in the handle's queue.
    place: u64,
    /// Whether the socket is of the connections' own family.
    kin: bool,
}

impl Share {
    pub fn new(host: Arc<HostListener>, listener: Weak<dyn WaitListener>, kin: bool) -> Self {
        let place = host.watched.queue.listen(listener);
        host.kin.fetch_add(usize::from(kin), Ordering::SeqCst);
        Self { host, place, kin }
    }

    fn accept(&self) -> Result<Option<(Handle, Address)>> {
        if !self.kin && self.host.kin.load(Ordering::SeqCst) > 0 {
            return Ok(None);
        }
        self.host.accept()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.host.watched.queue.ignore(self.place);
        self.host.kin.fetch_sub(usize::from(self.kin), Ordering::SeqCst);
        // What waits may be another's now.
        self.host.watched.queue.notify();
    }
}

/// What a listening socket keeps.
pub struct Listener {
    /// `None` when nobody listens any more.
    arrivals: Mutex<Option<VecDeque<Arrival>>>,
    /// With more than these, those whose other end is gone already are given up.
    limit: usize,
    share: Mutex<Option<Arc<Share>>>,
}

impl Listener {
    pub fn new(share: Option<Share>, limit: u32) -> Self {
        let share = Mutex::new(share.map(Arc::new));
        Self { arrivals: Mutex::new(Some(VecDeque::new())), limit: limit as usize, share }
    }

    fn accept_outside(&self) -> Result<Option<(Handle, Address)>> {
        let share = self.share.lock().clone();
        share.map_or(Ok(None), |share| share.accept())
    }

    /// Adds a connection, unless nobody listens any more. None is refused for want of room: on a network
    /// the connecting side would try again until there is some, and here its descriptors are the limit. So who gives
    /// up has to make room.
    pub fn arrive(&self, arrival: Arrival) -> bool {
        let mut given_up: VecDeque<Arrival> = VecDeque::new();
        let mut place = self.arrivals.lock();
        let Some(arrivals) = place.as_mut() else { return false };
        if arrivals.len() > self.limit {
            let (gone, rest) = core::mem::take(arrivals).into_iter().partition(Arrival::is_gone);
            (given_up, *arrivals) = (gone, rest);
        }
        arrivals.push_back(arrival);
        drop(place);
        drop(given_up);
        true
    }

    /// EINVAL when nobody listens any more (shutdown(2)).
    pub fn take(&self) -> Result<Option<Arrival>> {
        if let Some(arrival) = self.arrivals.lock().as_mut().ok_or(Errno::EINVAL)?.pop_front() {
            return Ok(Some(arrival));
        }
        Ok(self.accept_outside()?.map(|(handle, from)| Arrival::Outside(handle, from)))
    }

    pub fn is_over(&self) -> bool {
        self.arrivals.lock().is_none()
    }

    /// Whether a connection waits. Readiness outside is made certain by taking one.
    pub fn has_arrival(&self) -> bool {
        if self.arrivals.lock().as_ref().is_some_and(|arrivals| !arrivals.is_empty()) {
            return true;
        }
        match self.accept_outside() {
            // Only whoever listens looks, so it is there to be accepted.
            Ok(Some((handle, from))) => self.arrive(Arrival::Outside(handle, from)),
            Ok(None) => false,
            // The next accept says what it is.
            Err(_) => true,
        }
    }

    /// Ends listening; answers what nobody will accept.
    pub fn end(&self) -> Vec<Arrival> {
        let share = self.share.lock().take();
        drop(share);
        self.arrivals.lock().take().unwrap_or_default().into()
    }
}
