//! Files that the VMM has opened, and disks: data comes from outside, by errands or from a card, and is kept in
//! memory where it cannot change unseen.
//!
//! Files of read-only trees, and below overlays, are kept: a page that is there is not asked for again
//! until the file is opened and has changed meanwhile. Files of writable trees are read each time, because
//! others may write them; their pages are kept only while mappings show them, or until what was written there
//! is stored (`write_back.rs`). Such pages are one truth for everybody here: all who have the file open share
//! its object, writes past mappings go through and change them too, and reads prefer them.
//!
//! A disk is this machine's alone: it is kept and written, so its pages are read and written in memory, and stored
//! as what mappings have written is. Sectors that are written in part are read for that, with the page around them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use abi::Code;
use abi::file::Attributes;
use abi::vm::fuse::POSITION;
use machine::{Event, PAGE, Sink, Source, Transfer};
use spin::Mutex;

use super::memory::{KEEP_SIZE, PUNCH_HOLE};
use super::transfer::{self, Work};
use super::wait::{FOR_EVER, end_ns, until_told};
use super::{errand, write_back};
use crate::code::{EIO, ENODEV, ENOMEM};
use crate::memory::frame::{self, Page};
use crate::memory::object::{Absent, Content, Object, Run, Store, Stored};

/// A mode of fallocate(2) that memory objects do not have.
const ZERO_RANGE: u32 = 16;

/// The most pages of one errand.
pub const MOST: usize = 32;
/// Objects of files that are not open any more, at most.
const KEPT: usize = 512;

/// What to do when data has moved.
pub type Finish = Box<dyn FnOnce(Result<usize, Code>, Vec<Page>, &mut Vec<Event>) + Send>;

/// Where the bytes of a file are that are not in memory.
pub trait Outside: Send + Sync {
    /// Starts to read into pages, from an offset on, or ([`POSITION`]) from the file's own position on.
    fn read(&self, offset: u64, length: usize, pages: Vec<Page>, finish: Finish);

    /// Starts to write from pages.
    fn write(&self, offset: u64, length: usize, pages: Vec<Page>, finish: Finish);

    /// Whether it may stop to answer without the guest's end.
    fn may_stop(&self) -> bool;
}

/// A descriptor of the VMM's, closed when dropped.
pub struct Descriptor(pub u32);

impl Drop for Descriptor {
    fn drop(&mut self) {
        errand::release(self.0);
    }
}

impl Outside for Descriptor {
    fn read(&self, offset: u64, length: usize, pages: Vec<Page>, finish: Finish) {
        errand::read(self.0, offset, length, pages, finish);
    }

    fn write(&self, offset: u64, length: usize, pages: Vec<Page>, finish: Finish) {
        errand::write(self.0, offset, length, pages, finish);
    }

    fn may_stop(&self) -> bool {
        false
    }
}

/// Waits for a transfer.
fn wait(outside: &dyn Outside, start: impl FnOnce(Finish)) -> Result<usize, Code> {
    let end_ns = if outside.may_stop() { end_ns() } else { FOR_EVER };
    until_told(end_ns, |tell| {
        start(Box::new(move |result, _, _| tell(result)));
        Ok(())
    })?
}

/// The content of a file's pages, and where they are stored.
struct Pages(Arc<dyn Outside>);

impl Store for Pages {
    fn store(&self, run: Run, stored: Stored) {
        let length = run.length;
        let then = move |result: Result<usize, Code>, _: Vec<Page>, events: &mut Vec<Event>| {
            let result = result.and_then(|written| if written == length { Ok(()) } else { Err(EIO) });
            stored(result, events);
        };
        self.0.write(run.first * PAGE, length, run.pages, Box::new(then));
    }
}

