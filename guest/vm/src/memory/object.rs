//! What mappings show: memory objects, and the pages of files that are held in memory.
//!
//! A page that is there is the one truth about its part: reads, writes and mappings all use it. Where the
//! content of absent pages comes from is the object's [`Content`].

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use abi::Code;
use machine::PAGE;
use spin::Mutex;

use super::frame::Page;

/// How many pages are fetched together: a power of two.
pub const AROUND: u64 = 16;

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

/// An object of pages.
pub struct Object {
    state: Mutex<State>,
    /// None: zeroes.
    content: Option<Box<dyn Content>>,
}

struct State {
    length: u64,
    pages: BTreeMap<u64, Page>,
}

impl Object {
    /// A memory object of this length, all zeroes.
    pub fn memory(length: u64) -> Self {
        Self { state: Mutex::new(State { length, pages: BTreeMap::new() }), content: None }
    }

    /// A file of this length.
    pub fn file(length: u64, content: Box<dyn Content>) -> Self {
        Self { state: Mutex::new(State { length, pages: BTreeMap::new() }), content: Some(content) }
    }

    pub fn length(&self) -> u64 {
        self.state.lock().length
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
    pub fn page(&self, index: u64) -> Result<Page, Absent> {
        if let Some(page) = self.at_once(index)? {
            return Ok(page);
        }
        let Some(content) = &self.content else { return Err(Absent::Beyond) };
        // It may wait for a device, so not under the lock. What lies around is wanted soon, mostly.
        let first = index & !(AROUND - 1);
        let count = AROUND.min(self.length().div_ceil(PAGE).saturating_sub(first)).max(index - first + 1);
        let pages = content.pages(first, count as usize)?;
        self.insert(first, pages);
        self.present(index).ok_or(Absent::Beyond)
    }

    /// Adds pages from this number on; those that are there already stay.
    pub fn insert(&self, first: u64, pages: Vec<Page>) {
        let mut state = self.state.lock();
        for (index, page) in (first..).zip(pages) {
            state.pages.entry(index).or_insert(page);
        }
    }

    /// A page, if it is there.
    pub fn present(&self, index: u64) -> Option<Page> {
        self.state.lock().pages.get(&index).cloned()
    }

    /// Changes the length; what is cut off is zero if it comes back. The caller drops mappings of it.
    pub fn resize(&self, length: u64) {
        let mut state = self.state.lock();
        if length < state.length {
            let dropped = state.pages.split_off(&length.div_ceil(PAGE));
            if let Some(page) = state.pages.get(&(length / PAGE))
                && !length.is_multiple_of(PAGE)
            {
                zero(page, length % PAGE, PAGE);
            }
            drop(dropped);
        }
        state.length = length;
    }

    /// Makes a part zero again. The caller drops mappings of it.
    pub fn punch(&self, start: u64, end: u64) {
        let mut state = self.state.lock();
        let end = end.min(state.length.next_multiple_of(PAGE));
        let touched: Vec<u64> =
            state.pages.range(start / PAGE..end.div_ceil(PAGE)).map(|(&at, _)| at).collect();
        for index in touched {
            let (from, to) = (start.max(index * PAGE), end.min((index + 1) * PAGE));
            if to - from == PAGE {
                state.pages.remove(&index);
            } else if let Some(page) = state.pages.get(&index) {
                zero(page, from - index * PAGE, to - index * PAGE);
            }
        }
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

/// Zeroes a part of a page.
fn zero(page: &Page, start: u64, end: u64) {
    // SAFETY: within the page; others may look at it, as at any memory that is shared.
    unsafe { page.bytes().add(start as usize).write_bytes(0, (end - start) as usize) };
}
