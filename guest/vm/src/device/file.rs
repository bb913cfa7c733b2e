//! Files that the VMM has opened: data comes by errands, and is kept in memory where it cannot change
//! unseen.
//!
//! Files of read-only trees, and below overlays, are kept: a page that is there is not asked for again
//! until the file is opened and has changed meanwhile. Files of writable trees are read each time, because
//! others may write them; their pages are kept only while mappings show them, or until what was written there
//! is stored (`write_back.rs`). Such pages are one truth for everybody here: all who have the file open share
//! its object, writes past mappings go through and change them too, and reads prefer them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::Code;
use abi::file::Attributes;
use abi::vm::fuse::POSITION;
use machine::{Event, PAGE, Sink, Source, Transfer};
use spin::Mutex;

use super::errand::{self, Then};
use super::memory::{KEEP_SIZE, PUNCH_HOLE};
use super::transfer::{self, Work};
use crate::code::{EIO, ENODEV, ENOMEM};
use crate::cpu;
use crate::memory::frame::{self, Page};
use crate::memory::object::{Absent, Content, Object, Run, Store, Stored};

/// A mode of fallocate(2) that memory objects do not have.
const ZERO_RANGE: u32 = 16;

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

/// The content of a file's pages, and where they are stored.
struct Pages(Arc<Descriptor>);

impl Store for Pages {
    fn store(&self, run: Run, stored: Stored) {
        let length = run.length;
        let then = move |result: Result<usize, Code>, _: Vec<Page>, events: &mut Vec<Event>| {
            let result = result.and_then(|written| if written == length { Ok(()) } else { Err(EIO) });
            stored(result, events);
        };
        errand::write(self.0.0, run.first * PAGE, length, run.pages, Then::Call(Box::new(then)));
    }
}

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

/// Has objects whose content can be read again forget pages, the longest unused object first; whether that gave
/// any. It is called where memory is wanted, so it takes none and waits for nobody.
pub fn shed(most: usize) -> bool {
    let Some(objects) = KEPT_OBJECTS.try_lock() else { return false };
    let (mut past, mut shed) = (None, 0);
    while shed < most {
        let ages = objects.iter().filter_map(|(key, (_, object))| Some((object.used()?, key, object)));
        let later = ages.filter(|(used, key, _)| past.is_none_or(|past| (*used, *key) > past));
        let Some((used, key, object)) = later.min_by_key(|(used, key, _)| (*used, *key)) else { break };
        shed += object.shed(most - shed);
        past = Some((used, key));
    }
    shed > 0
}

