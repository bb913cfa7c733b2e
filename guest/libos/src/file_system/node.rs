//! What names stand for: directories, files, links, devices.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use crate::lock::Mutex;
use abi::boot::Tree;
use abi::file::{At, Attributes, Change, SetTime};

use super::generated::Device;
use super::{Generator, Location, MemoryFile, want};
use crate::errno::{Errno, Result};
use crate::file::pseudo_terminal::Pair;
use crate::process::Identity;

pub const TYPE: u32 = 0o170000;
pub const DIRECTORY: u32 = 0o040000;
pub const SET_USER: u32 = 0o4000;
pub const SET_GROUP: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o10;
pub const REGULAR: u32 = 0o100000;
pub const LINK: u32 = 0o120000;
pub const FIFO: u32 = 0o010000;
pub const SOCKET: u32 = 0o140000;
pub const CHARACTER: u32 = 0o020000;
pub const BLOCK: u32 = 0o060000;

/// A place in a granted tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub tree: Tree,
    pub path: Vec<u8>,
}

impl Place {
    pub fn root(tree: Tree) -> Self {
        Self { tree, path: Vec::new() }
    }
    pub fn below(&self, name: &[u8]) -> Self {
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Self { tree: self.tree, path }
    }
    pub fn at(&self) -> At<'_> {
        At { tree: self.tree, path: &self.path }
    }
}

/// Attributes of a node that is kept here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meta {
    pub device: u64,
    pub inode: u64,
    pub mode: u32,
    pub links: u32,
    pub user: u32,
    pub group: u32,
    pub special: u64,
    pub accessed_ns: i64,
    pub modified_ns: i64,
    pub changed_ns: i64,
}

/// The devices that the island's own files and the generated ones are on, as stat(2) tells them. What is made
/// in a granted tree's overlay is on the tree's.
pub const OWN_DEVICE: u64 = 0x2a;
pub const GENERATED_DEVICE: u64 = 0x2b;
/// The island's terminal, /dev/pts/0: its inode, below all that are given out, and its device number.
/// fstat(2) of an open one tells the same, for ttyname(3) finds the node by them.
pub const TERMINAL_INODE: u64 = 3;
pub const TERMINAL_NUMBER: u64 = 0x8800;

impl Meta {
    pub fn new(inode: u64, mode: u32, user: u32, group: u32, now_ns: i64) -> Self {
        let links = if mode & TYPE == DIRECTORY { 2 } else { 1 };
        let (accessed_ns, modified_ns, changed_ns) = (now_ns, now_ns, now_ns);
        let device = OWN_DEVICE;
        Self { device, inode, mode, links, user, group, special: 0, accessed_ns, modified_ns, changed_ns }
    }

    pub fn of(attributes: &Attributes) -> Self {
        Self {
            device: attributes.device,
            inode: attributes.inode,
            mode: attributes.mode,
            links: attributes.links,
            user: attributes.user,
            group: attributes.group,
            special: attributes.special,
            accessed_ns: attributes.accessed_ns,
            modified_ns: attributes.modified_ns,
            changed_ns: attributes.changed_ns,
        }
    }

    pub fn attributes(&self, size: u64) -> Attributes {
        Attributes {
            device: self.device,
            inode: self.inode,
            mode: self.mode,
            links: self.links,
            user: self.user,
            group: self.group,
            special: self.special,
            size,
            block_size: 4096,
            blocks: size.div_ceil(512),
            accessed_ns: self.accessed_ns,
            modified_ns: self.modified_ns,
            changed_ns: self.changed_ns,
        }
    }

    /// Applies everything but a size.
    pub fn apply(&mut self, change: &Change, now_ns: i64) {
        if let Some(mode) = change.mode {
            self.mode = self.mode & TYPE | mode & 0o7777;
        }
        if (change.user.is_some() || change.group.is_some()) && self.mode & TYPE != DIRECTORY {
            self.mode &= !SET_USER;
            if self.mode & GROUP_EXECUTES != 0 {
                self.mode &= !SET_GROUP;
            }
        }
        self.user = change.user.unwrap_or(self.user);
        self.group = change.group.unwrap_or(self.group);
        let time = |time: SetTime| match time {
            SetTime::Now => now_ns,
            SetTime::At(time_ns) => time_ns,
        };
        self.accessed_ns = change.accessed.map_or(self.accessed_ns, time);
        self.modified_ns = change.modified.map_or(self.modified_ns, time);
        self.changed_ns = now_ns;
    }
}

/// Children of a directory that are kept here; `None` hides what lies below.
pub type Children = BTreeMap<Vec<u8>, Option<Location>>;

/// A directory.
pub struct Directory {
    pub children: Mutex<Children>,
    /// What lies below on the host, if anything does and is not hidden.
    place: Mutex<Option<Place>>,
    /// Whether writes stay in the guest.
    pub overlay: bool,
    /// Whether writes go to the host.
    pub writable: bool,
}

impl Directory {
    pub fn new(place: Option<Place>, overlay: bool, writable: bool) -> Self {
        Self { children: Mutex::new(BTreeMap::new()), place: Mutex::new(place), overlay, writable }
    }

