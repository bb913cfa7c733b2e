//! What mappings show: memory objects, and the pages of files that are held in memory.
//!
//! A page that is there is the one truth about its part: reads, writes and mappings all use it. Where the
//! content of absent pages comes from is the object's [`Content`]; where pages go that were written through
//! mappings is its [`Store`], if it has one. Then pages are mapped for reading first, so that the first write
//! to each is seen: it makes the page dirty, until it is taken to be stored (`Mappings::clean`).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::Code;
use machine::{Event, PAGE};
use spin::{Mutex, Once};

use super::dirty;
use super::frame::{self, Page};
use super::shortage;

/// How many pages are fetched together: a power of two.
const AROUND: u64 = 16;
/// How often that is doubled, once for each fetch before: of a file that is asked for again and again, more is
/// wanted each time, and each time costs a way out of the guest.
const DOUBLINGS: u32 = 2;

/// Pages that may be dirty before who writes past mappings has to wait, and where little memory is free.
const DIRTY_MOST: usize = 2048;
const DIRTY_SHORT: usize = 64;

/// Why a page cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The object ends before it.
    Beyond,
    NoMemory,
    /// Its content cannot be read.
    Failed(Code),
}

/// Where content comes from that is not in memory yet.
pub trait Content: Send + Sync {
    /// Pages from this number on, at least one and at most `count`; whole pages, zero behind the end.
    fn pages(&self, first: u64, count: usize) -> Result<Vec<Page>, Absent>;
}

/// What is told when pages are stored, or why they are not; it may know more for the library OS.
pub type Stored = Box<dyn FnOnce(Result<(), Code>, &mut Vec<Event>) + Send>;

/// Where pages are kept that were written.
pub trait Store: Send + Sync {
    /// Starts to store so many bytes of these pages, from the page of this number on.
    fn store(&self, run: Run, stored: Stored);
}

/// Neighbouring pages, and bytes of them: the object may end in the last.
pub struct Run {
    pub first: u64,
    pub pages: Vec<Page>,
    pub length: usize,
}

/// An object of pages.
pub struct Object {
    state: Mutex<State>,
    /// None: zeroes.
    content: Option<Box<dyn Content>>,
    store: Once<Box<dyn Store>>,
}

struct State {
    length: u64,
    pages: BTreeMap<u64, Page>,
    /// Pages that were written through mappings since they were stored.
    dirty: BTreeSet<u64>,
    /// Pages behind the least of these lengths stay so.
    held: Vec<u64>,
    /// Whether there ever was one.
    touched: bool,
    failure: Option<Code>,
    /// Pages that are under way from where the content comes from.
    coming: Vec<Expected>,
    /// Tells those apart.
    expected: u64,
    /// How often pages were fetched because of a fault.
    fetches: u32,
    /// Behind the last pages that were fetched for a read, and how often reads have gone on from there.
    read_to: u64,
    follows: u32,
    /// When it was last used, by [`FETCHED`].
    used: u64,
}

/// Pages that are under way, and those of them that have been changed since they were asked for.
struct Expected {
    number: u64,
    pages: Range<u64>,
    spoilt: BTreeSet<u64>,
}

/// Counts what is fetched, for all objects: the time by which they are old.
static FETCHED: AtomicU64 = AtomicU64::new(0);

impl State {
    const fn new(length: u64) -> Self {
        Self {
            length,
            pages: BTreeMap::new(),
            dirty: BTreeSet::new(),
            held: Vec::new(),
            touched: false,
            failure: None,
            coming: Vec::new(),
            expected: 0,
            fetches: 0,
            read_to: u64::MAX,
            follows: 0,
            used: 0,
        }
    }

    /// Notes that a page was written; whether it is the first.
    fn write(&mut self, index: u64) -> bool {
        self.touched = true;
        let first = self.dirty.is_empty();
        self.dirty.insert(index) && first
    }

    /// What is under way of these pages is not their content any more.
    fn spoil(&mut self, pages: Range<u64>) {
        for expected in &mut self.coming {
            let (from, to) = (pages.start.max(expected.pages.start), pages.end.min(expected.pages.end));
            expected.spoilt.extend(from..to.max(from));
        }
    }

