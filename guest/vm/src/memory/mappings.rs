//! What is mapped in an address space, and how that changes.
//!
//! The areas say what is promised, the tables what is there already. A fault makes the second follow the
//! first (`fault.rs`); everything else takes from the tables what does not hold any more and tells the CPUs
//! (`flush.rs`) before pages are given back. Private pages are copied when they are written and somebody
//! else has them too.

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{PAGE, Protection, UserRange};

use super::area::{Area, Areas, Shown};
use super::fault::{Failure, WRITE, bits, replace};
use super::flush;
use super::frame::{self, Page};
use super::layout::LARGE;
use super::object::{Object, Run};
use super::table::{Bits, Entry, NoMemory, Slot, Tables};

/// What is mapped in one space.
pub struct Mappings {
    pub areas: Areas,
    pub tables: Tables,
}

impl Mappings {
    pub const fn new(tables: Tables) -> Self {
        Self { areas: Areas::new(), tables }
    }

    /// Makes large pages that cross the bounds of a range small: else what is taken away there would take its
    /// neighbours along.
    pub fn separate(&mut self, range: UserRange) -> Result<(), NoMemory> {
        separate(&mut self.tables, range)
    }

    /// Replaces what is mapped in a range.
    pub fn map(&mut self, range: UserRange, protection: Protection, shown: Shown) {
        self.unmap(range);
        if range.length > 0 {
            let area = Area { end: range.end(), protection, shown, large: None };
            self.areas.insert(range.address, area);
        }
    }

    /// Takes away what is mapped in a range.
    pub fn unmap(&mut self, range: UserRange) {
        for (start, area) in self.areas.cut(range) {
            clear(&mut self.tables, start, area.end);
        }
        self.tables.prune(range.address, range.end());
    }

    pub fn protect(&mut self, range: UserRange, protection: Protection) -> Result<(), NoMemory> {
        let Self { areas, tables } = self;
        separate(tables, range)?;
        for (start, mut piece) in areas.cut(range) {
            piece.protection = protection;
            let end = piece.end;
            let private = !piece.is_shared();
            areas.insert(start, piece);
            let mut tightened = false;
            tables.visit(start, end, &mut |_, slot| {
                let old = slot.get().bits();
                let mut new = bits(protection) | old & (Bits::LARGE | Bits::DIRTY);
                let writable = old.contains(Bits::WRITABLE) || private && is_alone(slot.get());
                if protection.contains(Protection::WRITE) && writable {
                    new |= WRITE;
                }
                slot.set(Entry::new(slot.get().address(), new));
                tightened |= !new.contains(old & (Bits::WRITABLE | Bits::USER))
                    || !old.contains(new & Bits::NO_EXECUTE);
            });
            if tightened {
                flush::range(tables.root(), start, end);
            }
        }
        Ok(())
    }

    /// Moves mappings, and continues them if there is more room.
    pub fn relocate(&mut self, from: UserRange, to: UserRange) -> Result<(), Failure> {
        let length = from.length.min(to.length);
        let last = self.areas.at(from.address).map(|(start, area)| area.from(start, from.address));
        let last = last.ok_or(Failure::Denied)?;
        if from.address == to.address {
            if to.length < from.length {
                self.unmap(UserRange::new(to.end(), from.length - to.length));
            } else if to.length > from.length {
                let rest = UserRange::new(from.end(), to.length - from.length);
                self.unmap(rest);
                let (start, area) = self.areas.at(from.end() - 1).ok_or(Failure::Denied)?;
                let mut area = area.from(start, from.end());
                area.end = to.end();
                self.areas.insert(from.end(), area);
            }
            return Ok(());
        }
        self.unmap(to);
        let moved = UserRange::new(from.address, length);
        let Self { areas, tables } = self;
        separate(tables, moved)?;
        if !(to.address ^ from.address).is_multiple_of(LARGE) {
            // Large pages would lie across the bounds of others there.
            let first = from.address.next_multiple_of(LARGE);
            (first..moved.end()).step_by(LARGE as usize).try_for_each(|at| split(tables, at))?;
        }
        // Tables first, so that nothing is half moved if there is no memory for them.
        let (mut found, mut enough) = (Vec::new(), Ok(()));
        tables.visit(moved.address, moved.end(), &mut |at, slot| found.push((at, slot)));
        for (at, slot) in &found {
            let made = tables.make(to.address + (at - from.address), slot.get().is_large());
            enough = enough.and(made.map(drop));
        }
        enough?;
        for (start, mut piece) in areas.cut(moved) {
            let new = to.address + (start - from.address);
            piece.end = to.address + (piece.end - from.address);
            areas.insert(new, piece);
        }
        let taken: Vec<Entry> = found.iter().map(|(_, slot)| slot.swap(Entry::NONE)).collect();
        flush::range(tables.root(), moved.address, moved.end());
        for ((at, _), entry) in found.into_iter().zip(taken) {
            tables.make(to.address + (at - from.address), entry.is_large())?.set(entry);
        }
        if to.length > length {
            let mut rest = last.from(from.address, from.address + length);
            rest.end = to.end();
            self.areas.insert(to.address + length, rest);
        }
        self.unmap(UserRange::new(from.address + length, from.length - length));
        Ok(())
    }

    /// Drops the content of private pages: they show what they showed at first.
    pub fn discard(&mut self, range: UserRange) -> Result<(), NoMemory> {
        separate(&mut self.tables, range)?;
        clear(&mut self.tables, range.address, range.end());
        Ok(())
    }

