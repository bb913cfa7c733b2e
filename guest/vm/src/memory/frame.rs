//! Memory in pages: who has which.
//!
//! Memory is divided into blocks of 2 MiB. A block is free, or somebody's as a whole, or split into pages,
//! each with a count of references (`page.rs`). Address spaces may share one as a whole: then it is counted who has
//! it, and if it is split nevertheless, each who has it has a reference to every page. Nothing is kept about pages of
//! blocks that are not split, so that much memory costs little. What is not needed yet is not even divided: it waits
//! in reserve, lowest first, so that a machine's memory costs by use and not by size. A split block's counts lie in its own first page, or
//! where a whole block was split while in use, in a page of another block. Pages are never zero when taken
//! unless asked for.
//!
//! Addresses here are physical. Invariant: a count is changed only by who holds a reference, and a page
//! with none is marked free under the lock.

use alloc::vec::Vec;
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering::*};

use machine::PAGE;
use spin::Mutex;

pub use super::page::Page;

use super::layout::{DIRECT, LARGE};

/// Pages of a block.
const PAGES: usize = (LARGE / PAGE) as usize;
const WORDS: usize = PAGES / 64;
/// The end of a list of blocks.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// No memory there, or none of ours.
    Absent,
    Free,
    Whole,
    Split,
}

/// What is kept about a block.
#[derive(Clone, Copy)]
struct Block {
    used: Use,
    /// Something was in it since it was given back to the host, or since the start.
    touched: bool,
    /// Free pages, where it is split.
    free: u16,
    /// How many have it, where it is somebody's as a whole.
    sharers: u32,
    /// Neighbours in the list of free blocks, or of split ones with free pages.
    next: u32,
    previous: u32,
    /// Where the pages' counts are, where it is split.
    counts: u64,
}

/// Bytes that come out of reserve together.
const STEP: u64 = 256 << 20;
/// Ranges that may be in reserve; boot loaders tell of fewer.
const RANGES: usize = 64;

/// The counts of a split block's pages, which lie in one page. They are wide: more references than memory has
/// room for are needed before one overflows.
struct Counts {
    free: [u64; WORDS],
    references: [AtomicU32; PAGES],
}

const _: () = assert!(size_of::<Counts>() <= PAGE as usize);

impl Counts {
    /// The count of a page of the block.
    fn of(&self, at: u64) -> &AtomicU32 {
        &self.references[(at % LARGE / PAGE) as usize]
    }
}

struct Frames {
    /// What is kept about blocks, as far as memory was divided; where that grows has been set aside.
    blocks: &'static mut [Block],
    /// Whole blocks that wait: start and end of each range.
    reserve: [(u64, u64); RANGES],
    /// How many ranges there are, and how many are used up.
    ranges: usize,
    past: usize,
    /// First of the free blocks, and of the split ones with free pages.
    free: u32,
    partial: u32,
    /// Free pages in all, and all pages.
    pages: u64,
    total: u64,
    /// Free blocks that were touched, and how often that has changed.
    touched: u64,
    changes: u64,
}

static FRAMES: Mutex<Frames> = Mutex::new(Frames {
    blocks: &mut [],
    reserve: [(0, 0); RANGES],
    ranges: 0,
    past: 0,
    free: NONE,
    partial: NONE,
    pages: 0,
    total: 0,
    touched: 0,
    changes: 0,
});

/// Where a physical address can be read and written.
pub fn direct(address: u64) -> *mut u8 {
    (DIRECT + address) as *mut u8
}

/// The counts at this address.
///
/// # Safety
/// The block whose counts they are is split, and stays so.
unsafe fn counts(address: u64) -> &'static Counts {
    // SAFETY: a split block's counts are a page of their own.
    unsafe { &*direct(address).cast() }
}

/// Bytes that the bookkeeping for memory up to this address takes.
pub fn bookkeeping(end: u64) -> u64 {
    (end.div_ceil(LARGE) * size_of::<Block>() as u64).next_multiple_of(PAGE)
}

/// Begins, with bookkeeping at this physical address.
///
/// # Safety
/// The bookkeeping's memory is nobody's and directly mapped, and as long as `bookkeeping` says for all
/// memory that is added. Called once.
pub unsafe fn begin(bookkeeping: u64) {
    // SAFETY: the caller's promise; a slice of nothing yet.
    FRAMES.lock().blocks = unsafe { slice::from_raw_parts_mut(direct(bookkeeping).cast(), 0) };
}