    /// Which pages to fetch around one that is not there: some that lie together, none of which is.
    fn wanted(&mut self, index: u64) -> Range<u64> {
        let around = AROUND << self.fetches.min(DOUBLINGS);
        self.fetches += 1;
        let first = index & !(around - 1);
        let last = (first + around).min(self.length.div_ceil(PAGE)).max(index + 1);
        let before = self.pages.range(first..index).next_back().map(|(&at, _)| at + 1);
        let behind = self.pages.range(index..last).next().map(|(&at, _)| at);
        before.unwrap_or(first)..behind.unwrap_or(last)
    }
}

impl Object {
    /// A memory object of this length, all zeroes.
    pub fn memory(length: u64) -> Self {
        Self { state: Mutex::new(State::new(length)), content: None, store: Once::new() }
    }

    /// A file of this length.
    pub fn file(length: u64, content: Box<dyn Content>) -> Self {
        Self { state: Mutex::new(State::new(length)), content: Some(content), store: Once::new() }
    }

    pub fn length(&self) -> u64 {
        self.state.lock().length
    }

    /// Whether its content is kept elsewhere, and in memory only for a while.
    pub fn is_kept(&self) -> bool {
        self.content.is_some()
    }

    /// Bytes that are in memory.
    pub fn held(&self) -> u64 {
        self.state.lock().pages.len() as u64 * PAGE
    }

    /// Writes through mappings are stored there from now on, if they are not yet.
    pub fn store_in(&self, store: impl FnOnce() -> Box<dyn Store>) {
        self.store.call_once(store);
    }

    pub fn store(&self) -> Option<&dyn Store> {
        self.store.get().map(|store| &**store)
    }

    /// A page is about to be written through a mapping.
    pub fn touch(self: &Arc<Self>, index: u64) {
        let mut state = self.state.lock();
        if state.write(index) {
            dirty::add(self);
        }
    }

    /// A page was written as a whole: it is the content from now on. One that is there stays and takes it over,
    /// for others may show it.
    pub fn overwrite(self: &Arc<Self>, index: u64, page: Page) {
        let mut state = self.state.lock();
        match state.pages.get(&index) {
            // SAFETY: both are whole pages, and held.
            Some(there) => unsafe {
                there.bytes().copy_from_nonoverlapping(page.bytes(), PAGE as usize);
            },
            None => drop(state.pages.insert(index, page)),
        }
        if state.write(index) {
            dirty::add(self);
        }
    }

    /// Whether more is dirty than should be before some of it is stored.
    pub fn is_crowded(&self) -> bool {
        let dirty = self.state.lock().dirty.len();
        dirty >= DIRTY_MOST || dirty >= DIRTY_SHORT && frame::is_short()
    }

    pub fn is_dirty(&self) -> bool {
        !self.state.lock().dirty.is_empty()
    }

    /// What is dirty behind this length stays so, until the length is released.
    pub fn hold(&self, length: u64) {
        self.state.lock().held.push(length);
    }

    pub fn release(self: &Arc<Self>, length: u64) {
        let mut state = self.state.lock();
        if let Some(at) = state.held.iter().position(|held| *held == length) {
            state.held.swap_remove(at);
        }
        if !state.dirty.is_empty() {
            dirty::add(self);
        }
    }

    /// Takes what is dirty, in runs of at most so many pages. The caller makes sure that the next write is seen,
    /// before anything of it is stored.
    pub fn take_dirty(&self, most: usize) -> Vec<Run> {
        let mut state = self.state.lock();
        let mut runs: Vec<Run> = Vec::new();
        let end = state.held.iter().min().map_or(u64::MAX, |length| length / PAGE);
        let held = state.dirty.split_off(&end);
        for index in core::mem::replace(&mut state.dirty, held) {
            let Some(page) = state.pages.get(&index).cloned() else { continue };
            let length = state.length.saturating_sub(index * PAGE).min(PAGE) as usize;
            match runs.last_mut() {
                Some(run) if run.first + run.pages.len() as u64 == index && run.pages.len() < most => {
                    run.pages.push(page);
                    run.length += length;
                }
                _ => runs.push(Run { first: index, pages: Vec::from([page]), length }),
            }
        }
        runs
    }