impl Content for Pages {
    fn pages(&self, first: u64, count: usize) -> Result<Vec<Page>, Absent> {
        let mut pages = blank(count).ok_or(Absent::NoMemory)?;
        let length = count * PAGE as usize;
        let lent = pages.clone();
        let read = wait(&*self.0, |finish| self.0.read(first * PAGE, length, lent, finish));
        let read = read.map_err(Absent::Failed)?;
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
    pub outside: Arc<dyn Outside>,
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
        let outside: Arc<dyn Outside> = Arc::new(Descriptor(descriptor));
        let (key, stamp) = ((attributes.device, attributes.inode), Stamp::of(attributes));
        if !kept {
            return Self { outside, object: None, key: Some(key), writable };
        }
        let mut objects = KEPT_OBJECTS.lock();
        let object = match objects.get(&key) {
            Some((known, object)) if *known == stamp => object.clone(),
            _ => {
                let object = Arc::new(Object::file(attributes.size, Box::new(Pages(outside.clone()))));
                if objects.len() >= KEPT {
                    objects.retain(|_, (_, object)| Arc::strong_count(object) > 1);
                }
                objects.insert(key, (stamp, object.clone()));
                object
            }
        };
        Self { outside, object: Some(object), key: Some(key), writable: false }
    }

    /// The disk of a number.
    pub fn disk(outside: Arc<dyn Outside>, number: u64, length: u64, writable: bool) -> Self {
        // No device of files has the number.
        let key = (u64::MAX, number);
        let object = Arc::new(Object::file(length, Box::new(Pages(outside.clone()))));
        if writable {
            object.store_in(|| Box::new(Pages(outside.clone())));
        }
        // There its pages are found when memory is wanted.
        let stamp = Stamp { size: length, modified_ns: 0, changed_ns: 0 };
        KEPT_OBJECTS.lock().insert(key, (stamp, object.clone()));
        Self { outside, object: Some(object), key: Some(key), writable }
    }

    /// A stream that is a file: one position, nothing kept.
    pub fn stream(descriptor: u32) -> Self {
        Self { outside: Arc::new(Descriptor(descriptor)), object: None, key: None, writable: false }
    }

    /// Whether pages that are there need not be asked for again.
    pub fn is_kept(&self) -> bool {
        self.object.is_some()
    }

    /// Whether what is written goes to pages in memory, which are stored later.
    pub fn writes_back(&self) -> bool {
        self.object.is_some() && self.writable
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
        let pages = || Box::new(Pages(self.outside.clone()));
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
            let (start, lent) = (at.unwrap_or(POSITION), pages.clone());
            let read = wait(&*self.outside, |finish| self.outside.read(start, length, lent, finish))?;
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

    /// Writes from memory of the library OS's to pages that are stored later.
    fn write_back(&self, object: &Arc<Object>, offset: u64, bytes: &[u8]) -> Result<usize, Code> {
        let (mut done, length) = (0, object.length());
        while done < bytes.len() {
            let at = offset + done as u64;
            let count = length.saturating_sub(at).min(PAGE - at % PAGE).min((bytes.len() - done) as u64);
            if count == 0 {
                break;
            }
            if object.is_crowded() {
                write_back::settle(object)?;
            }
            let page = object.page(at / PAGE)?;
            let to = page.bytes().wrapping_add((at % PAGE) as usize);
            // SAFETY: the page is held, and the count is within it.
            unsafe { to.copy_from_nonoverlapping(bytes[done..].as_ptr(), count as usize) };
            object.touch(at / PAGE);
            done += count as usize;
        }
        Ok(done)
    }

    /// Writes from memory of the library OS's, waiting.
    fn write_now(&self, offset: Option<u64>, bytes: &[u8]) -> Result<usize, Code> {
        if let Some(object) = self.object.as_ref().filter(|_| self.writable) {
            return self.write_back(object, offset.unwrap_or(0), bytes);
        }
        let mut done = 0;
        for part in bytes.chunks(MOST * PAGE as usize) {
            let pages = blank(part.len().div_ceil(PAGE as usize)).ok_or(ENOMEM)?;
            for (from, page) in part.chunks(PAGE as usize).zip(&pages) {
                // SAFETY: the pages are ours, and each chunk is at most one.
                unsafe { page.bytes().copy_from_nonoverlapping(from.as_ptr(), from.len()) };
            }
            let at = offset.map(|offset| offset + done as u64);
            let (start, length, lent) = (at.unwrap_or(POSITION), part.len(), pages.clone());
            let written = wait(&*self.outside, |finish| self.outside.write(start, length, lent, finish))?;
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
        object.spoil(offset / PAGE..(offset + length as u64).div_ceil(PAGE));
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
