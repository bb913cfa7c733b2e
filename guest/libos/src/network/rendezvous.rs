//! How local sockets find each other by name (unix(7)).
//!
//! A path is bound by making a socket file there, and found by walking to that file, so that links,
//! renames, removals and modes mean what they mean elsewhere. On a volume the file is the island's own,
//! above what the host has there. Abstract names are strings of their own.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::lock::Mutex;

use super::address::{self, LocalName};
use super::socket::Endpoint;
use crate::errno::{Errno, Result};
use crate::file::{Promise, kept};
use crate::file_system::{Follow, Kind, Location, Node, make, permits, walk, walk_parent, want};
use crate::thread::Thread;

/// What a name comes down to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Abstract(Vec<u8>),
    /// A socket file, by where its node is; whoever is bound to it keeps the node.
    File(usize),
}

impl Key {
    fn file(node: &Arc<Node>) -> Self {
        Self::File(Arc::as_ptr(node) as usize)
    }
}

/// The bound names of an island.
#[derive(Default)]
pub struct Names(Mutex<BTreeMap<Key, Weak<dyn Endpoint>>>);

impl Names {
    fn add(&self, key: &Key, endpoint: Weak<dyn Endpoint>) -> Result<()> {
        let mut names = self.0.lock();
        if names.get(key).is_some_and(|bound| bound.strong_count() > 0) {
            return Err(Errno::EADDRINUSE);
        }
        names.insert(key.clone(), endpoint);
        Ok(())
    }

    fn find(&self, key: &Key) -> Result<Arc<dyn Endpoint>> {
        self.0.lock().get(key).and_then(Weak::upgrade).ok_or(Errno::ECONNREFUSED)
    }
}

/// A socket's own name.
#[derive(Default)]
pub struct Bound {
    pub name: LocalName,
    key: Option<Key>,
    /// The socket file, kept so that no other gets its place in memory.
    node: Option<Arc<Node>>,
}

impl Bound {
    /// The name of the far end of a connection: the listener's, but not bound.
    pub fn named(name: LocalName) -> Self {
        Self { name, ..Self::default() }
    }

    pub fn is_bound(&self) -> bool {
        self.key.is_some()
    }

    /// Frees the name when the socket is closed. A socket file stays, and refuses.
    pub fn release(&mut self, names: &Names) {
        if let Some(key) = self.key.take() {
            names.0.lock().remove(&key);
        }
        self.node = None;
    }
}

/// A socket that can have a name.
pub trait Named: Endpoint {
    fn bound(&self) -> &Mutex<Bound>;
}

/// bind(2).
pub fn bind<E: Named>(thread: &Arc<Thread>, endpoint: &Weak<E>, bytes: &[u8]) -> Promise<()> {
    let Some(endpoint) = endpoint.upgrade() else { return kept(Err(Errno::EIO)) };
    let name = match address::local(bytes) {
        Ok(name) => name,
        Err(errno) => return kept(Err(errno)),
    };
    let is_bound = endpoint.bound().lock().is_bound();
    let thread = thread.clone();
    Promise::later(async move {
        if is_bound {
            return Err(bound_already(&thread, &name).await);
        }
        let names = &thread.kernel().network.names;
        let weak: Weak<dyn Endpoint> = Arc::downgrade(&endpoint) as Weak<dyn Endpoint>;
        let bound = match name {
            LocalName::Unnamed => choose(names, weak)?,
            LocalName::Abstract(bytes) => {
                let key = Key::Abstract(bytes.clone());
                names.add(&key, weak)?;
                Bound { name: LocalName::Abstract(bytes), key: Some(key), node: None }
            }
            LocalName::Path(path) => {
                let (key, node) = make_file(&thread, &path).await?;
                names.add(&key, weak)?;
                Bound { name: LocalName::Path(path), key: Some(key), node }
            }
        };
        *endpoint.bound().lock() = bound;
        Ok(())
    })
}

/// What is wrong with binding a socket once more: a path that is taken is said first.
async fn bound_already(thread: &Arc<Thread>, name: &LocalName) -> Errno {
    let LocalName::Path(path) = name else { return Errno::EINVAL };
    match walk(thread, &start(thread), path, Follow::No).await {
        Ok(_) => Errno::EADDRINUSE,
        Err(Errno::ENOENT) => Errno::EINVAL,
        Err(errno) => errno,
    }
}

/// A name for a socket that wants any (unix(7), "Autobind feature").
fn choose(names: &Names, endpoint: Weak<dyn Endpoint>) -> Result<Bound> {
    (0..0x10_0000_u32)
        .find_map(|number| {
            let bytes = format!("{number:05x}").into_bytes();
            let key = Key::Abstract(bytes.clone());
            names.add(&key, endpoint.clone()).ok()?;
            Some(Bound { name: LocalName::Abstract(bytes), key: Some(key), node: None })
        })
        .ok_or(Errno::EADDRINUSE)
}

fn start(thread: &Arc<Thread>) -> Location {
    thread.file_system().directory()
}

/// Makes the socket file of a path.
async fn make_file(thread: &Arc<Thread>, path: &[u8]) -> Result<(Key, Option<Arc<Node>>)> {
    let found = walk_parent(thread, &start(thread), path).await?;
    let mode = thread.file_system().masked(0o140777);
    match make(thread, &found.parent, &found.name, mode, |_| Kind::Socket).await {
        Ok(entry) => Ok((Key::file(&entry.node), Some(entry.node.clone()))),
        Err(Errno::EEXIST) => Err(Errno::EADDRINUSE),
        Err(errno) => Err(errno),
    }
}

/// Who has a name.
pub fn find(thread: &Arc<Thread>, bytes: &[u8]) -> Promise<Arc<dyn Endpoint>> {
    let thread = thread.clone();
    match address::local(bytes) {
        Ok(LocalName::Unnamed) => kept(Err(Errno::EINVAL)),
        Ok(LocalName::Abstract(bytes)) => kept(thread.kernel().network.names.find(&Key::Abstract(bytes))),
        Ok(LocalName::Path(path)) => Promise::later(async move { find_file(&thread, &path).await }),
        Err(errno) => kept(Err(errno)),
    }
}

async fn find_file(thread: &Arc<Thread>, path: &[u8]) -> Result<Arc<dyn Endpoint>> {
    let entry = walk(thread, &start(thread), path, Follow::Yes).await?;
    permits(&thread.process.identity.lock(), &entry.node.attributes(), want::WRITE)?;
    thread.kernel().network.names.find(&Key::file(&entry.node))
}