    /// Pages could not be stored: whoever asks next whether all is well hears of it.
    pub fn fail(&self, code: Code) {
        self.state.lock().failure = Some(code);
    }

    pub fn take_failure(&self) -> Result<(), Code> {
        self.state.lock().failure.take().map_or(Ok(()), Err)
    }

    /// A page was changed past mappings, and the store has the change. But the page may be on its way there as it
    /// was before, and arrive later than the change: then it has to follow.
    pub fn amended(self: &Arc<Self>, index: u64) {
        if self.state.lock().touched {
            self.touch(index);
        }
    }

    /// A page, if that takes no time.
    pub fn at_once(&self, index: u64) -> Result<Option<Page>, Absent> {
        let mut state = self.state.lock();
        if index >= state.length.div_ceil(PAGE) {
            return Err(Absent::Beyond);
        }
        if let Some(page) = state.pages.get(&index) {
            return Ok(Some(page.clone()));
        }
        if self.content.is_some() {
            return Ok(None);
        }
        let page = Page::zeroed().ok_or(Absent::NoMemory)?;
        state.pages.insert(index, page.clone());
        Ok(Some(page))
    }

    /// A page, fetched if it is not there.
    pub fn page(self: &Arc<Self>, index: u64) -> Result<Page, Absent> {
        if self.content.is_none() && self.present(index).is_none() && shortage::is_there() {
            return Err(Absent::NoMemory);
        }
        // What has come is no good if it was changed on its way.
        loop {
            if let Some(page) = self.at_once(index)? {
                return Ok(page);
            }
            let Some(content) = &self.content else { return Err(Absent::Beyond) };
            // It may wait for a device, so not under the lock. What lies around is wanted soon, mostly.
            let wanted = self.state.lock().wanted(index);
            let fetched = self.fetch(content.as_ref(), wanted.clone());
            match fetched {
                // The page itself may be sound.
                Err(Absent::Failed(_)) if wanted.end - wanted.start > 1 => {
                    self.fetch(content.as_ref(), index..index + 1)?;
                }
                fetched => fetched?,
            }
        }
    }

    fn fetch(self: &Arc<Self>, content: &dyn Content, pages: Range<u64>) -> Result<(), Absent> {
        let (first, count) = (pages.start, (pages.end - pages.start) as usize);
        let coming = self.expect(pages);
        coming.insert(content.pages(first, count)?);
        Ok(())
    }

    /// Which pages to fetch for a read of these, the first of which is not there: some around, and more behind them
    /// each time that reads have gone on where the last ones ended.
    pub fn ahead(&self, pages: Range<u64>) -> Range<u64> {
        let mut state = self.state.lock();
        state.follows = if pages.start == state.read_to { (state.follows + 1).min(DOUBLINGS) } else { 0 };
        let (around, most) = (AROUND << state.follows, AROUND << DOUBLINGS);
        let first = pages.start & !(AROUND - 1);
        let last = pages.end.next_multiple_of(AROUND).max(first + around).min(first + most);
        state.read_to = last.min(state.length.div_ceil(PAGE)).max(pages.start + 1);
        first..state.read_to
    }

    /// Notes that pages are about to be fetched.
    pub fn expect(self: &Arc<Self>, pages: Range<u64>) -> Coming {
        let mut state = self.state.lock();
        state.expected += 1;
        let number = state.expected;
        state.coming.push(Expected { number, pages: pages.clone(), spoilt: BTreeSet::new() });
        Coming { object: self.clone(), number, pages }
    }

    /// Where the content comes from, these pages have been changed past those in memory.
    pub fn spoil(&self, pages: Range<u64>) {
        self.state.lock().spoil(pages);
    }

    /// A page, if it is there.
    pub fn present(&self, index: u64) -> Option<Page> {
        let mut state = self.state.lock();
        state.used = FETCHED.load(Relaxed);
        state.pages.get(&index).cloned()
    }

    /// When it was last used; none if that cannot be told now.
    pub fn used(&self) -> Option<u64> {
        Some(self.state.try_lock()?.used)
    }

