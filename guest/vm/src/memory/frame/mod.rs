//! Memory in pages: who has which.
//!
//! Memory is divided into blocks of 2 MiB. A block is free, or somebody's as a whole, or split into pages,
//! each with a count of references (`page.rs`). Address spaces may share one as a whole: then it is counted how many
//! do, and when one of them splits it, each of the others has a reference to every page. Nothing is kept about pages of
//! blocks that are not split, so that much memory costs little. What is not needed yet is not even divided: it waits
//! in reserve, lowest first, so that a machine's memory costs by use and not by size. A split block's counts lie in
//! its own first page, or where a whole block was split while in use, in a page of another block. Pages are never zero
//! when taken unless asked for.
//!
//! Addresses here are physical. Invariant: a count is changed only by who holds a reference, and a page
//! with none is marked free under the lock.

mod block;
mod page;
mod pool;

use alloc::vec::Vec;
use core::slice;
use core::sync::atomic::AtomicU32;

use machine::PAGE;
use spin::Mutex;

pub use block::{give_block, is_block_alone, share_block, split_block, take_blocks, take_part, take_spare};
pub use page::{Page, Sharer, give_pages};

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

/// The share of all blocks that applications leave to the library OS, whose heap needs whole ones; at most how many
/// that are; and pages beside them.
const KEPT_SHARE: u64 = 64;
const KEPT_MOST: u64 = 8;
const KEPT_PAGES: u64 = 128;

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
    /// Those of the free pages that are in whole blocks.
    whole: u64,
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
    whole: 0,
    total: 0,
    touched: 0,
    changes: 0,
});

/// Where a physical address can be read and written.
pub fn direct(address: u64) -> *mut u8 {
    (DIRECT + address) as *mut u8
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
        frames.whole += (last - first) / PAGE;
    }
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

/// Whether no more is left than what is kept back for the library OS itself.
pub fn is_exhausted() -> bool {
    let frames = FRAMES.lock();
    frames.whole <= frames.kept_back() && frames.pages - frames.whole < KEPT_PAGES
}

/// Bytes that nobody has taken.
pub fn free_bytes() -> u64 {
    FRAMES.lock().pages * PAGE
}