/// Adds whole pages of memory to what can be taken.
///
/// # Safety
/// The range is memory that nobody uses. It is directly mapped, or can be by `map::show`.
pub unsafe fn add(start: u64, end: u64) {
    let mut frames = FRAMES.lock();
    let (start, end) = (start.next_multiple_of(PAGE), end & !(PAGE - 1));
    frames.total += end.saturating_sub(start) / PAGE;
    let first = start.next_multiple_of(LARGE).min(end);
    let last = (end & !(LARGE - 1)).max(first);
    // Parts of blocks may have pages that are in use already, and are few.
    for (start, end) in [(start, first), (last, end)] {
        if start < end {
            frames.divide(start, end);
            frames.add_part((start / LARGE) as u32, start, end);
        }
    }
    let number = frames.ranges;
    if first < last && number < RANGES {
        frames.reserve[number] = (first, last);
        frames.ranges += 1;
        frames.pages += (last - first) / PAGE;
    }
}

impl Frames {
    /// Has bookkeeping for the blocks of a range, which are directly mapped from then on.
    fn divide(&mut self, start: u64, end: u64) {
        let (old, new) = (self.blocks.len(), end.div_ceil(LARGE) as usize);
        if old < new {
            let first = self.blocks.as_mut_ptr();
            let (used, counts) = (Use::Absent, 0);
            let absent =
                Block { used, touched: false, free: 0, sharers: 0, next: NONE, previous: NONE, counts };
            // SAFETY: room for all was set aside at `begin`; every element is written before there is a
            // reference to it.
            self.blocks = unsafe {
                (old..new).for_each(|index| first.add(index).write(absent));
                slice::from_raw_parts_mut(first, new)
            };
        }
        super::map::show(start & !(LARGE - 1), end.next_multiple_of(LARGE));
    }

    /// Takes the next part out of reserve; whether there was one.
    fn grow(&mut self) -> bool {
        let Some((start, end)) = self.reserve[..self.ranges].get_mut(self.past) else { return false };
        let (first, last) = (*start, (*start / STEP + 1).saturating_mul(STEP).min(*end));
        *start = last;
        if last == *end {
            self.past += 1;
        }
        self.pages -= (last - first) / PAGE;
        self.divide(first, last);
        // The first one in the list is the next one taken.
        for index in (first / LARGE..last / LARGE).rev() {
            self.put_free(index as u32, false);
        }
        true
    }

    fn list(&mut self, partial: bool) -> &mut u32 {
        if partial { &mut self.partial } else { &mut self.free }
    }

    fn link(&mut self, index: u32, partial: bool) {
        let first = core::mem::replace(self.list(partial), index);
        if first != NONE {
            self.blocks[first as usize].previous = index;
        }
        let block = &mut self.blocks[index as usize];
        (block.next, block.previous) = (first, NONE);
    }

    fn unlink(&mut self, index: u32, partial: bool) {
        let Block { next, previous, .. } = self.blocks[index as usize];
        match previous {
            NONE => *self.list(partial) = next,
            _ => self.blocks[previous as usize].next = next,
        }
        if next != NONE {
            self.blocks[next as usize].previous = previous;
        }
    }

    fn put_free(&mut self, index: u32, touched: bool) {
        let block = &mut self.blocks[index as usize];
        (block.used, block.touched) = (Use::Free, touched);
        self.touched += u64::from(touched);
        self.changes += u64::from(touched);
        self.pages += PAGES as u64;
        self.link(index, false);
    }

    fn take_free(&mut self) -> Option<u32> {
        if self.free == NONE && !self.grow() {
            return None;
        }
        let index = self.free;
        self.take(index);
        Some(index)
    }

    /// Takes a free block out of the list.
    fn detach(&mut self, index: u32) {
        self.unlink(index, false);
        self.pages -= PAGES as u64;
        let block = &mut self.blocks[index as usize];
        (block.used, block.sharers) = (Use::Whole, 1);
        self.touched -= u64::from(block.touched);
        self.changes += u64::from(block.touched);
    }

    fn take(&mut self, index: u32) {
        self.detach(index);
        // Our VMM has the hypervisor know of memory when it is first touched, and such an access is done by
        // the VMM: it has to be a plain one.
        // SAFETY: the block is nobody's yet.
        unsafe { direct(u64::from(index) * LARGE).cast::<u64>().write_volatile(0) };
    }

