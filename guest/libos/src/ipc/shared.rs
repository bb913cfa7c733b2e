//! Shared memory of System V (shmget(2)).
//!
//! A segment is a file without a name. How often it is attached is counted where it is attached: each attachment
//! is one [`Backed`], however many pieces its mapping is in, in each address space that has it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::lock::Mutex;
use machine::UserRange;

use super::Entry;
use crate::file::File;
use crate::file_system::{Location, MemoryFile};
use crate::kernel::Kernel;
use crate::memory::{AddressSpace, Backed, Content, Memory};

/// SHM_DEST and SHM_LOCKED, in the mode.
pub const DOOMED: u32 = 0o1000;

/// When a segment was used last, and by whom.
#[derive(Clone, Copy, Default)]
pub struct Use {
    pub attached_s: u64,
    pub detached_s: u64,
    pub last: u32,
}

/// A segment.
pub struct Segment {
    pub file: Arc<MemoryFile>,
    pub place: Location,
    pub inode: u64,
    pub size: u64,
    pub maker: u32,
    pub used: Mutex<Use>,
}

/// What a mapping of this file is kept by.
fn backing<'a>(content: &'a Content, file: &Arc<dyn File>) -> Option<&'a Arc<Backed>> {
    match content {
        Content::File { backed, .. } if Arc::ptr_eq(&backed.file, file) => Some(backed),
        _ => None,
    }
}

impl Segment {
    fn as_file(&self) -> Arc<dyn File> {
        self.file.clone()
    }

    /// The attachments in one address space.
    fn attachments(&self, space: &AddressSpace) -> Vec<Arc<Backed>> {
        let file = self.as_file();
        let mut found: Vec<Arc<Backed>> = Vec::new();
        for (_, mapping) in space.mappings.iter() {
            if let Some(backed) = backing(&mapping.content, &file)
                && !found.iter().any(|other| Arc::ptr_eq(other, backed))
            {
                found.push(backed.clone());
            }
        }
        found
    }

    /// How often it is attached in all.
    pub fn attached(&self, kernel: &Kernel) -> u64 {
        let processes: Vec<_> = kernel.processes.lock().values().cloned().collect();
        let mut spaces: Vec<Arc<Memory>> = processes.iter().map(|process| process.memory()).collect();
        spaces.sort_by_key(Arc::as_ptr);
        spaces.dedup_by(|one, other| Arc::ptr_eq(one, other));
        spaces.iter().map(|memory| self.attachments(&memory.lock()).len() as u64).sum()
    }

    /// Where the attachment lies that begins at an address.
    pub fn pieces_from(&self, space: &AddressSpace, address: u64) -> Option<Vec<UserRange>> {
        let file = self.as_file();
        let starts =
            |mapping: &crate::memory::Mapping| matches!(mapping.content, Content::File { offset: 0, .. });
        let (_, first) =
            space.mappings.iter().find(|(range, mapping)| range.address == address && starts(mapping))?;
        let backed = backing(&first.content, &file)?;
        let same =
            |content: &Content| backing(content, &file).is_some_and(|other| Arc::ptr_eq(other, backed));
        let pieces = space.mappings.iter().filter(|(_, mapping)| same(&mapping.content));
        Some(pieces.map(|(range, _)| range).collect())
    }
}

impl Entry<Segment> {
    /// Whether it goes when nobody has it attached any more.
    pub fn is_doomed(&self) -> bool {
        self.owner.lock().mode & DOOMED != 0
    }
}

impl super::Ipc {
    /// Removes segments that were to go and are attached nowhere any more.
    pub fn settle(&self, kernel: &Kernel) {
        for entry in self.memory.all() {
            if entry.is_doomed() && entry.thing.attached(kernel) == 0 {
                self.memory.remove(&entry);
            }
        }
    }
}
