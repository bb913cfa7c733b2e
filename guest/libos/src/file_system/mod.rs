//! The island's file tree: granted trees below, the guest's own memory above.
//!
//! The tree is made of [`Entry`]s, which name [`Node`]s. Directories of granted trees are kept as
//! entries once they have been walked through; their files are not, so every look-up of one asks again
//! and sees what the host has. An overlay directory is one whose writes stay here: its `children` hold
//! what was made or hidden, its `place` what lies below. Volumes have a place and no such children.
//! Lock order: a parent's `children` before a child's.

mod attributes;
mod bounds;
mod change;
mod content;
mod context;
mod directory_file;
mod generated;
mod host_file;
mod identity;
mod listing;
pub mod lock;
mod naming;
mod node;
mod open;
mod process;
mod raising;
mod record;
mod rename;
pub mod seal;
mod walk;
mod watch;

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::lock::Mutex;
use abi::boot::{Boot, MountKind, Stream};
use abi::file::{Access, Attributes, Extent};
use abi::request::{Reply, Request};

use crate::errno::{Errno, Result};
use crate::file::{Description, Turn};
use crate::kernel::Kernel;

pub use attributes::attributes;
pub use bounds::{Bounds, Rules};
pub use change::*;
pub use content::MemoryFile;
pub use context::FileSystemContext;
pub use directory_file::DirectoryFile;
pub use generated::{Device, DiskFile, Generator};
pub use host_file::HostFile;
pub use identity::Identity;
pub use listing::{Listing, list};
pub use node::{
    BLOCK, CHARACTER, DIRECTORY, Directory, Kind, Meta, Node, OWN_DEVICE, Place, REGULAR, TERMINAL_INODE,
    TERMINAL_NUMBER, TYPE, permits,
};
pub use open::{open_entry, open_found, opened, temporary};
pub use raising::own;
use record::Record;
pub use rename::{EXCHANGE, NO_REPLACE, rename};
pub use seal::{is_sealed, seals};
pub use walk::{Follow, Found, link_text, step, walk, walk_parent, walk_within};
pub use watch::{Watches, happened, manner};

/// Access wanted from a file: bits as in a mode's lowest three.
pub mod want {
    pub const EXECUTE: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const READ: u32 = 4;
}

/// A name in the tree.
pub struct Entry {
    pub name: Mutex<Vec<u8>>,
    pub parent: Mutex<Option<Location>>,
    pub node: Arc<Node>,
    /// The name is gone; who still has the place may use it, but nobody finds it.
    removed: AtomicBool,
}

/// A place in the tree.
pub type Location = Arc<Entry>;

impl Drop for Entry {
    /// The places above that nobody else has go one by one: a tree may be deeper than a stack.
    fn drop(&mut self) {
        let mut above = self.parent.get_mut().take();
        while let Some(entry) = above.and_then(Arc::into_inner) {
            above = entry.parent.lock().take();
        }
    }
}

impl Entry {
    pub fn new(name: &[u8], parent: Option<Location>, node: Arc<Node>) -> Location {
        Arc::new(Self {
            name: Mutex::new(name.to_vec()),
            parent: Mutex::new(parent),
            node,
            removed: AtomicBool::new(false),
        })
    }

