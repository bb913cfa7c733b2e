//! Whole blocks: taken, shared, split.

use machine::PAGE;

use super::super::layout::LARGE;
use super::{Block, FRAMES, PAGES, Page, Use};

/// Takes a whole block, if there is one and enough is left: for who can do without.
pub fn take_spare() -> Option<u64> {
    let mut frames = FRAMES.lock();
    let left = frames.whole >= frames.kept_back() + PAGES as u64;
    let taken = if left { frames.take_free() } else { None };
    taken.map(|index| u64::from(index) * LARGE)
}

/// Takes whole blocks that lie one behind the other; the address of the first. Pages of files that can be read
/// again make room, no more of them than it takes.
pub fn take_blocks(count: usize) -> Option<u64> {
    loop {
        let taken = match count {
            1 => FRAMES.lock().take_free().map(|index| u64::from(index) * LARGE),
            _ => FRAMES.lock().take_many(count),
        };
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