/// Pages of whatever content, for what is read from files: where little is free, they are taken from there.
pub fn blank(count: usize) -> Option<Vec<Page>> {
    if frame::is_short() {
        shed(count);
    }
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

/// Objects of files that are not kept: made when something maps the file, gone with the last mapping.
static MAPPED: Mutex<BTreeMap<(u64, u64), Weak<Object>>> = Mutex::new(BTreeMap::new());

/// An open file.
pub struct File {
    pub descriptor: Arc<Descriptor>,
    /// The object that holds its pages, if they are kept.
    object: Option<Arc<Object>>,
    /// Device and inode number; a stream has none, and is not mapped: nobody here knows whether it may be written,
    /// nor who else has it.
    key: Option<(u64, u64)>,
    writable: bool,
}

impl File {
    /// A file of a tree.
    pub fn new(descriptor: u32, attributes: &Attributes, kept: bool, writable: bool) -> Self {
        let descriptor = Arc::new(Descriptor(descriptor));
        let (key, stamp) = ((attributes.device, attributes.inode), Stamp::of(attributes));
        if !kept {
            return Self { descriptor, object: None, key: Some(key), writable };
        }
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
        Self { descriptor, object: Some(object), key: Some(key), writable: false }
    }

    /// A stream that is a file: one position, nothing kept.
    pub fn stream(descriptor: u32) -> Self {
        Self { descriptor: Arc::new(Descriptor(descriptor)), object: None, key: None, writable: false }
    }

    /// Whether pages that are there need not be asked for again.
    pub fn is_kept(&self) -> bool {
        self.object.is_some()
    }

    /// The object that mappings show, which may be `shared`; `length` is asked for what is not kept.
    pub fn object(
        &self,
        shared: bool,
        length: impl FnOnce() -> Result<u64, Code>,
    ) -> Result<Arc<Object>, Code> {
        if let Some(object) = &self.object {
            return Ok(object.clone());
        }
        let key = self.key.ok_or(ENODEV)?;
        let length = length()?;
        let pages = || Box::new(Pages(self.descriptor.clone()));
        let object = {
            let mut mapped = MAPPED.lock();
            match mapped.get(&key).and_then(Weak::upgrade) {
                Some(object) => object,
                None => {
                    mapped.retain(|_, object| object.strong_count() > 0);
                    let object = Arc::new(Object::file(length, pages()));
                    mapped.insert(key, Arc::downgrade(&object));
                    object
                }
            }
        };
        // Others may have made the file longer.
        object.extend(length);
        if shared && self.writable {
            object.store_in(|| pages());
        }
        Ok(object)
    }

    /// The object, if there is one.
    pub fn known(&self) -> Option<Arc<Object>> {
        self.object.clone().or_else(|| MAPPED.lock().get(&self.key?).and_then(Weak::upgrade))
    }

    /// The file's length was changed through us.
    pub fn resized(&self, length: u64) {
        if let Some(object) = self.known() {
            crate::memory::resize(&object, length);
        }
    }

    /// Room was made in the file through us, or a hole (fallocate(2)).
    pub fn allocated(&self, mode: u32, start: u64, end: u64) {
        let Some(object) = self.known() else { return };
        if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 {
            crate::memory::punch(&object, start, end);
        }
        if mode & KEEP_SIZE == 0 {
            object.extend(end);
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

    /// Reads into memory of the library OS's, waiting.
    fn read_now(&self, offset: Option<u64>, bytes: &mut [u8]) -> Result<usize, Code> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.map(|offset| offset + done as u64);
            let rest = &mut bytes[done..];
            if let Some(at) = at
                && let Some(object) = &self.object
            {
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
            if let Some(at) = at {
                self.prefer(at, &pages, read);
            }
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

    /// Pages that are in memory learn what was written.
    pub fn written(&self, offset: u64, pages: &[Page], length: usize) {
        let Some(object) = self.known() else { return };
        object.extend(offset + length as u64);
        each(&object, offset, pages, length, |index, inside, own, count| {
            // SAFETY: both pages are held, and the count stays within each.
            unsafe { inside.copy_from_nonoverlapping(own, count) };
            object.amended(index);
        });
    }

    /// What was read gives way to what is in memory, which may not be stored yet.
    pub fn prefer(&self, offset: u64, pages: &[Page], length: usize) {
        let Some(object) = self.known() else { return };
        each(&object, offset, pages, length, |_, inside, own, count| {
            // SAFETY: as in `written`.
            unsafe { own.copy_from_nonoverlapping(inside, count) };
        });
    }
}

/// Visits the parts of pages, which hold bytes of a file from an offset on, that are in memory as well: number
/// of the page there, and where the same bytes lie there and here.
fn each(
    object: &Object,
    offset: u64,
    pages: &[Page],
    length: usize,
    mut act: impl FnMut(u64, *mut u8, *mut u8, usize),
) {
    let mut next = 0;
    while next < length as u64 {
        // As much as lies in one page here and in one there.
        let at = next;
        let (inside, from) = ((offset + at) % PAGE, at % PAGE);
        let count = (PAGE - inside).min(PAGE - from).min(length as u64 - at);
        next += count;
        let index = (offset + at) / PAGE;
        if let Some(page) = object.present(index) {
            let own = pages[(at / PAGE) as usize].bytes();
            act(
                index,
                page.bytes().wrapping_add(inside as usize),
                own.wrapping_add(from as usize),
                count as usize,
            );
        }
    }
}
