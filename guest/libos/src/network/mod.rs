//! Sockets: what programs see of the network, and of each other.
//!
//! A [`Socket`] is a file over an [`Endpoint`]; endpoints are local (AF_UNIX), streams and datagrams of
//! the internet families. Whatever stays on the island is done here, between two endpoints; what leaves
//! it goes through granted handles, one per connection, that the monitor gives on request.
//! Operations are tried and answer `None` when they would block; whoever may block waits at the
//! endpoint's queue. Lock order: an endpoint's state, then a port table, then mailboxes and flows; queues
//! are told when nothing is locked.

pub mod address;
mod connection;
mod datagram;
mod errand;
mod host;
mod inet;
mod listener;
mod local;
mod local_datagram;
mod mailbox;
pub mod message;
pub mod option;
mod port;
mod resolver;
mod socket;

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::boot::{Boot, Published};
use abi::network::Protocol;
use spin::Mutex;

use address::LocalName;
use port::Ports;

pub use socket::{Endpoint, Progress, Socket, create, pair};

use crate::errno::{Errno, Result};
use crate::thread::Thread;

/// What all sockets of an island share.
pub struct Network {
    published: Vec<Published>,
    /// Whether anything outside may be connected to.
    outgoing: bool,
    streams: Ports,
    datagrams: Ports,
    listeners: listener::Shared,
    /// Named local sockets. Abstract names start with a NUL, paths are absolute.
    local: Mutex<BTreeMap<Vec<u8>, Weak<dyn Endpoint>>>,
}

impl Network {
    pub fn new(boot: &Boot) -> Self {
        Self {
            published: boot.published.clone(),
            outgoing: boot.outgoing,
            streams: Ports::new(),
            datagrams: Ports::new(),
            listeners: listener::Shared::default(),
            local: Mutex::new(BTreeMap::new()),
        }
    }

    fn is_published(&self, protocol: Protocol, port: u16) -> bool {
        self.published.contains(&Published { protocol, port })
    }

    /// Whether sockets can have to do with the outside at all.
    fn reaches_outside(&self) -> bool {
        self.outgoing || !self.published.is_empty()
    }

    /// Binds a local socket's name.
    fn bind_local(&self, key: Vec<u8>, endpoint: Weak<dyn Endpoint>) -> Result<()> {
        let mut names = self.local.lock();
        if names.get(&key).is_some_and(|bound| bound.strong_count() > 0) {
            return Err(Errno::EADDRINUSE);
        }
        names.insert(key, endpoint);
        Ok(())
    }

    /// Who has a local socket's name. A path whose socket is closed refuses, as its file would.
    fn find_local(&self, key: &[u8]) -> Result<Arc<dyn Endpoint>> {
        let missing = if key.first() == Some(&0) { Errno::ECONNREFUSED } else { Errno::ENOENT };
        let names = self.local.lock();
        names.get(key).ok_or(missing)?.upgrade().ok_or(Errno::ECONNREFUSED)
    }

    /// The name of a closed socket that was not a path is free again.
    fn forget_local(&self, key: &[u8]) {
        if key.first() == Some(&0) {
            self.local.lock().remove(key);
        }
    }

    /// A path has been removed or given to another file: nobody finds the socket by it any more.
    pub fn unlink(&self, path: &[u8]) {
        self.local.lock().remove(path);
    }

    /// A path with a socket has been renamed.
    pub fn rename(&self, from: &[u8], to: &[u8]) {
        let mut names = self.local.lock();
        names.remove(to);
        if let Some(endpoint) = names.remove(from) {
            names.insert(to.to_vec(), endpoint);
        }
    }

    /// Names of bound local sockets, for /proc/net/unix: abstract ones start with a NUL.
    pub fn local_names(&self) -> Vec<Vec<u8>> {
        self.local.lock().keys().cloned().collect()
    }
}

/// The key of a local name in the table; `None` for the unnamed.
fn key(thread: &Arc<Thread>, name: &LocalName) -> Option<Vec<u8>> {
    match name {
        LocalName::Unnamed => None,
        LocalName::Abstract(name) => {
            let mut key = alloc::vec![0];
            key.extend_from_slice(name);
            Some(key)
        }
        LocalName::Path(path) => {
            let mut whole = Vec::new();
            if path.first() != Some(&b'/') {
                whole = thread.process.directory.lock().path();
                whole.push(b'/');
            }
            whole.extend_from_slice(path);
            Some(normal(&whole))
        }
    }
}

/// An absolute path without `.`, `..` and empty components.
fn normal(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let mut result = Vec::with_capacity(path.len());
    for name in names {
        result.push(b'/');
        result.extend_from_slice(name);
    }
    result
}
