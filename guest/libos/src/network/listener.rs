//! Listening on a port of the island: connections from inside queue here, those from outside on the
//! monitor's socket.
//!
//! A published port is listened on outside as soon as anybody listens on it inside, whatever address he
//! has bound: publishing is the user's word. Listeners that share a port share the granted handle.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::network::Protocol;
use abi::request::{Reply, Request};
use machine::{Handle, Readiness};
use spin::Mutex;

use super::address::Address;
use super::inet::InetStream;
use crate::device::Watched;
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;

/// Listening sockets outside, by port.
pub type Shared = Mutex<BTreeMap<u16, Weak<HostListener>>>;

/// A granted listening socket, closed when dropped.
pub struct HostListener {
    kernel: Arc<Kernel>,
    pub watched: Arc<Watched>,
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
        let reply = kernel.devices.request(kernel, Request::Listen { port, backlog }).await?;
        let Reply::Socket { handle, .. } = reply else { return Err(Errno::EIO) };
        let watched = match kernel.devices.watch(handle) {
            Ok(watched) => watched,
            Err(errno) => {
                kernel.machine.close(handle);
                return Err(errno);
            }
        };
        let listener = Arc::new(Self { kernel: kernel.clone(), watched });
        kernel.network.listeners.lock().insert(port, Arc::downgrade(&listener));
        Ok(Some(listener))
    }

    /// Takes a connection, if there is one.
    fn accept(&self) -> Result<Option<(Handle, Address)>> {
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

/// What a listening socket keeps.
pub struct Listener {
    arrivals: Mutex<VecDeque<Arrival>>,
    limit: Mutex<usize>,
    pub host: Option<Arc<HostListener>>,
    /// Its place in the queue of the granted handle.
    pub place: Option<u64>,
}

impl Listener {
    pub fn new(limit: usize, host: Option<Arc<HostListener>>, place: Option<u64>) -> Self {
        Self { arrivals: Mutex::new(VecDeque::new()), limit: Mutex::new(limit), host, place }
    }

    pub fn set_limit(&self, limit: usize) {
        *self.limit.lock() = limit;
    }

    /// Adds a connection from inside; false if too many wait already.
    pub fn arrive(&self, end: Arc<InetStream>, from: Address) -> bool {
        let limit = *self.limit.lock();
        let mut arrivals = self.arrivals.lock();
        let room = arrivals.len() < limit;
        if room {
            arrivals.push_back(Arrival::Inside(end, from));
        }
        room
    }

    pub fn take(&self) -> Result<Option<Arrival>> {
        if let Some(arrival) = self.arrivals.lock().pop_front() {
            return Ok(Some(arrival));
        }
        let Some(host) = &self.host else { return Ok(None) };
        Ok(host.accept()?.map(|(handle, from)| Arrival::Outside(handle, from)))
    }

    /// Whether a connection waits. Readiness outside is made certain by taking one.
    pub fn has_arrival(&self) -> bool {
        if !self.arrivals.lock().is_empty() {
            return true;
        }
        let Some(host) = &self.host else { return false };
        match host.accept() {
            Ok(Some((handle, from))) => {
                self.arrivals.lock().push_back(Arrival::Outside(handle, from));
                true
            }
            Ok(None) => false,
            // The next accept says what it is.
            Err(_) => true,
        }
    }

    /// What is left when nobody listens any more.
    pub fn drain(&self) -> Vec<Arrival> {
        self.arrivals.lock().drain(..).collect()
    }
}