    fn counts(&mut self, index: u32) -> &'static mut Counts {
        // SAFETY: the block is split, so its counts are there; `free` is touched under the lock alone, and
        // everything else is atomic.
        unsafe { &mut *direct(self.blocks[index as usize].counts).cast() }
    }

    /// Splits a block that is nobody's, with these pages in use.
    fn split(&mut self, index: u32, at: u64, references: u32) {
        // SAFETY: the page is nobody's, and is written whole.
        unsafe { direct(at).write_bytes(0, size_of::<Counts>()) };
        let block = &mut self.blocks[index as usize];
        (block.used, block.free, block.counts) = (Use::Split, 0, at);
        for count in &self.counts(index).references {
            count.store(references, Relaxed);
        }
    }

    /// Memory that is less than a block.
    fn add_part(&mut self, index: u32, start: u64, end: u64) {
        let mut start = start;
        if self.blocks[index as usize].used == Use::Absent {
            self.split(index, start, 1);
            start += PAGE;
        }
        for at in (start..end).step_by(PAGE as usize) {
            self.counts(index).of(at).store(0, Relaxed);
            self.free_page(at);
        }
    }

    fn take_page(&mut self) -> Option<u64> {
        if self.partial == NONE {
            let index = self.take_free()?;
            let base = u64::from(index) * LARGE;
            self.split(index, base, 0);
            let counts = self.counts(index);
            counts.free = [u64::MAX; WORDS];
            counts.free[0] -= 1;
            counts.references[0].store(1, Relaxed);
            self.blocks[index as usize].free = PAGES as u16 - 1;
            self.pages += PAGES as u64 - 1;
            self.link(index, true);
        }
        let index = self.partial;
        let counts = self.counts(index);
        let word =
            counts.free.iter().position(|word| *word != 0).expect("invariant: a listed block has some");
        let bit = counts.free[word].trailing_zeros() as usize;
        counts.free[word] &= counts.free[word] - 1;
        let page = word * 64 + bit;
        counts.references[page].store(1, Relaxed);
        self.pages -= 1;
        self.blocks[index as usize].free -= 1;
        if self.blocks[index as usize].free == 0 {
            self.unlink(index, true);
        }
        Some(u64::from(index) * LARGE + page as u64 * PAGE)
    }

    fn free_page(&mut self, at: u64) {
        let index = (at / LARGE) as u32;
        let page = (at % LARGE / PAGE) as usize;
        self.counts(index).free[page / 64] |= 1 << (page % 64);
        self.pages += 1;
        let block = &mut self.blocks[index as usize];
        block.free += 1;
        let (free, counts) = (block.free, block.counts);
        if free == 1 {
            self.link(index, true);
        }
        // The block is whole again when only its own counts are in use, or nothing of it.
        let own = counts == u64::from(index) * LARGE;
        if free as usize == PAGES - usize::from(own) {
            self.unlink(index, true);
            self.pages -= u64::from(free);
            self.put_free(index, true);
            if !own {
                self.free_page(counts);
            }
        }
    }

    /// Gives a reference to a page back, if it is one that is counted.
    fn give(&mut self, at: u64) {
        let index = (at / LARGE) as u32;
        if self.blocks.get(index as usize).is_none_or(|block| block.used != Use::Split) {
            return;
        }
        if self.counts(index).of(at).fetch_sub(1, AcqRel) == 1 {
            self.free_page(at);
        }
    }

    fn share_block(&mut self, index: u32) {
        match self.blocks[index as usize].used {
            Use::Split => self.counts(index).references.iter().for_each(|count| {
                count.fetch_add(1, Relaxed);
            }),
            _ => self.blocks[index as usize].sharers += 1,
        }
    }

    fn give_block(&mut self, index: u32) {
        let block = &mut self.blocks[index as usize];
        if block.used == Use::Split {
            let start = u64::from(index) * LARGE;
            return (start..start + LARGE).step_by(PAGE as usize).for_each(|at| self.give(at));
        }
        block.sharers -= 1;
        if block.sharers == 0 {
            self.put_free(index, true);
        }
    }

    /// Takes neighbouring free blocks.
    fn take_many(&mut self, count: usize) -> Option<u64> {
        let end = loop {
            let mut run = 0;
            let end = self.blocks.iter().position(|block| {
                run = if block.used == Use::Free { run + 1 } else { 0 };
                run == count
            });
            match end {
                Some(end) => break end,
                None if self.grow() => {}
                None => return None,
            }
        };
        let first = end + 1 - count;
        (first..=end).for_each(|index| self.take(index as u32));
        Some(first as u64 * LARGE)
    }
}

