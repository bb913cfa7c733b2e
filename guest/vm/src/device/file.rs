//! Files that the VMM has opened: data comes by errands, and is kept in memory where it cannot change
//! unseen.
//!
//! Files of read-only trees, and below overlays, are kept: a page that is there is not asked for again
//! until the file is opened and has changed meanwhile. Files of writable trees are read each time, because
//! others may write them; their pages are kept only while mappings show them, and writes go through.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::Code;
use abi::file::Attributes;
use abi::vm::fuse::POSITION;
use machine::{PAGE, Sink, Source, Transfer};
use spin::Mutex;

use super::errand::{self, Then};
use super::transfer::{self, Work};
use crate::code::ENOMEM;
use crate::cpu;
use crate::memory::frame::Page;
use crate::memory::object::{Absent, Content, Object};

/// The most pages of one errand.
pub const MOST: usize = 32;
/// Objects of files that are not open any more, at most.
const KEPT: usize = 512;

/// A descriptor of the VMM's, closed when dropped.
pub struct Descriptor(pub u32);

impl Drop for Descriptor {
    fn drop(&mut self) {
        errand::release(self.0);
    }
}

/// The content of a file's pages.
struct Pages(Arc<Descriptor>);

impl Content for Pages {
    fn pages(&self, first: u64, count: usize) -> Result<Vec<Page>, Absent> {
        let mut pages = blank(count).ok_or(Absent::NoMemory)?;
        let length = count * PAGE as usize;
        let lent = pages.clone();
        let number = errand::read(self.0.0, first * PAGE, length, lent, Then::Keep(cpu::current()));
        let read = errand::wait(number).map_err(Absent::Failed)?;
        zero_from(&pages, read);
        pages.truncate(read.div_ceil(PAGE as usize).max(1));
        Ok(pages)
    }
}

/// Pages of whatever content.
pub fn blank(count: usize) -> Option<Vec<Page>> {
    (0..count).map(|_| Page::take()).collect()
}

/// Zeroes what no data came for.
pub fn zero_from(pages: &[Page], length: usize) {
    let page = PAGE as usize;
    for (number, to) in pages.iter().enumerate() {
        let start = length.saturating_sub(number * page).min(page);
        // SAFETY: the pages are new, and nobody else's.
        unsafe { to.bytes().add(start).write_bytes(0, page - start) };
    }
}

/// What tells whether a file is what it was.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified_ns: i64,
    changed_ns: i64,
}

impl Stamp {
    fn of(attributes: &Attributes) -> Self {
        Self { size: attributes.size, modified_ns: attributes.modified_ns, changed_ns: attributes.changed_ns }
    }
}

/// Objects by device and inode number.
type Objects = BTreeMap<(u64, u64), (Stamp, Arc<Object>)>;

static KEPT_OBJECTS: Mutex<Objects> = Mutex::new(BTreeMap::new());

/// An open file.
pub struct File {
    pub descriptor: Arc<Descriptor>,
    object: Mutex<Backed>,
    /// Whether pages that are there need not be asked for again.
    pub kept: bool,
}

/// The object that holds a file's pages.
enum Backed {
    Kept(Arc<Object>),
    /// Made when something maps the file, gone with the last mapping.
    Mapped(Weak<Object>),
}

impl File {
    /// A file of a tree.
    pub fn new(descriptor: u32, attributes: &Attributes, kept: bool) -> Self {
        let descriptor = Arc::new(Descriptor(descriptor));
        if !kept {
            return Self { descriptor, object: Mutex::new(Backed::Mapped(Weak::new())), kept };
        }
        let (key, stamp) = ((attributes.device, attributes.inode), Stamp::of(attributes));
        let mut objects = KEPT_OBJECTS.lock();
        let object = match objects.get(&key) {
            Some((known, object)) if *known == stamp => object.clone(),
            _ => {
                let object = Arc::new(Object::file(attributes.size, Box::new(Pages(descriptor.clone()))));
                if objects.len() >= KEPT {
                    objects.retain(|_, (_, object)| Arc::strong_count(object) > 1);
                }
                objects.insert(key, (stamp, object.clone()));
                object
            }
        };
        Self { descriptor, object: Mutex::new(Backed::Kept(object)), kept }
    }

    /// A stream that is a file: one position, nothing kept.
    pub fn stream(descriptor: u32) -> Self {
        let descriptor = Arc::new(Descriptor(descriptor));
        Self { descriptor, object: Mutex::new(Backed::Mapped(Weak::new())), kept: false }
    }

    /// The object that mappings show; `length` is asked when it has to be made.
    pub fn object(&self, length: impl FnOnce() -> Result<u64, Code>) -> Result<Arc<Object>, Code> {
        let mut object = self.object.lock();
        match &*object {
            Backed::Kept(object) => Ok(object.clone()),
            Backed::Mapped(mapped) => match mapped.upgrade() {
                Some(object) => Ok(object),
                None => {
                    let made = Arc::new(Object::file(length()?, Box::new(Pages(self.descriptor.clone()))));
                    *object = Backed::Mapped(Arc::downgrade(&made));
                    Ok(made)
                }
            },
        }
    }

