//! An address space: what is mapped where, and what a fault makes of it.
//!
//! The map says what is promised, the tables what is there already. A fault makes the second follow the
//! first; everything else takes from the tables what does not hold any more and tells the CPUs
//! (`flush.rs`) before pages are given back. Private pages are copied when they are written and somebody
//! else has them too.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{PAGE, Protection, UserRange};

use super::flush;
use super::frame::{self, Page};
use super::layout::LARGE;
use super::object::{Absent, Object};
use super::table::{Bits, Entry, NoMemory, Slot, Tables};

/// Mappings of this length or more get large pages without being asked.
const LARGE_FROM: u64 = 32 << 20;
/// How many pages of an object are mapped around a fault, if they are in memory.
const AROUND: u64 = 16;

/// What a mapping shows.
#[derive(Clone)]
pub enum Shown {
    Nothing,
    /// An object from this page on.
    Object {
        object: Arc<Object>,
        page: u64,
        shared: bool,
    },
}

/// A mapping.
#[derive(Clone)]
struct Area {
    end: u64,
    protection: Protection,
    shown: Shown,
    /// Large pages are wanted, or not; none: by the length.
    large: Option<bool>,
}

impl Area {
    /// The same from a later address on.
    fn from(&self, start: u64, at: u64) -> Self {
        let mut rest = self.clone();
        if let Shown::Object { page, .. } = &mut rest.shown {
            *page += (at - start) / PAGE;
        }
        rest
    }
}

/// Why an access fails.
pub enum Failure {
    /// Nothing is mapped there, or not for this.
    Denied,
    /// The object has no such page.
    Beyond,
    NoMemory,
    /// The object's page has to be fetched first, which may take time.
    Missing(Arc<Object>, u64),
}

impl From<NoMemory> for Failure {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl From<Absent> for Failure {
    fn from(absent: Absent) -> Self {
        match absent {
            Absent::NoMemory => Self::NoMemory,
            Absent::Beyond | Absent::Failed(_) => Self::Beyond,
        }
    }
}

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub write: bool,
    pub execute: bool,
}

pub struct Space {
    areas: BTreeMap<u64, Area>,
}

