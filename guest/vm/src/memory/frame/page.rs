//! References to pages.

use core::sync::atomic::{AtomicU32, Ordering::*};

use machine::PAGE;

use super::super::layout::LARGE;
use super::{Counts, FRAMES, Use, direct};

/// One reference to a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Page(u64);

impl Page {
    /// A page of whatever content. Pages of files that can be read again make room.
    pub fn take() -> Option<Self> {
        const SHED: usize = 64;
        let page = FRAMES.lock().take_page();
        let page = page.or_else(|| if crate::device::shed(SHED) { FRAMES.lock().take_page() } else { None });
        page.map(Self)
    }

    pub fn zeroed() -> Option<Self> {
        let page = Self::take()?;
        // SAFETY: the page is this reference's alone.
        unsafe { page.bytes().write_bytes(0, PAGE as usize) };
        Some(page)
    }

    /// A page with the same content.
    pub fn copied(&self) -> Option<Self> {
        let page = Self::take()?;
        // SAFETY: the new page is nobody else's, so the two do not overlap.
        unsafe { page.bytes().copy_from_nonoverlapping(self.bytes(), PAGE as usize) };
        Some(page)
    }

    pub fn address(&self) -> u64 {
        self.0
    }

    pub fn bytes(&self) -> *mut u8 {
        direct(self.0)
    }

    /// Whether this is the only reference.
    pub fn is_alone(&self) -> bool {
        count(self.0).is_some_and(|count| count.load(Acquire) == 1)
    }

    /// Gives the reference to a table, which keeps only the address.
    pub fn into_address(self) -> u64 {
        let address = self.0;
        core::mem::forget(self);
        address
    }

    /// Takes a reference back from a table; of memory that is not ours there may be any number.
    ///
    /// # Safety
    /// The address came from `into_address`, and is not used any more, or is that of memory that is
    /// never given back.
    pub unsafe fn from_address(address: u64) -> Self {
        Self(address)
    }
}

impl Clone for Page {
    fn clone(&self) -> Self {
        if let Some(count) = count(self.0) {
            count.fetch_add(1, Relaxed);
        }
        Self(self.0)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this reference, which goes.
        unsafe { give_pages(core::iter::once(self.0)) };
    }
}

/// Gives references to pages back.
///
/// # Safety
/// The caller had them, and uses them no more.
pub unsafe fn give_pages(pages: impl Iterator<Item = u64>) {
    let mut frames = FRAMES.lock();
    pages.for_each(|at| frames.give(at));
}

/// Takes further references to many pages, of which neighbours follow each other.
pub struct Sharer {
    /// The block that was looked at last, and its counts, if its pages are counted.
    block: u64,
    counts: Option<&'static Counts>,
}

impl Sharer {
    pub const fn new() -> Self {
        Self { block: u64::MAX, counts: None }
    }

    /// Takes one more reference to a page.
    ///
    /// # Safety
    /// Somebody has references to all pages that are named here, until the last one is.
    pub unsafe fn share(&mut self, at: u64) {
        if self.block != at / LARGE {
            (self.block, self.counts) = (at / LARGE, counts_around(at));
        }
        if let Some(counts) = self.counts {
            counts.of(at).fetch_add(1, Relaxed);
        }
    }
}

/// The count of a page; none for memory that is not ours to give back.
fn count(at: u64) -> Option<&'static AtomicU32> {
    counts_around(at).map(|counts| counts.of(at))
}

/// The counts of all pages of the block around one, to which somebody has a reference as long as they are used.
fn counts_around(at: u64) -> Option<&'static Counts> {
    let frames = FRAMES.lock();
    let block = frames.blocks.get((at / LARGE) as usize)?;
    // SAFETY: the block is split as long as a page of it is referred to.
    (block.used == Use::Split).then(|| unsafe { counts(block.counts) })
}

/// The counts at this address.
///
/// # Safety
/// The block whose counts they are is split, and stays so.
pub(super) unsafe fn counts(address: u64) -> &'static Counts {
    // SAFETY: a split block's counts are a page of their own.
    unsafe { &*direct(address).cast() }
}
