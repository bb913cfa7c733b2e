//! Memory objects: files without a name, whose pages are this guest's own.

use alloc::sync::Arc;

use abi::Code;
use abi::address::USER_END;
use abi::file::{Attributes, Change};
use entry::user_memory;
use machine::{PAGE, Sink, Source, UserRange};
use spin::Mutex;

use crate::code::{EFAULT, EINVAL, EIO, ENOMEM, ENXIO, EOPNOTSUPP};
use crate::memory;
use crate::memory::object::{Absent, Object};

const REGULAR: u32 = 0o100_600;

/// Modes of fallocate(2).
pub const KEEP_SIZE: u32 = 1;
pub const PUNCH_HOLE: u32 = 2;

/// An open object with a position of its own.
pub struct Memory {
    pub object: Arc<Object>,
    attributes: Attributes,
    position: Mutex<u64>,
}

impl From<Absent> for Code {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::NoMemory => ENOMEM,
            Absent::Beyond => EIO,
            Absent::Failed(code) => code,
        }
    }
}

/// The direction of a transfer, as seen from the application.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Read,
    Write,
}

impl Memory {
    /// Memory of this length, all zeroes.
    pub fn new(length: u64) -> Self {
        let attributes = Attributes { mode: REGULAR, links: 1, ..Attributes::default() };
        Self::of(Arc::new(Object::memory(length)), attributes)
    }

    /// An object with these attributes.
    pub fn of(object: Arc<Object>, attributes: Attributes) -> Self {
        Self { object, attributes, position: Mutex::new(0) }
    }

    pub fn attributes(&self) -> Attributes {
        let size = self.object.length();
        Attributes { size, block_size: PAGE as u32, blocks: self.blocks(size), ..self.attributes }
    }

    /// Memory's holes are nowhere; a file in the image is there whether its pages are or not.
    fn blocks(&self, size: u64) -> u64 {
        if self.attributes.blocks == 0 { self.object.held() / 512 } else { size.div_ceil(512) }
    }

    pub fn change(&self, change: &Change) {
        if let Some(size) = change.size {
            memory::resize(&self.object, size);
        }
    }

    /// fallocate(2), as tmpfs does it: making room is nothing to do, holes are punched.
    pub fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<(), Code> {
        const HOLE: u32 = PUNCH_HOLE | KEEP_SIZE;
        let end = offset.checked_add(length).filter(|end| *end <= i64::MAX as u64).ok_or(EINVAL)?;
        match mode {
            HOLE => memory::punch(&self.object, offset, end),
            KEEP_SIZE => {}
            0 => self.object.extend(end),
            _ => return Err(EOPNOTSUPP),
        }
        Ok(())
    }

    pub fn seek(&self, offset: u64, hole: bool) -> Result<u64, Code> {
        self.object.seek(offset, hole).ok_or(ENXIO)
    }

    pub fn read(&self, offset: Option<u64>, to: Sink<'_>) -> Result<usize, Code> {
        match to {
            Sink::User(ranges) => self.at(offset, Way::Read, ranges),
            Sink::Kernel(bytes) => self.at(offset, Way::Read, &[own(bytes.as_mut_ptr() as u64, bytes.len())]),
        }
    }

    pub fn write(&self, offset: Option<u64>, from: Source<'_>) -> Result<usize, Code> {
        match from {
            Source::User(ranges) => self.at(offset, Way::Write, ranges),
            Source::Kernel(bytes) => self.at(offset, Way::Write, &[own(bytes.as_ptr() as u64, bytes.len())]),
        }
    }

    fn at(&self, offset: Option<u64>, way: Way, ranges: &[UserRange]) -> Result<usize, Code> {
        if let Some(offset) = offset {
            return self.transfer(offset, way, ranges);
        }
        // Faults are resolved meanwhile, which takes no lock of ours.
        let mut position = self.position.lock();
        let done = self.transfer(*position, way, ranges)?;
        *position += done as u64;
        Ok(done)
    }

    fn transfer(&self, offset: u64, way: Way, ranges: &[UserRange]) -> Result<usize, Code> {
        let mut done = 0;
        for range in ranges {
            match self.part(offset + done as u64, way, *range) {
                Ok(length) => {
                    done += length;
                    if (length as u64) < range.length {
                        break;
                    }
                }
                Err(code) if done == 0 => return Err(code),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// One range, page by page.
    fn part(&self, offset: u64, way: Way, range: UserRange) -> Result<usize, Code> {
        let end = offset.checked_add(range.length).filter(|end| *end <= i64::MAX as u64).ok_or(EINVAL)?;
        let before = self.object.length();
        let end = match way {
            Way::Read => end.min(before.max(offset)),
            Way::Write => end,
        };
        if end > before {
            self.object.extend(end);
        }
        let mut at = offset;
        while at < end {
            let page = self.object.page(at / PAGE)?;
            let length = (PAGE - at % PAGE).min(end - at);
            let inside = page.bytes() as u64 + at % PAGE;
            let outside = range.address + (at - offset);
            // SAFETY: the page is held; the other side is below the end of applications' addresses, or a
            // Rust slice that the caller lent for this direction.
            let copied = unsafe {
                match way {
                    Way::Read => user_memory::transfer(outside, inside, length),
                    Way::Write => user_memory::transfer(inside, outside, length),
                }
            };
            if copied.is_err() {
                // What was not written does not make the object longer.
                if end > before && self.object.length() == end {
                    self.object.resize(at.max(before));
                }
                return if at > offset { Ok((at - offset) as usize) } else { Err(EFAULT) };
            }
            at += length;
        }
        Ok((end - offset) as usize)
    }
}

/// Memory of the library OS's, named like an application's: it does not fault.
fn own(address: u64, length: usize) -> UserRange {
    UserRange::new(address, length as u64)
}

/// Whether all of these lie in applications' addresses.
pub fn check(ranges: &[UserRange]) -> Result<(), Code> {
    let outside = ranges.iter().any(|range| range.length > 0 && range.end() > USER_END);
    if outside { Err(EFAULT) } else { Ok(()) }
}