    pub fn want_large(&mut self, range: UserRange, wanted: bool) {
        for (start, mut piece) in self.areas.cut(range) {
            piece.large = Some(wanted);
            self.areas.insert(start, piece);
        }
    }

    /// Gives a mapping a page of its own, with the rights it has.
    pub fn make_own(&mut self, at: u64) -> Option<()> {
        let slot = self.tables.find(at)?;
        let entry = slot.get();
        if !entry.is_present() || entry.is_large() {
            return None;
        }
        if !is_alone(entry) {
            replace(self.tables.root(), slot, entry, at, entry.bits()).ok()?;
        }
        Some(())
    }

    /// Takes these pages, which were an object's, from where they are shown.
    pub fn forget(&mut self, object: &Arc<Object>, pages: &[(u64, Page)]) {
        let Self { areas, tables } = self;
        let (Some((first, _)), Some((last, _))) = (pages.first(), pages.last()) else { return };
        for (start, end, number, _) in areas.shows(object, first * PAGE, (last + 1) * PAGE) {
            clear_if(tables, start, end, |at, entry| {
                let number = number + (at - start) / PAGE;
                // Private copies stay.
                let there = pages.binary_search_by_key(&number, |(number, _)| *number);
                there.is_ok_and(|index| pages[index].1.address() == entry.address())
            });
        }
    }

    /// Takes what an object does not have any more from where it is shown: private copies go with the rest.
    pub fn cut_off(&mut self, object: &Arc<Object>, start: u64) {
        let Self { areas, tables } = self;
        for (first, last, ..) in areas.shows(object, start, u64::MAX) {
            clear_if(tables, first, last, |_, _| true);
        }
    }

    /// Makes the next write to these pages of an object one that is seen.
    pub fn clean(&mut self, object: &Arc<Object>, runs: &[Run]) {
        let Self { areas, tables } = self;
        for run in runs {
            let end = run.first + run.pages.len() as u64;
            for (first, last, _, shared) in areas.shows(object, run.first * PAGE, end * PAGE) {
                if shared {
                    clean(tables, first, last);
                }
            }
        }
    }
}

/// Has no page of a range be written unseen.
fn clean(tables: &Tables, first: u64, last: u64) {
    let mut tightened = false;
    tables.visit(first, last, &mut |_, slot| {
        let entry = slot.get();
        if entry.bits().contains(Bits::WRITABLE) {
            slot.set(Entry::new(entry.address(), entry.bits() - WRITE));
            tightened = true;
        }
    });
    if tightened {
        flush::range(tables.root(), first, last);
    }
}

/// Whether nobody else has what is behind an entry.
pub fn is_alone(entry: Entry) -> bool {
    if entry.is_large() {
        return frame::is_block_alone(entry.address());
    }
    // SAFETY: the entry keeps its reference: this one is forgotten.
    let page = core::mem::ManuallyDrop::new(unsafe { Page::from_address(entry.address()) });
    page.is_alone()
}

/// Removes all entries of a range and gives their pages back. Large pages lie wholly in it.
fn clear(tables: &mut Tables, start: u64, end: u64) {
    let _ = separate(tables, UserRange::new(start, end - start));
    clear_if(tables, start, end, |_, _| true);
}

fn clear_if(tables: &mut Tables, start: u64, end: u64, which: impl Fn(u64, Entry) -> bool) {
    let mut entries = Vec::new();
    tables.visit(start, end, &mut |at, slot| {
        if which(at, slot.get()) {
            entries.push(slot.swap(Entry::NONE));
        }
    });
    if entries.is_empty() {
        return;
    }
    flush::range(tables.root(), start, end);
    let large = entries.iter().filter(|entry| entry.is_large());
    let small = entries.iter().filter(|entry| !entry.is_large());
    // SAFETY: the entries are gone, and nobody translates by them any more.
    unsafe {
        large.for_each(|entry| frame::give_block(entry.address()));
        frame::give_pages(small.map(|entry| entry.address()));
    }
}

/// Makes large pages that cross the bounds of a range small.
fn separate(tables: &mut Tables, range: UserRange) -> Result<(), NoMemory> {
    let mut bounds = [range.address, range.end()].into_iter().filter(|at| !at.is_multiple_of(LARGE));
    bounds.try_for_each(|at| split(tables, at))
}

/// Makes the large page around an address small, if there is one.
pub fn split(tables: &mut Tables, at: u64) -> Result<(), NoMemory> {
    let Some(slot) = tables.find(at) else { return Ok(()) };
    let entry = slot.get();
    if !entry.is_large() {
        return Ok(());
    }
    let table = Page::take().ok_or(NoMemory)?;
    let counts = Page::take().ok_or(NoMemory)?;
    // SAFETY: the entry's reference; each new one has one to its page.
    drop(unsafe { frame::split_block(entry.address(), counts) });
    let bits = entry.bits() - Bits::LARGE;
    for number in 0..512 {
        Slot::at(table.address(), number).set(Entry::new(entry.address() + number as u64 * PAGE, bits));
    }
    slot.set(Entry::new(table.into_address(), Bits::HELD | Bits::WRITABLE));
    flush::range(tables.root(), at & !(LARGE - 1), (at & !(LARGE - 1)) + LARGE);
    Ok(())
}
