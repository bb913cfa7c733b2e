//! Serving a guest's requests: each is decoded once, judged, and answered.
//!
//! Everything that arrives is hostile input. A message that is none ends the island; a request that names
//! what was not granted gets an error number, as the kernel would give it. What may take long (disks,
//! connections, name look-ups) runs on worker threads, so that nothing else is held up.

mod channel;
mod connect;
mod datagram;
mod file;
mod handle;
pub mod name;
mod network;
mod object;
mod session;
mod terminal;
mod usage;
mod worker;

use std::os::fd::OwnedFd;
use std::sync::{Arc, RwLock};

use abi::boot::Tree;
use abi::file::Attributes;
use abi::network::Address;
use abi::request::{Reply, Request};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::grant::Destinations;
use crate::identity::Identity;
use crate::tree::GrantedTree;

pub use channel::Channel;
pub use network::Port;
pub use object::{Granted, Object, Objects};
pub use session::{End, Session};
pub use terminal::window;
use worker::Job;

/// What a request is answered with; descriptors get their handles when the answer is sent.
#[derive(Debug)]
pub enum Answer {
    Reply(Reply),
    /// An opened file: the descriptor goes to the guest, the object stays.
    Opened {
        descriptor: Option<OwnedFd>,
        object: Object,
        attributes: Attributes,
        /// There was no such file before.
        made: bool,
    },
    /// A socket.
    Socket {
        descriptor: OwnedFd,
        object: Object,
        local: Address,
        peer: Option<Address>,
    },
    /// Addresses of a granted name were found: the answer, and what is now granted.
    Resolved {
        reply: Vec<u8>,
        name: String,
        addresses: Vec<std::net::IpAddr>,
    },
}

/// A request's outcome.
pub type Outcome = Result<Answer, Errno>;

/// How a request is answered.
pub enum Served {
    Now(Outcome),
    /// On a disk worker.
    Disk(Job),
    /// On a network worker.
    Network(Job),
    /// Not at all.
    Silent,
    /// With a line for the user.
    Say(String),
    /// With the note that it has taken this signal.
    Heard(u8),
}

/// Everything requests are judged by.
pub struct Server {
    pub trees: Vec<GrantedTree>,
    pub identity: Identity,
    pub objects: Objects,
    pub ports: Vec<Port>,
    pub destinations: Arc<RwLock<Destinations>>,
    /// The monitor's side of the island's terminal.
    pub terminal: Option<OwnedFd>,
    /// Bytes of memory objects that may still be made.
    pub memory_objects: u64,
    /// The guest's process.
    pub guest: Pid,
}

impl Server {
    /// Serves one request.
    pub fn serve(&mut self, request: Request) -> Served {
        use Request::*;
        match request {
            Attributes { .. }
            | Open { .. }
            | Create { .. }
            | List { .. }
            | ReadLink { .. }
            | MakeDirectory { .. }
            | MakeLink { .. }
            | HardLink { .. }
            | Rename { .. }
            | Remove { .. }
            | Change { .. }
            | Statistics { .. }
            | GetExtended { .. }
            | SetExtended { .. }
            | ListExtended { .. }
            | RemoveExtended { .. } => Served::Now(self.by_path(request)),
            HandleAttributes { .. }
            | HandleChange { .. }
            | Synchronise { .. }
            | Allocate { .. }
            | Seek { .. }
            | MakeMemory { .. } => self.by_handle(request),
            Forget { object } => {
                self.forget(object);
                Served::Silent
            }
            Listen { .. } | Datagram { .. } | Connect { .. } | SendDatagram { .. } => self.network(request),
            Resolve { message } => self.resolve(message),
            TerminalSettings { .. }
            | SetTerminalSettings { .. }
            | SetTerminalWindow { .. }
            | FlushTerminal { .. } => Served::Now(self.terminal(request)),
            MemoryUse => {
                let guest = self.guest;
                Served::Disk(Box::new(move || usage::memory(guest)))
            }
            Say { text } => Served::Say(text.to_owned()),
            Heard { signal } => Served::Heard(signal),
        }
    }

    fn tree(&self, tree: Tree) -> Result<&GrantedTree, Errno> {
        self.trees.get(usize::from(tree.0)).ok_or(Errno::BADF)
    }
}

/// A request without a value is done.
fn done(result: Result<(), Errno>) -> Outcome {
    result.map(|()| Answer::Reply(Reply::Done))
}

#[cfg(test)]
mod tests;