    /// The object, if there is one.
    pub fn known(&self) -> Option<Arc<Object>> {
        match &*self.object.lock() {
            Backed::Kept(object) => Some(object.clone()),
            Backed::Mapped(object) => object.upgrade(),
        }
    }

    /// The file's length was changed through us.
    pub fn resized(&self, length: u64) {
        if let Some(object) = self.known() {
            crate::memory::resize(&object, length);
        }
    }

    /// A part of the file was made zero through us.
    pub fn punched(&self, start: u64, end: u64) {
        if let Some(object) = self.known() {
            crate::memory::punch(&object, start, end);
        }
    }

    pub fn read(self: Arc<Self>, offset: Option<u64>, to: Sink<'_>) -> Result<Transfer, Code> {
        match to {
            Sink::User(ranges) => transfer::begin(Work::new(self, offset, ranges, false)),
            Sink::Kernel(bytes) => self.read_now(offset, bytes).map(Transfer::Done),
        }
    }

    pub fn write(self: Arc<Self>, offset: Option<u64>, from: Source<'_>) -> Result<Transfer, Code> {
        match from {
            Source::User(ranges) => transfer::begin(Work::new(self, offset, ranges, true)),
            Source::Kernel(bytes) => self.write_now(offset, bytes).map(Transfer::Done),
        }
    }

    /// The page at an offset, if it is there and holds.
    pub fn held(&self, offset: u64) -> Option<Page> {
        self.known()?.present(offset / PAGE)
    }

    /// Reads into memory of the library OS's, waiting.
    fn read_now(&self, offset: Option<u64>, bytes: &mut [u8]) -> Result<usize, Code> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.map(|offset| offset + done as u64);
            let rest = &mut bytes[done..];
            if let Some(at) = at
                && self.kept
            {
                let Some(object) = self.known() else { break };
                let inside = at % PAGE;
                let count = (object.length().saturating_sub(at)).min(PAGE - inside).min(rest.len() as u64);
                if count == 0 {
                    break;
                }
                let page = object.page(at / PAGE)?;
                // SAFETY: the page is held, and the count is within it.
                let from =
                    unsafe { core::slice::from_raw_parts(page.bytes().add(inside as usize), count as usize) };
                rest[..count as usize].copy_from_slice(from);
                done += count as usize;
                continue;
            }
            let length = rest.len().min(MOST * PAGE as usize);
            let pages = blank(length.div_ceil(PAGE as usize)).ok_or(ENOMEM)?;
            let number = errand::read(
                self.descriptor.0,
                at.unwrap_or(POSITION),
                length,
                pages.clone(),
                Then::Keep(cpu::current()),
            );
            let read = errand::wait(number)?;
            for (to, page) in rest[..read].chunks_mut(PAGE as usize).zip(&pages) {
                // SAFETY: the pages are ours, and each chunk is at most one.
                to.copy_from_slice(unsafe { core::slice::from_raw_parts(page.bytes(), to.len()) });
            }
            done += read;
            if read < length {
                break;
            }
        }
        Ok(done)
    }

    /// Writes from memory of the library OS's, waiting.
    fn write_now(&self, offset: Option<u64>, bytes: &[u8]) -> Result<usize, Code> {
        let mut done = 0;
        for part in bytes.chunks(MOST * PAGE as usize) {
            let pages = blank(part.len().div_ceil(PAGE as usize)).ok_or(ENOMEM)?;
            for (from, page) in part.chunks(PAGE as usize).zip(&pages) {
                // SAFETY: the pages are ours, and each chunk is at most one.
                unsafe { page.bytes().copy_from_nonoverlapping(from.as_ptr(), from.len()) };
            }
            let at = offset.map(|offset| offset + done as u64);
            let lent = pages.clone();
            let number = errand::write(
                self.descriptor.0,
                at.unwrap_or(POSITION),
                part.len(),
                lent,
                Then::Keep(cpu::current()),
            );
            let written = errand::wait(number)?;
            if let Some(at) = at {
                self.written(at, &pages, written);
            }
            done += written;
            if written < part.len() {
                break;
            }
        }
        Ok(done)
    }

    /// Pages that are kept learn what was written.
    pub fn written(&self, offset: u64, pages: &[Page], length: usize) {
        let Some(object) = self.known() else { return };
        if offset + length as u64 > object.length() {
            object.resize(offset + length as u64);
        }
        let mut next = 0;
        while next < length as u64 {
            // As much as lies in one page here and in one there.
            let at = next;
            let (inside, from) = ((offset + at) % PAGE, at % PAGE);
            let count = (PAGE - inside).min(PAGE - from).min(length as u64 - at);
            next += count;
            let Some(to) = object.present((offset + at) / PAGE) else { continue };
            // SAFETY: both pages are held, and the count stays within each.
            unsafe {
                to.bytes().add(inside as usize).copy_from_nonoverlapping(
                    pages[(at / PAGE) as usize].bytes().add(from as usize),
                    count as usize,
                );
            }
        }
    }
}
