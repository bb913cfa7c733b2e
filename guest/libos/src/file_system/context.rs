//! Where a thread's paths lead from, and what its new files may not be: what clone(2) shares with CLONE_FS.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use super::Location;
use crate::lock::Mutex;

/// The working directory, the root and the file mode creation mask.
pub struct FileSystemContext {
    directory: Mutex<Location>,
    root: Mutex<Location>,
    mask: AtomicU32,
}

impl FileSystemContext {
    /// What the first thread has.
    pub fn first(root: Location) -> Arc<Self> {
        Self::with(root.clone(), root, 0o022)
    }

    /// The same, apart.
    pub fn copied(&self) -> Arc<Self> {
        Self::with(self.directory(), self.root(), self.mask())
    }

    fn with(directory: Location, root: Location, mask: u32) -> Arc<Self> {
        Arc::new(Self {
            directory: Mutex::new(directory),
            root: Mutex::new(root),
            mask: AtomicU32::new(mask),
        })
    }

    /// Where relative paths start.
    pub fn directory(&self) -> Location {
        self.directory.lock().clone()
    }

    pub fn set_directory(&self, directory: Location) {
        *self.directory.lock() = directory;
    }

    /// Where absolute paths start.
    pub fn root(&self) -> Location {
        self.root.lock().clone()
    }

    pub fn set_root(&self, root: Location) {
        *self.root.lock() = root;
    }

    /// The bits that new files do not get (umask(2)).
    pub fn mask(&self) -> u32 {
        self.mask.load(Ordering::Relaxed)
    }

    /// Sets them; what they were.
    pub fn set_mask(&self, mask: u32) -> u32 {
        self.mask.swap(mask & 0o777, Ordering::Relaxed)
    }

    /// A new file's mode.
    pub fn masked(&self, mode: u32) -> u32 {
        mode & !self.mask()
    }
}