/// Takes a page of whatever content.
pub fn take_page() -> Option<u64> {
    FRAMES.lock().take_page()
}

/// The count of a page; none for memory that is not ours to give back.
pub fn count(at: u64) -> Option<&'static AtomicU32> {
    counts_around(at).map(|counts| counts.of(at))
}

/// The counts of all pages of the block around one, to which somebody has a reference as long as they are used.
fn counts_around(at: u64) -> Option<&'static Counts> {
    let frames = FRAMES.lock();
    let block = frames.blocks.get((at / LARGE) as usize)?;
    // SAFETY: the block is split as long as a page of it is referred to.
    (block.used == Use::Split).then(|| unsafe { counts(block.counts) })
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

/// Takes a whole block, if there is one: for who can do without.
pub fn take_spare() -> Option<u64> {
    FRAMES.lock().take_free().map(|index| u64::from(index) * LARGE)
}

/// Takes whole blocks that lie one behind the other; the address of the first. Pages of files that can be read
/// again make room, no more of them than it takes.
pub fn take_blocks(count: usize) -> Option<u64> {
    loop {
        let taken = if count == 1 { take_spare() } else { FRAMES.lock().take_many(count) };
        if taken.is_some() || !crate::device::shed(count * PAGES) {
            return taken;
        }
    }
}

/// Takes pages that lie together, from the start of a block whose rest others can have.
pub fn take_part(length: u64) -> Option<u64> {
    let block = take_blocks(1)?;
    let counts = Page::take()?;
    // SAFETY: the block was just taken, and each page has its reference: the first ones are the caller's.
    unsafe {
        drop(split_block(block, counts));
        for at in (block + length.next_multiple_of(PAGE)..block + LARGE).step_by(PAGE as usize) {
            drop(Page::from_address(at));
        }
    }
    Some(block)
}

/// Takes another reference to a block, whose memory somebody else may have from now on.
///
/// # Safety
/// The caller has a reference to it already, as a whole.
pub unsafe fn share_block(address: u64) {
    FRAMES.lock().share_block((address / LARGE) as u32);
}

/// Whether somebody has the only reference to a block, and as a whole.
pub fn is_block_alone(address: u64) -> bool {
    let block = FRAMES.lock().blocks[(address / LARGE) as usize];
    block.used == Use::Whole && block.sharers == 1
}

/// Gives a reference to a whole block back.
///
/// # Safety
/// The caller had it, as a whole, and does not use it any more.
pub unsafe fn give_block(address: u64) {
    FRAMES.lock().give_block((address / LARGE) as u32);
}

/// Makes a reference to a whole block one to each of its pages. `counts` is where their counts go; it comes back if
/// others have split the block already.
///
/// # Safety
/// The caller has the reference, and refers to the block page by page from now on.
pub unsafe fn split_block(address: u64, counts: Page) -> Option<Page> {
    let mut frames = FRAMES.lock();
    let index = (address / LARGE) as u32;
    let Block { used, sharers, .. } = frames.blocks[index as usize];
    if used == Use::Split {
        return Some(counts);
    }
    frames.split(index, counts.into_address(), sharers);
    None
}

/// Whether free blocks were touched; and a number that changes whenever their number does.
pub fn touched() -> (bool, u64) {
    let frames = FRAMES.lock();
    (frames.touched > 0, frames.changes)
}

/// Takes free blocks that were touched, for the host to have their memory: their addresses. At most half of
/// what is free, because whoever wants memory meanwhile cannot wait for it.
pub fn lend(most: usize) -> Vec<u64> {
    let mut lent = Vec::with_capacity(most);
    let mut frames = FRAMES.lock();
    let least = frames.pages / 2;
    let mut index = frames.free;
    while index != NONE && lent.len() < most && frames.pages >= least + PAGES as u64 {
        let Block { touched, next, .. } = frames.blocks[index as usize];
        if touched {
            frames.detach(index);
            lent.push(u64::from(index) * LARGE);
        }
        index = next;
    }
    lent
}

/// Takes a block back that was lent: the host has its memory.
pub fn lent(address: u64) {
    FRAMES.lock().put_free((address / LARGE) as u32, false);
}

/// Whether so little is free that what can be had again should not take more.
pub fn is_short() -> bool {
    const SHARE: u64 = 8;
    let frames = FRAMES.lock();
    frames.pages < frames.total / SHARE
}

/// Bytes that nobody has taken.
pub fn free_bytes() -> u64 {
    FRAMES.lock().pages * PAGE
}