    /// A place for what has a label but was never under a name.
    pub fn nameless(label: &[u8], node: Arc<Node>) -> Location {
        let entry = Self::new(label, None, node);
        entry.set_removed();
        entry
    }

    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    fn set_removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }

    /// Takes the name out of its directory, if it is still there.
    pub fn detach(&self) {
        self.set_removed();
        let parent = self.parent.lock().clone();
        if let Some(Kind::Directory(parent)) = parent.as_ref().map(|parent| &parent.node.kind) {
            let (name, mut children) = (self.name.lock().clone(), parent.children.lock());
            let own = |child: &Option<Location>| {
                child.as_ref().is_some_and(|child| core::ptr::eq(Arc::as_ptr(child), self))
            };
            if children.get(&name).is_some_and(own) {
                children.remove(&name);
            }
        }
    }

    /// The path as /proc shows it, which says so if the name is gone.
    pub fn shown_path(&self) -> Vec<u8> {
        let mut path = self.path();
        if self.is_removed() {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }

    /// The absolute path, as getcwd(2) gives it; the bare name of what is in no tree (`pipe:[7]`).
    pub fn path(&self) -> Vec<u8> {
        self.climb(|_| false).0
    }

    /// The path as whoever has this root sees it (chroot(2)).
    pub fn path_below(self: &Arc<Self>, root: &Location) -> Vec<u8> {
        if Arc::ptr_eq(self, root) {
            return b"/".to_vec();
        }
        match self.climb(|above| Arc::ptr_eq(above, root)) {
            (path, true) => path,
            (path, false) => [b"(unreachable)", &*path].concat(),
        }
    }

    /// The path from a place above, or from the top; whether that place was met.
    fn climb(&self, stops: impl Fn(&Location) -> bool) -> (Vec<u8>, bool) {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut name = self.name.lock().clone();
        let mut parent = self.parent.lock().clone();
        let mut met = false;
        while let Some(above) = parent.filter(|_| !met) {
            names.push(name);
            met = stops(&above);
            name = above.name.lock().clone();
            parent = above.parent.lock().clone();
        }
        if names.is_empty() {
            return (if name.is_empty() { b"/".to_vec() } else { name }, met);
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        (path, met)
    }
}

/// All file systems of an island.
pub struct FileSystems {
    root: Location,
    numbers: AtomicU64,
    /// Bytes the guest's own files may hold yet.
    scratch: AtomicU64,
    pub locks: lock::Locks,
    pub watches: Arc<Watches>,
    /// The turns of those who append, by file.
    appending: Mutex<BTreeMap<Identity, Weak<Turn>>>,
    /// Held while a name in the guest's own directories changes.
    names: Mutex<()>,
    record: Record,
}

impl FileSystems {
    /// Builds the tree as the grants say, with the guest's own parts: /tmp, /run, /home and /root empty
    /// and writable, /dev, /proc and /sys.
    pub fn new(boot: &Boot, now_ns: u64) -> Self {
        let numbers = AtomicU64::new(1 << 32);
        let number = || numbers.fetch_add(1, Ordering::Relaxed);
        let realtime_ns = now_ns as i64;
        let root_mount = boot.mounts.first();
        let place = root_mount.map(|mount| Place::root(mount.tree));
        let overlay = root_mount.is_none_or(|mount| mount.kind == MountKind::Overlay);
        let writable = root_mount.is_some_and(|mount| mount.kind == MountKind::Writable);
        let meta = |mode, user, group| Meta::new(number(), mode, user, group, realtime_ns);
        let directory = Directory::new(place, overlay, writable);
        let root = Entry::new(b"", None, Node::new(meta(0o040755, 0, 0), Kind::Directory(directory)));
        let own = |path: &[u8], mode: u32, user: u32, group: u32| {
            let node = Node::new(meta(0o040000 | mode, user, group), Kind::Directory(Directory::own()));
            attach(&root, path, node, &meta)
        };
        own(b"/tmp", 0o1777, 0, 0);
        own(b"/run", 0o1777, 0, 0);
        own(b"/home", 0o1777, 0, 0);
        own(b"/root", 0o700, boot.user, boot.group);
        let devices = own(b"/dev", 0o755, 0, 0);
        generated::fill_devices(&devices, &meta);
        if boot.streams.iter().any(|stream| matches!(stream, Stream::Terminal(_))) {
            generated::add_terminal(&devices, (boot.user, boot.group), &meta);
        }
        generated::add_disks(&devices, boot, &meta);
        own(b"/dev/shm", 0o1777, 0, 0);
        for (path, generator) in generated::roots() {
            let meta_here = Meta { device: node::GENERATED_DEVICE, ..meta(0o040555, 0, 0) };
            let node = Node::new(meta_here, Kind::Generated(generator));
            attach(&root, path, node, &meta);
        }
        Self {
            root,
            numbers,
            scratch: AtomicU64::new(boot.scratch),
            locks: Default::default(),
            watches: Arc::default(),
            appending: Default::default(),
            names: Default::default(),
            record: Record::new(boot.record),
        }
    }

    /// Puts a file of the island's own into its tree.
    async fn attach_own(&self, kernel: &Arc<Kernel>, path: &[u8], content: &[u8]) {
        let device = self.reach(kernel, path).await;
        let file = MemoryFile::new(kernel);
        file.hold(content);
        let now_ns = kernel.machine.now().realtime_ns as i64;
        let meta = |mode, user, group| Meta::new(self.next_number(), mode, user, group, now_ns);
        let node = Node::new(Meta { device, ..meta(0o100644, 0, 0) }, Kind::Memory(file.clone()));
        file.belong_to(&node);
        attach(&self.root, path, node, &meta);
    }

    /// Has the directories above a path, as far as the host has them, and says which device the last one is on.
    async fn reach(&self, kernel: &Arc<Kernel>, path: &[u8]) -> u64 {
        let mut at = self.root.clone();
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        for name in &names[..names.len().saturating_sub(1)] {
            let Kind::Directory(directory) = &at.node.kind else { break };
            let known = directory.children.lock().get(*name).cloned();
            let next = match (known, directory.below(name)) {
                (Some(known), _) => known,
                (None, Some(place)) => {
                    let attributes = host_attributes(kernel, &place).await.ok();
                    attributes.filter(|attributes| attributes.mode & TYPE == DIRECTORY).map(|attributes| {
                        let below = Directory::new(Some(place), directory.overlay, directory.writable);
                        let node = Node::new(Meta::of(&attributes), Kind::Directory(below));
                        let entry = Entry::new(name, Some(at.clone()), node);
                        directory.children.lock().insert(name.to_vec(), Some(entry.clone()));
                        entry
                    })
                }
                (None, None) => None,
            };
            let Some(next) = next else { break };
            at = next;
        }
        at.node.meta.lock().device
    }

    /// Puts the granted trees behind the first where they belong; a tree may be a single file. What
    /// names stand for is the island's own: names that only the machine knows are asked of the monitor.
    pub async fn attach_trees(&self, kernel: &Arc<Kernel>) -> Result<()> {
        if let Some(place) = self.root.node.directory()?.place()
            && let Ok(attributes) = host_attributes(kernel, &place).await
        {
            let mut meta = self.root.node.meta.lock();
            (meta.device, meta.inode) = (attributes.device, attributes.inode);
        }
        let hostname = &kernel.boot.hostname[..];
        let hosts = [b"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.0.1\t", hostname, b"\n"].concat();
        self.attach_own(kernel, b"/etc/hosts", &hosts).await;
        self.attach_own(kernel, b"/etc/hostname", &[hostname, b"\n"].concat()).await;
        self.attach_own(kernel, b"/etc/resolv.conf", b"nameserver 127.0.0.53\n").await;
        for mount in kernel.boot.mounts.iter().skip(1) {
            let place = Place::root(mount.tree);
            let attributes = host_attributes(kernel, &place).await?;
            self.reach(kernel, &mount.path).await;
            let overlay = mount.kind == MountKind::Overlay;
            let writable = mount.kind == MountKind::Writable;
            let kind = if attributes.mode & node::TYPE == node::DIRECTORY {
                Kind::Directory(Directory::new(Some(place), overlay, writable))
            } else {
                Kind::Host(node::HostLeaf { place, attributes, overlay, writable })
            };
            let meta =
                |mode, user, group| Meta::new(self.next_number(), mode, user, group, attributes.changed_ns);
            attach(&self.root, &mount.path, Node::new(Meta::of(&attributes), kind), &meta);
        }
        Ok(())
    }

    /// The device of the last directory on a path that is kept here, as mount points are.
    pub fn device_at(&self, path: &[u8]) -> u64 {
        let mut at = self.root.clone();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let Kind::Directory(directory) = &at.node.kind else { break };
            let Some(Some(next)) = directory.children.lock().get(name).cloned() else { break };
            at = next;
        }
        at.node.attributes().device
    }

    pub fn root(&self) -> Location {
        self.root.clone()
    }

    /// A new inode number.
    pub fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes bytes from what the guest's own files may hold; false if there is not enough.
    pub fn reserve(&self, bytes: u64) -> bool {
        self.scratch
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
            .is_ok()
    }

    /// The turn of those who append to a file.
    pub fn appending(&self, description: &Description) -> Arc<Turn> {
        let mut appending = self.appending.lock();
        appending.retain(|_, turn| turn.strong_count() > 0);
        let slot = appending.entry(Identity::of(description)).or_default();
        let turn = slot.upgrade().unwrap_or_default();
        *slot = Arc::downgrade(&turn);
        turn
    }

    pub fn release(&self, bytes: u64) {
        self.scratch.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes the guest's own files may hold yet.
    pub fn left(&self) -> u64 {
        self.scratch.load(Ordering::Relaxed)
    }
}

/// Has a place in a volume stored, and more, by the extent.
pub async fn synchronise(kernel: &Arc<Kernel>, place: &Place, extent: Extent) -> Result<()> {
    let Attributes { device, inode, .. } = host_attributes(kernel, place).await?;
    // One that the monitor knows: the guest may have a way of its own to open files, but none to store them.
    let request = Request::Open { at: place.at(), access: Access::Again { device, inode } };
    let Reply::Opened { handle, .. } = kernel.devices.request(kernel, request).await? else {
        return Err(Errno::EIO);
    };
    let done = kernel.devices.request(kernel, Request::Synchronise { handle, extent }).await;
    kernel.machine.close(handle);
    done.map(drop)
}

/// Has all volumes and disks stored, as far as possible.
pub async fn synchronise_all(kernel: &Arc<Kernel>) {
    let extent = Extent::FileSystem;
    for mount in kernel.boot.mounts.iter().filter(|mount| mount.kind == MountKind::Writable) {
        let _ = synchronise(kernel, &Place::root(mount.tree), extent).await;
    }
    for disk in kernel.boot.disks.iter().filter(|disk| disk.writable) {
        let _ = kernel.devices.request(kernel, Request::Synchronise { handle: disk.handle, extent }).await;
    }
}

async fn host_attributes(kernel: &Arc<Kernel>, place: &Place) -> Result<Attributes> {
    match kernel.devices.request(kernel, Request::Attributes { at: place.at() }).await? {
        Reply::Attributes(attributes) => Ok(attributes),
        _ => Err(Errno::EIO),
    }
}

/// Puts a node at an absolute path, with directories above it as needed, which are on the same device as those
/// above them.
fn attach(root: &Location, path: &[u8], node: Arc<Node>, meta: &impl Fn(u32, u32, u32) -> Meta) -> Location {
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    let mut at = root.clone();
    for (index, name) in names.iter().enumerate() {
        let Kind::Directory(directory) = &at.node.kind else { return at };
        let mut children = directory.children.lock();
        let last = index + 1 == names.len();
        let existing = match children.get(*name) {
            Some(Some(entry)) if !last => Some(entry.clone()),
            _ => None,
        };
        let next = existing.unwrap_or_else(|| {
            let made = if last {
                node.clone()
            } else {
                let place = directory.below(name);
                let below = Directory::new(place, directory.overlay, directory.writable);
                let device = at.node.meta.lock().device;
                Node::new(Meta { device, ..meta(0o040755, 0, 0) }, Kind::Directory(below))
            };
            let entry = Entry::new(name, Some(at.clone()), made);
            children.insert(name.to_vec(), Some(entry.clone()));
            entry
        });
        drop(children);
        at = next;
    }
    at
}
