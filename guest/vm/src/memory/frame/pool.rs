//! What becomes of blocks and pages when they are taken and given back.

use core::slice;
use core::sync::atomic::Ordering::*;

use machine::PAGE;

use super::super::layout::LARGE;
use super::super::map;
use super::{Block, Counts, Frames, KEPT_MOST, KEPT_SHARE, NONE, PAGES, STEP, Use, WORDS, direct};

impl Frames {
    /// Pages of whole blocks that are kept back.
    pub(super) fn kept_back(&self) -> u64 {
        (self.total / PAGES as u64 / KEPT_SHARE).clamp(1, KEPT_MOST) * PAGES as u64
    }

    /// Has bookkeeping for the blocks of a range, which are directly mapped from then on.
    pub(super) fn divide(&mut self, start: u64, end: u64) {
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
        map::show(start & !(LARGE - 1), end.next_multiple_of(LARGE));
    }

    /// Takes the next part out of reserve; whether there was one.
    pub(super) fn grow(&mut self) -> bool {
        let Some((start, end)) = self.reserve[..self.ranges].get_mut(self.past) else { return false };
        let (first, last) = (*start, (*start / STEP + 1).saturating_mul(STEP).min(*end));
        *start = last;
        if last == *end {
            self.past += 1;
        }
        self.pages -= (last - first) / PAGE;
        self.whole -= (last - first) / PAGE;
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

    pub(super) fn put_free(&mut self, index: u32, touched: bool) {
        let block = &mut self.blocks[index as usize];
        (block.used, block.touched) = (Use::Free, touched);
        self.touched += u64::from(touched);
        self.changes += u64::from(touched);
        self.pages += PAGES as u64;
        self.whole += PAGES as u64;
        self.link(index, false);
    }

    pub(super) fn take_free(&mut self) -> Option<u32> {
        if self.free == NONE && !self.grow() {
            return None;
        }
        let index = self.free;
        self.take(index);
        Some(index)
    }

    /// Takes a free block out of the list.
    pub(super) fn detach(&mut self, index: u32) {
        self.unlink(index, false);
        self.pages -= PAGES as u64;
        self.whole -= PAGES as u64;
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
    pub(super) fn split(&mut self, index: u32, at: u64, references: u32) {
        // SAFETY: the page is nobody's, and is written whole.
        unsafe { direct(at).write_bytes(0, size_of::<Counts>()) };
        let block = &mut self.blocks[index as usize];
        (block.used, block.free, block.counts) = (Use::Split, 0, at);
        for count in &self.counts(index).references {
            count.store(references, Relaxed);
        }
    }

    /// Memory that is less than a block.
    pub(super) fn add_part(&mut self, index: u32, start: u64, end: u64) {
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

    pub(super) fn take_page(&mut self) -> Option<u64> {
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

    pub(super) fn free_page(&mut self, at: u64) {
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
    pub(super) fn give(&mut self, at: u64) {
        let index = (at / LARGE) as u32;
        if self.blocks.get(index as usize).is_none_or(|block| block.used != Use::Split) {
            return;
        }
        if self.counts(index).of(at).fetch_sub(1, AcqRel) == 1 {
            self.free_page(at);
        }
    }

    pub(super) fn share_block(&mut self, index: u32) {
        match self.blocks[index as usize].used {
            Use::Split => self.counts(index).references.iter().for_each(|count| {
                count.fetch_add(1, Relaxed);
            }),
            _ => self.blocks[index as usize].sharers += 1,
        }
    }

    pub(super) fn give_block(&mut self, index: u32) {
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
    pub(super) fn take_many(&mut self, count: usize) -> Option<u64> {
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
