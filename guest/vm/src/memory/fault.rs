//! What a fault makes of a mapping: what is promised there becomes present, or a copy of it writable.

use alloc::sync::Arc;

use machine::{PAGE, Protection};

use super::area::{Area, Shown};
use super::flush;
use super::frame::{self, Page};
use super::layout::LARGE;
use super::mappings::{Mappings, is_alone, split};
use super::object::{Absent, Object};
use super::table::{Bits, Entry, NoMemory, Slot, Tables};

/// How many pages of an object are mapped around a fault, if they are in memory.
const AROUND: u64 = 16;

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

fn page_of(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// What an entry allows, but for writing. A page that nobody may use is there, but not for ring 3.
pub fn bits(protection: Protection) -> Bits {
    let mut bits = Bits::HELD;
    bits.set(Bits::USER, !protection.is_empty());
    bits.set(Bits::NO_EXECUTE, !protection.contains(Protection::EXECUTE));
    bits
}

pub const WRITE: Bits = Bits::WRITABLE.union(Bits::DIRTY);

impl Mappings {
    /// Makes an access possible, or says why not; whether it was not possible before.
    pub fn resolve(&mut self, address: u64, access: Access) -> Result<bool, Failure> {
        let Self { areas, tables } = self;
        let (start, area) = areas.at(address).ok_or(Failure::Denied)?;
        let denied = area.protection.is_empty()
            || access.write && !area.protection.contains(Protection::WRITE)
            || access.execute && !area.protection.contains(Protection::EXECUTE);
        if denied {
            return Err(Failure::Denied);
        }
        if area.wants_large(start, address)
            && let Some(done) = take_large(tables, address, area.protection)
        {
            return done.map(|()| true);
        }
        let at = page_of(address);
        let slot = tables.make(at, false)?;
        let entry = slot.get();
        if entry.is_present() {
            let needed = access.write && !entry.bits().contains(Bits::WRITABLE);
            return if needed { make_writable(tables, at, start, area).map(|()| true) } else { Ok(false) };
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
}

/// A write to a page that is there, but not writable.
fn make_writable(tables: &mut Tables, at: u64, start: u64, area: &Area) -> Result<(), Failure> {
    let mut slot = tables.make(at, false)?;
    if slot.get().is_large() && !is_alone(slot.get()) {
        // Another space has it too. Only what is written is copied.
        split(tables, at)?;
        slot = tables.make(at, false)?;
    }
    let entry = slot.get();
    let bits = bits(area.protection) | WRITE;
    let mut shared = false;
    if let Shown::Object { object, page, shared: true } = &area.shown {
        shared = true;
        if object.store().is_some() {
            object.touch(page + (at - start) / PAGE);
        }
    }
    if shared || is_alone(entry) {
        slot.set(Entry::new(entry.address(), bits | entry.bits() & Bits::LARGE));
        return Ok(());
    }
    replace(tables.root(), slot, entry, at, bits)
}

/// Puts a copy in a page's place.
pub fn replace(root: u64, slot: Slot, entry: Entry, at: u64, bits: Bits) -> Result<(), Failure> {
    // SAFETY: the entry's reference, which is replaced.
    let old = unsafe { Page::from_address(entry.address()) };
    let Some(copy) = old.copied() else {
        let _ = old.into_address();
        return Err(Failure::NoMemory);
    };
    slot.set(Entry::new(copy.into_address(), bits));
    flush::range(root, at, at + PAGE);
    drop(old);
    Ok(())
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