    /// A directory of the guest's own, over nothing.
    pub fn own() -> Self {
        Self::new(None, true, false)
    }

    /// Whether changes to its names are the monitor's business.
    pub fn is_volume(&self) -> bool {
        self.writable && !self.overlay
    }

    pub fn place(&self) -> Option<Place> {
        self.place.lock().clone()
    }

    pub fn is_on_host(&self) -> bool {
        self.place.lock().is_some()
    }

    /// Where a name of this directory is on the host.
    pub fn below(&self, name: &[u8]) -> Option<Place> {
        self.place.lock().as_ref().map(|place| place.below(name))
    }

    /// Whether a kept child is the host's own directory of that name, and not something of the guest's
    /// or another tree attached there.
    pub fn mirrors(&self, name: &[u8], child: &Node) -> bool {
        let Kind::Directory(child) = &child.kind else { return false };
        let place = child.place();
        place.is_some() && place == self.below(name)
    }

    /// Takes note that the host's directory has moved, and with it what is kept of those below.
    pub fn move_to(&self, place: Place) {
        let mut below = self.move_alone(place);
        while let Some((child, place)) = below.pop() {
            if let Kind::Directory(directory) = &child.node.kind {
                below.extend(directory.move_alone(place));
            }
        }
    }

    /// The same but for those below; where they are now.
    fn move_alone(&self, place: Place) -> Vec<(Location, Place)> {
        let children = self.children.lock();
        let mirrored = children.iter().filter_map(|(name, child)| {
            let child = child.as_ref().filter(|child| self.mirrors(name, &child.node))?;
            Some((child.clone(), place.below(name)))
        });
        let below = mirrored.collect();
        *self.place.lock() = Some(place);
        below
    }
}

/// A file on the host that is not kept here.
pub struct HostLeaf {
    pub place: Place,
    pub attributes: Attributes,
    pub overlay: bool,
    pub writable: bool,
}

/// What kind of thing a node is.
pub enum Kind {
    Directory(Directory),
    Memory(Arc<MemoryFile>),
    Link(Vec<u8>),
    Device(Device),
    /// The follower of a pseudo-terminal, while its leader is open.
    Terminal(Weak<Pair>),
    Fifo(crate::file::fifo::Shared),
    Socket,
    Host(HostLeaf),
    Generated(Generator),
}

/// A file, whatever its names.
pub struct Node {
    pub meta: Mutex<Meta>,
    pub kind: Kind,
    pub extended: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Node {
    pub fn new(meta: Meta, kind: Kind) -> Arc<Self> {
        Arc::new(Self { meta: Mutex::new(meta), kind, extended: Mutex::new(BTreeMap::new()) })
    }

    pub fn attributes(&self) -> Attributes {
        let meta = *self.meta.lock();
        match &self.kind {
            Kind::Host(leaf) => leaf.attributes,
            Kind::Memory(file) => Attributes { blocks: file.blocks(), ..meta.attributes(file.size()) },
            Kind::Link(target) => meta.attributes(target.len() as u64),
            Kind::Directory(_) => meta.attributes(4096),
            _ => meta.attributes(0),
        }
    }

    pub fn mode(&self) -> u32 {
        match &self.kind {
            Kind::Host(leaf) => leaf.attributes.mode,
            _ => self.meta.lock().mode,
        }
    }

    /// Whether it lives here even in a volume: pipes, sockets and devices mean nothing to the host.
    pub fn is_special(&self) -> bool {
        matches!(self.kind, Kind::Fifo(_) | Kind::Socket | Kind::Device(_))
    }

    /// The mode, if this is a directory that can be searched.
    pub fn search_mode(&self) -> Option<u32> {
        Some(self.mode()).filter(|mode| mode & TYPE == DIRECTORY)
    }

    pub fn is_directory(&self) -> bool {
        self.mode() & TYPE == DIRECTORY
    }

    /// The process whose directory in /proc this is.
    pub fn process(&self) -> Option<u32> {
        match &self.kind {
            Kind::Generated(generator) => generator.process(),
            _ => None,
        }
    }

    pub fn directory(&self) -> Result<&Directory> {
        match &self.kind {
            Kind::Directory(directory) => Ok(directory),
            Kind::Generated(_) => Err(Errno::EACCES),
            _ => Err(Errno::ENOTDIR),
        }
    }
}

/// Whether `identity` may access a file in the wanted way (path_resolution(7)).
pub fn permits(identity: &Identity, attributes: &Attributes, wanted: u32) -> Result<()> {
    if wanted == 0 {
        return Ok(());
    }
    let mode = attributes.mode;
    if identity.privileged() {
        let runnable = mode & 0o111 != 0 || mode & TYPE == DIRECTORY;
        return if wanted & want::EXECUTE != 0 && !runnable { Err(Errno::EACCES) } else { Ok(()) };
    }
    let granted = if identity.user == attributes.user {
        mode >> 6
    } else if identity.in_group(attributes.group) {
        mode >> 3
    } else {
        mode
    };
    if granted & wanted == wanted { Ok(()) } else { Err(Errno::EACCES) }
}