    /// Forgets pages that can be fetched again and that nobody else has, as many as are asked for, the first
    /// first; how many there were. Whoever is at it meanwhile may be who asks, so nothing is waited for.
    pub fn shed(&self, most: usize) -> usize {
        let mut shed = 0;
        if self.content.is_some()
            && let Some(mut state) = self.state.try_lock()
        {
            let State { pages, dirty, coming, .. } = &mut *state;
            pages.retain(|index, page| {
                let comes = coming.iter().any(|expected| expected.pages.contains(index));
                let goes = shed < most && !comes && !dirty.contains(index) && page.is_alone();
                shed += usize::from(goes);
                !goes
            });
        }
        shed
    }

    /// Changes the length; what is cut off is zero if it comes back. Mappings still show it.
    pub fn resize(&self, length: u64) {
        let mut state = self.state.lock();
        if length < state.length {
            let end = state.length.div_ceil(PAGE);
            state.spoil(length / PAGE..end);
            let dropped = state.pages.split_off(&length.div_ceil(PAGE));
            state.dirty.split_off(&length.div_ceil(PAGE));
            if let Some(page) = state.pages.get(&(length / PAGE))
                && !length.is_multiple_of(PAGE)
            {
                zero(page, length % PAGE, PAGE);
            }
            drop(dropped);
        }
        state.length = length;
    }

    /// Makes the object at least so long.
    pub fn extend(&self, length: u64) {
        let mut state = self.state.lock();
        state.length = state.length.max(length);
    }

    /// Makes a part zero again: pages that are no more the object's, by their numbers. Mappings still show them.
    pub fn punch(&self, start: u64, end: u64) -> Vec<(u64, Page)> {
        let mut state = self.state.lock();
        let end = end.min(state.length.next_multiple_of(PAGE));
        state.spoil(start / PAGE..end.div_ceil(PAGE));
        let touched: Vec<u64> =
            state.pages.range(start / PAGE..end.div_ceil(PAGE)).map(|(&at, _)| at).collect();
        let mut removed = Vec::new();
        for index in touched {
            let (from, to) = (start.max(index * PAGE), end.min((index + 1) * PAGE));
            if to - from == PAGE {
                removed.extend(state.pages.remove(&index).map(|page| (index, page)));
                state.dirty.remove(&index);
            } else if let Some(page) = state.pages.get(&index) {
                zero(page, from - index * PAGE, to - index * PAGE);
            }
        }
        removed
    }

    /// The next part at or behind an offset that holds data, or that holds none; none behind the end.
    pub fn seek(&self, offset: u64, hole: bool) -> Option<u64> {
        let state = self.state.lock();
        if offset >= state.length {
            return None;
        }
        let mut at = offset;
        while at < state.length {
            let there = self.content.is_some() || state.pages.contains_key(&(at / PAGE));
            if there != hole {
                return Some(at);
            }
            at = match state.pages.range(at / PAGE..).next() {
                Some((&index, _)) if !there => index * PAGE,
                None if !there => break,
                _ => (at / PAGE + 1) * PAGE,
            };
        }
        hole.then_some(state.length)
    }
}

/// Pages that are fetched. Until they have come, or will not come, none of them is given up: one that is written
/// meanwhile, and stored, must not be followed by what was read before.
pub struct Coming {
    object: Arc<Object>,
    number: u64,
    pages: Range<u64>,
}

impl Coming {
    /// They have come; those that are there already stay, and those that were changed meanwhile do not count.
    pub fn insert(self, pages: Vec<Page>) {
        let mut state = self.object.state.lock();
        state.used = FETCHED.fetch_add(1, Relaxed);
        let State { pages: kept, coming, .. } = &mut *state;
        let Some(own) = coming.iter().find(|expected| expected.number == self.number) else { return };
        for (index, page) in self.pages.clone().zip(pages) {
            if !own.spoilt.contains(&index) {
                kept.entry(index).or_insert(page);
            }
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut state = self.object.state.lock();
        if let Some(at) = state.coming.iter().position(|expected| expected.number == self.number) {
            state.coming.swap_remove(at);
        }
    }
}

/// Zeroes a part of a page.
fn zero(page: &Page, start: u64, end: u64) {
    // SAFETY: within the page; others may look at it, as at any memory that is shared.
    unsafe { page.bytes().add(start as usize).write_bytes(0, (end - start) as usize) };
}