fn page_of(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// What an entry allows, but for writing. A page that nobody may use is there, but not for ring 3.
fn bits(protection: Protection) -> Bits {
    let mut bits = Bits::HELD;
    bits.set(Bits::USER, !protection.is_empty());
    bits.set(Bits::NO_EXECUTE, !protection.contains(Protection::EXECUTE));
    bits
}

const WRITE: Bits = Bits::WRITABLE.union(Bits::DIRTY);

impl Space {
    pub const fn new() -> Self {
        Self { areas: BTreeMap::new() }
    }

    fn area(&self, address: u64) -> Option<(u64, &Area)> {
        let (&start, area) = self.areas.range(..=address).next_back()?;
        (address < area.end).then_some((start, area))
    }

    /// Makes an access possible, or says why not; whether it was not possible before.
    pub fn resolve(&mut self, tables: &mut Tables, address: u64, access: Access) -> Result<bool, Failure> {
        let (start, area) = self.area(address).ok_or(Failure::Denied)?;
        let denied = area.protection.is_empty()
            || access.write && !area.protection.contains(Protection::WRITE)
            || access.execute && !area.protection.contains(Protection::EXECUTE);
        if denied {
            return Err(Failure::Denied);
        }
        if let Shown::Nothing = area.shown
            && wants_large(start, area, address)
            && let Some(done) = take_large(tables, address, area.protection)
        {
            return done.map(|()| true);
        }
        let at = page_of(address);
        let slot = tables.make(at, false)?;
        let entry = slot.get();
        if entry.is_present() {
            let needed = access.write && !entry.bits().contains(Bits::WRITABLE);
            return if needed {
                make_writable(slot, entry, at, start, area).map(|()| true)
            } else {
                Ok(false)
            };
        }
        let writable = area.protection.contains(Protection::WRITE);
        match &area.shown {
            Shown::Nothing => {
                let page = Page::zeroed().ok_or(Failure::NoMemory)?;
                let bits = bits(area.protection) | if writable { WRITE } else { Bits::empty() };
                slot.set(Entry::new(page.into_address(), bits));
            }
            Shown::Object { object, page, shared } => {
                let index = page + (at - start) / PAGE;
                let found = object.at_once(index)?.ok_or_else(|| Failure::Missing(object.clone(), index))?;
                if access.write && !shared {
                    let copy = found.copied().ok_or(Failure::NoMemory)?;
                    slot.set(Entry::new(copy.into_address(), bits(area.protection) | WRITE));
                } else {
                    let seen = object.store().is_some();
                    if access.write && seen {
                        object.touch(index);
                    }
                    let write = *shared && writable && (access.write || !seen);
                    let write = if write { WRITE } else { Bits::empty() };
                    slot.set(Entry::new(found.into_address(), bits(area.protection) | write));
                    around(tables, start, area, at);
                }
            }
        }
        Ok(true)
    }

    /// Replaces what is mapped in a range.
    pub fn map(&mut self, tables: &mut Tables, range: UserRange, protection: Protection, shown: Shown) {
        self.unmap(tables, range);
        if range.length > 0 {
            let area = Area { end: range.end(), protection, shown, large: None };
            self.areas.insert(range.address, area);
        }
    }

    /// Takes away what is mapped in a range.
    pub fn unmap(&mut self, tables: &mut Tables, range: UserRange) {
        for (start, area) in self.cut(range) {
            clear(tables, start, area.end);
        }
        tables.prune(range.address, range.end());
    }

    /// Removes the part of the map in a range: the pieces.
    fn cut(&mut self, range: UserRange) -> Vec<(u64, Area)> {
        let (start, end) = (range.address, range.end());
        let met: Vec<u64> = self
            .areas
            .range(..end)
            .rev()
            .take_while(|(_, area)| area.end > start)
            .map(|(&at, _)| at)
            .collect();
        let mut pieces = Vec::new();
        for at in met {
            let area = self.areas.remove(&at).expect("invariant: just found");
            if area.end > end {
                self.areas.insert(end, area.from(at, end));
            }
            let first = at.max(start);
            let mut piece = area.from(at, first);
            piece.end = area.end.min(end);
            if at < start {
                self.areas.insert(at, Area { end: start, ..area });
            }
            pieces.push((first, piece));
        }
        pieces
    }

    pub fn protect(
        &mut self,
        tables: &mut Tables,
        range: UserRange,
        protection: Protection,
    ) -> Result<(), NoMemory> {
        separate(tables, range)?;
        for (start, mut piece) in self.cut(range) {
            piece.protection = protection;
            let end = piece.end;
            let private = !matches!(piece.shown, Shown::Object { shared: true, .. });
            self.areas.insert(start, piece);
            let mut tightened = false;
            tables.visit(start, end, &mut |_, slot| {
                let old = slot.get().bits();
                let mut new = bits(protection) | old & (Bits::LARGE | Bits::DIRTY);
                let own = || old.contains(Bits::LARGE) || is_alone(slot.get());
                let writable = old.contains(Bits::WRITABLE) || private && own();
                if protection.contains(Protection::WRITE) && writable {
                    new |= WRITE;
                }
                slot.set(Entry::new(slot.get().address(), new));
                tightened |= !new.contains(old & (Bits::WRITABLE | Bits::USER))
                    || !old.contains(new & Bits::NO_EXECUTE);
            });
            if tightened {
                flush::range(start, end);
            }
        }
        Ok(())
    }

    /// Moves mappings, and continues them if there is more room.
    pub fn relocate(&mut self, tables: &mut Tables, from: UserRange, to: UserRange) -> Result<(), Failure> {
        let length = from.length.min(to.length);
        let last = self.area(from.address).map(|(start, area)| area.from(start, from.address));
        let last = last.ok_or(Failure::Denied)?;
        if from.address == to.address {
            if to.length < from.length {
                self.unmap(tables, UserRange::new(to.end(), from.length - to.length));
            } else if to.length > from.length {
                let rest = UserRange::new(from.end(), to.length - from.length);
                self.unmap(tables, rest);
                let (start, area) = self.area(from.end() - 1).ok_or(Failure::Denied)?;
                let mut area = area.from(start, from.end());
                area.end = to.end();
                self.areas.insert(from.end(), area);
            }
            return Ok(());
        }
        self.unmap(tables, to);
        let moved = UserRange::new(from.address, length);
        separate(tables, moved)?;
        // Tables first, so that nothing is half moved if there is no memory for them.
        for at in (0..length).step_by(PAGE as usize) {
            if tables.find(from.address + at).is_some_and(|slot| slot.get().is_present()) {
                tables.make(to.address + at, false)?;
            }
        }
        let pieces = self.cut(moved);
        for (start, mut piece) in pieces {
            let new = to.address + (start - from.address);
            piece.end = to.address + (piece.end - from.address);
            self.areas.insert(new, piece);
        }
        let mut entries = Vec::new();
        tables.visit(moved.address, moved.end(), &mut |at, slot| entries.push((at, slot.swap(Entry::NONE))));
        flush::range(moved.address, moved.end());
        for (at, entry) in entries {
            tables.make(to.address + (at - from.address), false)?.set(entry);
        }
        if to.length > length {
            let mut rest = last.from(from.address, from.address + length);
            rest.end = to.end();
            self.areas.insert(to.address + length, rest);
        }
        self.unmap(tables, UserRange::new(from.address + length, from.length - length));
        Ok(())
    }

    /// Drops the content of private pages: they show what they showed at first.
    pub fn discard(&mut self, tables: &mut Tables, range: UserRange) -> Result<(), NoMemory> {
        separate(tables, range)?;
        clear(tables, range.address, range.end());
        Ok(())
    }

    /// What a mapping allows.
    pub fn protection(&self, address: u64) -> Option<Protection> {
        self.area(address).map(|(_, area)| area.protection)
    }

    /// Gives a mapping a page of its own, with the rights it has.
    pub fn make_own(&mut self, tables: &mut Tables, at: u64) -> Option<()> {
        let slot = tables.find(at)?;
        let entry = slot.get();
        if !entry.is_present() || entry.is_large() {
            return None;
        }
        if !is_alone(entry) {
            replace(slot, entry, at, entry.bits()).ok()?;
        }
        Some(())
    }

    pub fn want_large(&mut self, range: UserRange, wanted: bool) {
        for (start, mut piece) in self.cut(range) {
            piece.large = Some(wanted);
            self.areas.insert(start, piece);
        }
    }

    /// Where objects are shown in a range: object, and the part of it in bytes.
    pub fn objects(&self, range: UserRange) -> Vec<(Arc<Object>, u64, u64)> {
        let mut found = Vec::new();
        for (&start, area) in
            self.areas.range(..range.end()).rev().take_while(|(_, area)| area.end > range.address)
        {
            if let Shown::Object { object, page, .. } = &area.shown {
                let (first, last) = (start.max(range.address), area.end.min(range.end()));
                let base = page * PAGE;
                found.push((object.clone(), base + (first - start), base + (last - start)));
            }
        }
        found
    }

    /// Where a part of an object is shown: the addresses, and whether what is written there is shared.
    fn shows(&self, object: &Arc<Object>, start: u64, end: u64) -> impl Iterator<Item = (u64, u64, bool)> {
        self.areas.iter().filter_map(move |(&at, area)| {
            let Shown::Object { object: shown, page, shared } = &area.shown else { return None };
            let base = page * PAGE;
            let first = at + start.max(base).saturating_sub(base);
            let last = area.end.min(at.saturating_add(end.saturating_sub(base)));
            (Arc::ptr_eq(shown, object) && first < last).then_some((first, last, *shared))
        })
    }

    /// Takes a part of an object from all tables, before it changes under them; private copies stay.
    pub fn forget(&mut self, tables: &mut Tables, object: &Arc<Object>, start: u64, end: u64) {
        for (first, last, shared) in self.shows(object, start, end) {
            clear_if(tables, first, last, |entry| shared || !is_alone(entry));
        }
    }

    /// Takes what an object does not have any more from all tables: private copies go with the rest.
    pub fn cut_off(&mut self, tables: &mut Tables, object: &Arc<Object>, start: u64) {
        for (first, last, _) in self.shows(object, start, u64::MAX) {
            clear_if(tables, first, last, |_| true);
        }
    }

    /// Makes the next write to these pages of an object one that is seen.
    pub fn clean(&mut self, tables: &mut Tables, object: &Arc<Object>, first: u64, end: u64) {
        for (first, last, shared) in self.shows(object, first * PAGE, end * PAGE) {
            let mut tightened = false;
            tables.visit(first, last, &mut |_, slot| {
                let entry = slot.get();
                if shared && entry.bits().contains(Bits::WRITABLE) {
                    slot.set(Entry::new(entry.address(), entry.bits() - WRITE));
                    tightened = true;
                }
            });
            if tightened {
                flush::range(first, last);
            }
        }
    }
}

/// Whether nobody else has the page behind an entry.
fn is_alone(entry: Entry) -> bool {
    // SAFETY: the entry keeps its reference: this one is forgotten.
    let page = core::mem::ManuallyDrop::new(unsafe { Page::from_address(entry.address()) });
    page.is_alone()
}

/// A write to a page that is there, but not writable.
fn make_writable(slot: Slot, entry: Entry, at: u64, start: u64, area: &Area) -> Result<(), Failure> {
    let bits = bits(area.protection) | WRITE;
    let mut shared = false;
    if let Shown::Object { object, page, shared: true } = &area.shown {
        shared = true;
        if object.store().is_some() {
            object.touch(page + (at - start) / PAGE);
        }
    }
    if entry.is_large() || shared || is_alone(entry) {
        slot.set(Entry::new(entry.address(), bits | entry.bits() & Bits::LARGE));
        return Ok(());
    }
    replace(slot, entry, at, bits)
}

/// Puts a copy in a page's place.
fn replace(slot: Slot, entry: Entry, at: u64, bits: Bits) -> Result<(), Failure> {
    // SAFETY: the entry's reference, which is replaced.
    let old = unsafe { Page::from_address(entry.address()) };
    let Some(copy) = old.copied() else {
        let _ = old.into_address();
        return Err(Failure::NoMemory);
    };
    slot.set(Entry::new(copy.into_address(), bits));
    flush::range(at, at + PAGE);
    drop(old);
    Ok(())
}

fn wants_large(start: u64, area: &Area, address: u64) -> bool {
    let block = address & !(LARGE - 1);
    area.large.unwrap_or(area.end - start >= LARGE_FROM) && start <= block && block + LARGE <= area.end
}

/// Maps a large page, unless there are small ones already or no block is free: nothing makes room for it.
fn take_large(tables: &mut Tables, address: u64, protection: Protection) -> Option<Result<(), Failure>> {
    let slot = match tables.make(address, true) {
        Ok(slot) => slot,
        Err(NoMemory) => return Some(Err(Failure::NoMemory)),
    };
    if slot.get() != Entry::NONE {
        return None;
    }
    let block = frame::take_spare()?;
    // SAFETY: just taken.
    unsafe { frame::direct(block).write_bytes(0, LARGE as usize) };
    let write = if protection.contains(Protection::WRITE) { WRITE } else { Bits::empty() };
    slot.set(Entry::new(block, bits(protection) | write | Bits::LARGE));
    Some(Ok(()))
}

/// Maps what is in memory of an object around a fault.
fn around(tables: &mut Tables, start: u64, area: &Area, fault: u64) {
    let Shown::Object { object, page, shared } = &area.shown else { return };
    let first = (fault & !(AROUND * PAGE - 1)).max(start);
    let last = ((fault & !(AROUND * PAGE - 1)) + AROUND * PAGE).min(area.end);
    let write = *shared && area.protection.contains(Protection::WRITE) && object.store().is_none();
    let write = if write { WRITE } else { Bits::empty() };
    for at in (first..last).step_by(PAGE as usize) {
        let Ok(slot) = tables.make(at, false) else { return };
        if slot.get() == Entry::NONE
            && let Some(found) = object.present(page + (at - start) / PAGE)
        {
            slot.set(Entry::new(found.into_address(), bits(area.protection) | write));
        }
    }
}

/// Removes all entries of a range and gives their pages back. Large pages lie wholly in it.
fn clear(tables: &mut Tables, start: u64, end: u64) {
    let _ = separate(tables, UserRange::new(start, end - start));
    clear_if(tables, start, end, |_| true);
}

fn clear_if(tables: &mut Tables, start: u64, end: u64, which: impl Fn(Entry) -> bool) {
    let mut entries = Vec::new();
    tables.visit(start, end, &mut |_, slot| {
        if which(slot.get()) {
            entries.push(slot.swap(Entry::NONE));
        }
    });
    if entries.is_empty() {
        return;
    }
    flush::range(start, end);
    for entry in entries {
        // SAFETY: the entries are gone, and nobody translates by them any more.
        unsafe {
            if entry.is_large() {
                frame::give_block(entry.address());
            } else {
                drop(Page::from_address(entry.address()));
            }
        }
    }
}

/// Makes large pages that cross the bounds of a range small.
fn separate(tables: &mut Tables, range: UserRange) -> Result<(), NoMemory> {
    for at in [range.address, range.end()] {
        if at.is_multiple_of(LARGE) {
            continue;
        }
        let Some(slot) = tables.find(at) else { continue };
        let entry = slot.get();
        if !entry.is_large() {
            continue;
        }
        let table = Page::take().ok_or(NoMemory)?;
        let counts = Page::take().ok_or(NoMemory)?;
        // SAFETY: the block was taken whole for this entry, and each new one has one of its pages.
        unsafe { frame::split_block(entry.address(), counts) };
        let bits = entry.bits() - Bits::LARGE;
        for number in 0..512 {
            Slot::at(table.address(), number).set(Entry::new(entry.address() + number as u64 * PAGE, bits));
        }
        slot.set(Entry::new(table.into_address(), Bits::HELD | Bits::WRITABLE));
        flush::range(at & !(LARGE - 1), (at & !(LARGE - 1)) + LARGE);
    }
    Ok(())
}
