//! Files that the library OS makes up: /proc and /sys, computed when they are read from their beginning.
//!
//! A [`Generator`] names one such directory, file or link; it is small, copied freely, and checked anew
//! at every use, since the process it speaks of may have ended. [`system`] holds what concerns the
//! island as a whole, [`super::process`] what concerns one process, [`device`] the nodes of /dev.
//! Everything is read-only except what programs write about themselves, which is taken and ignored.

mod device;
mod disk;
mod network;
mod opened;
mod report;
mod system;

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::file::{Attributes, Entry as Listed};

use super::node::{GENERATED_DEVICE, LINK, TYPE};
use super::process::{self, Part};
use super::walk::Target;
use super::{Kind, Meta, Node};
use crate::errno::{Errno, Result};
use crate::file::File;
use crate::thread::Thread;

pub use device::{Device, add_terminal, fill_devices};
pub use disk::{DiskFile, add_disks};
use opened::GeneratedFile;
pub(super) use report::{mount_facts, mounts};

/// One generated directory, file or link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    System(system::Place),
    Process(process::Place),
}

/// The generated trees, and where they are.
pub fn roots() -> Vec<(&'static [u8], Generator)> {
    let root = |path| Generator::System(system::Place { path, cpu: 0 });
    alloc::vec![(b"/proc".as_slice(), root("proc")), (b"/sys".as_slice(), root("sys"))]
}

impl Generator {
    /// Type and permission bits.
    pub fn mode(self) -> u32 {
        match self {
            Self::System(place) => place.mode(),
            Self::Process(place) => place.part.mode(),
        }
    }

    /// A number that stays the same as long as the thing does.
    fn inode(self) -> u64 {
        match self {
            Self::System(place) => hash(&[place.path.as_bytes(), &place.cpu.to_le_bytes()]),
            Self::Process(place) => {
                let (part, index) = place.part.number();
                hash(&[
                    &place.process.to_le_bytes(),
                    &place.thread.to_le_bytes(),
                    &[part],
                    &index.to_le_bytes(),
                ])
            }
        }
    }

    /// The node for this generator, owned as /proc has it.
    pub(super) fn node(self, thread: &Arc<Thread>) -> Arc<Node> {
        let (user, group) = match self {
            Self::System(_) => (0, 0),
            Self::Process(place) => place.owner(thread.kernel()),
        };
        let now_ns = thread.kernel().machine.now().realtime_ns as i64;
        let meta = Meta::new(self.inode(), self.mode(), user, group, now_ns);
        Node::new(Meta { device: GENERATED_DEVICE, ..meta }, Kind::Generated(self))
    }

    /// What a name in this directory stands for.
    pub fn lookup(&self, thread: &Arc<Thread>, name: &[u8]) -> Result<Arc<Node>> {
        let found = match self {
            Self::System(place) => match place.lookup(thread.kernel(), name) {
                Err(Errno::ENOENT) if place.path == "proc" => process::of_name(thread.kernel(), name)?,
                found => Self::System(found?),
            },
            Self::Process(place) => Self::Process(place.lookup(thread.kernel(), name)?),
        };
        Ok(found.node(thread))
    }

    /// The entries of this directory, without `.` and `..`.
    pub fn list(&self, thread: &Arc<Thread>) -> Result<Vec<Listed>> {
        let found: Vec<(Vec<u8>, Self)> = match self {
            Self::System(place) => {
                let mut found = place.list(thread.kernel())?;
                if place.path == "proc" {
                    found.extend(process::all(thread.kernel()));
                }
                found
            }
            Self::Process(place) => place.list(thread.kernel())?,
        };
        let listed = |(name, generator): (Vec<u8>, Self)| Listed {
            name,
            inode: generator.inode(),
            kind: ((generator.mode() & TYPE) >> 12) as u8,
        };
        Ok(found.into_iter().map(listed).collect())
    }

    /// Whether the content tells of resident memory, which has to be measured before.
    pub fn tells_memory(&self) -> bool {
        match self {
            Self::System(place) => place.path.ends_with("meminfo"),
            Self::Process(place) => place.tells_memory(),
        }
    }

    /// The process whose directory this is.
    pub fn process(&self) -> Option<u32> {
        match self {
            Self::Process(process::Place { process, thread: 0, part: Part::Directory }) => Some(*process),
            _ => None,
        }
    }

    /// The file's content as of now.
    pub async fn content(&self, thread: &Arc<Thread>) -> Result<Vec<u8>> {
        match self {
            Self::System(place) => place.content(thread.kernel()),
            Self::Process(place) => place.content(thread).await,
        }
    }

    /// Where this link leads.
    pub fn target(&self, thread: &Arc<Thread>) -> Result<Target> {
        match self {
            _ if self.mode() & TYPE != LINK => Err(Errno::EINVAL),
            Self::System(place) => place.target(thread).map(Target::Path),
            Self::Process(place) => place.target(thread),
        }
    }

    /// Opens the file.
    pub async fn open(&self, thread: &Arc<Thread>, flags: u32) -> Result<Arc<dyn File>> {
        // What /proc/PID/fd/N leads to may have no name of its own: a pipe, a socket.
        if let Self::Process(process::Place { part: Part::Opened(_), .. }) = self {
            let Self::Process(place) = self else { return Err(Errno::EIO) };
            return place.opened(thread.kernel())?.file.clone().opened_again(flags);
        }
        let attributes = self.node(thread).attributes();
        if let Self::Process(place @ process::Place { part: Part::Contents, .. }) = self {
            return place.contents(thread, attributes);
        }
        Ok(GeneratedFile::new(*self, self.content(thread).await?, attributes))
    }
}

/// FNV-1a, for inode numbers below those that other nodes have.
fn hash(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash ^ hash >> 32) as u32 as u64 | 1
}

/// What a file says of itself, if it can at once; files that have to ask the monitor cannot.
pub(super) fn attributes_now(thread: &Arc<Thread>, file: &dyn File) -> Option<Attributes> {
    file.attributes(thread).at_once()?.ok()
}
