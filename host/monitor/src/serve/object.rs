//! Objects the monitor keeps for the guest, by number.
//!
//! A number alone is no right: each object says what it is and what was granted with it. Numbers are
//! reused only after the guest has given them back, so that a forged one can at most name another object
//! of the same island.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use abi::Handle;
use abi::pico::descriptor::FIRST_FREE;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, getrlimit};

use super::datagram::Datagrams;

/// The most objects an island may hold at once.
pub const OBJECTS_MOST: usize = 65_536;
/// Descriptors that stay the monitor's own: answers on their way, threads at work, streams.
const OWN: u64 = 640;

/// The most that this process's limit of descriptors allows.
fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let rest = if limit > 2 * OWN { limit - OWN } else { limit / 2 };
    usize::try_from(rest).unwrap_or(OBJECTS_MOST).min(OBJECTS_MOST)
}

/// What is kept.
#[derive(Debug)]
pub enum Object {
    /// A file or directory of a tree; `None` for a stream or memory, which are nobody's.
    File { file: OwnedFd, tree: Option<u16>, writable: bool },
    /// Memory that reads, writes and maps like a file.
    Memory { file: OwnedFd, length: u64 },
    /// A listening socket, by its published port.
    Listener { port: usize },
    /// A connected socket, which the guest holds itself.
    Socket,
    /// A datagram socket, which stays here.
    Datagrams(Arc<Datagrams>),
    /// The island's terminal.
    Terminal,
}

impl Object {
    /// One of the standard streams, the trace or the record of files.
    pub fn stream(file: OwnedFd) -> Self {
        Self::File { file, tree: None, writable: false }
    }

    /// The terminal; the monitor reaches it by its own side.
    pub fn terminal(_: OwnedFd) -> Self {
        Self::Terminal
    }
}

/// The table. Number 0 names nothing.
#[derive(Debug)]
pub struct Objects {
    slots: Vec<Option<Object>>,
    free: Vec<u32>,
    most: usize,
}

impl Default for Objects {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), most: most() }
    }
}

impl Objects {
    /// Keeps an object and answers its number.
    pub fn keep(&mut self, object: Object) -> Result<u32, Errno> {
        if let Some(number) = self.free.pop() {
            self.slots[number as usize - 1] = Some(object);
            return Ok(number);
        }
        if self.slots.len() >= self.most {
            return Err(Errno::MFILE);
        }
        self.slots.push(Some(object));
        Ok(self.slots.len() as u32)
    }

    pub fn get(&self, handle: Handle) -> Result<&Object, Errno> {
        let slot = (handle.object() as usize).checked_sub(1).and_then(|index| self.slots.get(index));
        slot.and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    /// Lets go of an object.
    pub fn forget(&mut self, number: u32) -> Option<Object> {
        let object = self.slots.get_mut((number as usize).checked_sub(1)?)?.take()?;
        self.free.push(number);
        Some(object)
    }

    /// Notes the new length of a memory object.
    pub fn resize(&mut self, handle: Handle, size: u64) {
        let index = (handle.object() as usize).wrapping_sub(1);
        if let Some(Some(Object::Memory { length, .. })) = self.slots.get_mut(index) {
            *length = size;
        }
    }

    /// All objects that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.slots.iter().flatten()
    }
}

/// Descriptors granted from the start, in the order of their numbers.
#[derive(Debug, Default)]
pub struct Granted {
    pub descriptors: Vec<OwnedFd>,
    pub objects: Objects,
}

impl Granted {
    /// Grants a descriptor; `object` says what is kept of it.
    pub fn add(
        &mut self,
        descriptor: OwnedFd,
        object: impl FnOnce(OwnedFd) -> Object,
    ) -> Result<Handle, Errno> {
        let kept = object(fcntl_dupfd_cloexec(&descriptor, 0)?);
        let number = FIRST_FREE + self.descriptors.len() as u32;
        self.descriptors.push(descriptor);
        Ok(Handle::new(number, self.objects.keep(kept)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_only_what_is_kept() {
        let mut objects = Objects::default();
        let first = objects.keep(Object::Terminal).unwrap();
        let second = objects.keep(Object::Terminal).unwrap();
        assert_eq!((first, second), (1, 2));
        assert!(objects.get(Handle::new(9, 1)).is_ok());
        for forged in [0, 3, u32::MAX] {
            assert!(objects.get(Handle::new(9, forged)).is_err());
            assert!(objects.forget(forged).is_none());
        }
        assert!(objects.forget(1).is_some());
        assert!(objects.forget(1).is_none());
        assert!(objects.get(Handle::new(9, 1)).is_err());
        assert_eq!(objects.keep(Object::Terminal), Ok(1));
    }

    #[test]
    fn there_is_an_end_to_objects() {
        let mut objects = Objects::default();
        for _ in 0..most() {
            objects.keep(Object::Terminal).unwrap();
        }
        assert_eq!(objects.keep(Object::Terminal), Err(Errno::MFILE));
    }
}
