//! Translation tables: four levels, everything for ring 3.
//!
//! Entries that are present hold a reference to their page, which goes with them; tables are pages as
//! well. The library OS's part is the same in all address spaces: their top tables lead to the same tables there, which
//! are made before there is a second space, and stay ([`seal`]). New entries are marked as used already, because a
//! hypervisor that shadows the tables looks ahead only at those. Invariant: whoever changes a table holds the lock of
//! its space, or `map::OWN`'s.

use core::sync::atomic::{AtomicBool, Ordering::*};

use abi::address::IMAGE_BASE;
use machine::PAGE;

pub use super::entry::{Bits, Entry, Slot};
use super::flush;
use super::frame::{self, Page};
use super::layout::LARGE;

/// There is no memory for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

/// Where the library OS's own entries begin in a top table.
const OWN: usize = (IMAGE_BASE / span(3)) as usize;

static SEALED: AtomicBool = AtomicBool::new(false);

/// From now on no entry of the library OS's own comes to a top table, because others have copies.
pub fn seal() {
    SEALED.store(true, Relaxed);
}

/// The tables of one address space, but for the library OS's own part.
pub struct Tables {
    root: u64,
}

pub fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize & 511
}

/// Bytes that an entry of a level stands for.
const fn span(level: u32) -> u64 {
    PAGE << (9 * level)
}

impl Tables {
    /// Bytes that a table of large pages stands for.
    pub const SPAN: u64 = span(2);

    pub fn new() -> Result<Self, NoMemory> {
        Ok(Self { root: Page::zeroed().ok_or(NoMemory)?.into_address() })
    }

    /// Tables of another space, in which applications have nothing.
    pub fn beside(&self) -> Result<Self, NoMemory> {
        let other = Self::new()?;
        for index in OWN..512 {
            Slot::at(other.root, index).set(Slot::at(self.root, index).get());
        }
        Ok(other)
    }

    /// A second name for these tables, which are never given back.
    pub const fn named(root: u64) -> Self {
        Self { root }
    }

    pub fn root(&self) -> u64 {
        self.root
    }

    /// Takes everything out that applications have, and the tables for it.
    pub fn detach(&mut self) -> Detached {
        Detached(core::array::from_fn(|index| Slot::at(self.root, index).swap(Entry::NONE)))
    }

    /// The slot of a page, or of the large page around it; tables that are missing are made.
    pub fn make(&mut self, address: u64, large: bool) -> Result<Slot, NoMemory> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            let slot = Slot::at(table, index(address, level));
            let entry = slot.get();
            if level == 1 && (large || entry.is_large()) {
                return Ok(slot);
            }
            table = if entry.is_present() {
                entry.address()
            } else {
                let own = level == 3 && index(address, level) >= OWN;
                assert!(
                    !own || !SEALED.load(Relaxed),
                    "invariant: all top tables have the library OS's part"
                );
                let new = Page::zeroed().ok_or(NoMemory)?.into_address();
                slot.set(Entry::new(new, Bits::HELD | Bits::WRITABLE));
                new
            };
        }
        Ok(Slot::at(table, index(address, 0)))
    }

    /// The slot of a page or of the large page around it, if it has one.
    pub fn find(&self, address: u64) -> Option<Slot> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            let slot = Slot::at(table, index(address, level));
            let entry = slot.get();
            if !entry.is_present() {
                return None;
            }
            if entry.is_large() {
                return Some(slot);
            }
            table = entry.address();
        }
        Some(Slot::at(table, index(address, 0)))
    }

    /// Visits every entry that is present in a range, with the address of its page.
    pub fn visit(&self, start: u64, end: u64, act: &mut dyn FnMut(u64, Slot)) {
        visit(self.root, 3, 0, start, end, act);
    }

    /// Gives tables back that lie wholly in a range, all of whose entries are gone.
    pub fn prune(&mut self, start: u64, end: u64) {
        // A processor may have looked at an entry since it was told that the pages are gone: it has to forget the tables
        // before they become something else.
        let mut removed: [Option<Page>; 64] = [const { None }; 64];
        let mut count = 0;
        // A table of the lowest level stands for 2 MiB; those above are few and stay.
        let mut at = start.next_multiple_of(LARGE);
        while at + LARGE <= end {
            let Some(slot) = Slot::large(self.root, at) else {
                at = (at / span(2) + 1) * span(2);
                continue;
            };
            let entry = slot.get();
            if entry.is_present() && !entry.is_large() {
                slot.set(Entry::NONE);
                // SAFETY: the table's only reference was that entry.
                removed[count] = Some(unsafe { Page::from_address(entry.address()) });
                count += 1;
                if count == removed.len() {
                    flush::all(self.root);
                    removed.fill_with(|| None);
                    count = 0;
                }
            }
            at += LARGE;
        }
        if count > 0 {
            flush::all(self.root);
        }
        drop(removed);
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        drop(self.detach());
        // SAFETY: the top table was made as a page of its own, and no CPU uses it.
        drop(unsafe { Page::from_address(self.root) });
    }
}

/// What was taken out of a top table; it goes when it is dropped, after all CPUs have forgotten it.
pub struct Detached([Entry; OWN]);

impl Drop for Detached {
    fn drop(&mut self) {
        for entry in self.0.iter().filter(|entry| entry.is_present()) {
            // SAFETY: nothing else leads to the table.
            unsafe { release(entry.address(), 2) };
        }
    }
}

/// Gives a table back that nothing leads to, with all it leads to.
///
/// # Safety
/// The table is of this level, and no CPU translates by it any more.
unsafe fn release(table: u64, level: u32) {
    let entries = (0..512).map(|number| Slot::at(table, number).get()).filter(|entry| entry.is_present());
    // SAFETY: the entries' references, which go with the table; and the table's own.
    unsafe {
        if level == 0 {
            frame::give_pages(entries.filter(|entry| !entry.bits().contains(Bits::LENT)).map(Entry::address));
        } else {
            for entry in entries {
                if entry.is_large() {
                    frame::give_block(entry.address())
                } else {
                    release(entry.address(), level - 1)
                }
            }
        }
        drop(Page::from_address(table));
    }
}

fn visit(table: u64, level: u32, base: u64, start: u64, end: u64, act: &mut dyn FnMut(u64, Slot)) {
    let first = if start > base { (start - base) / span(level) } else { 0 };
    for number in first..512 {
        let at = base + number * span(level);
        if at >= end {
            break;
        }
        let slot = Slot::at(table, number as usize);
        let entry = slot.get();
        if !entry.is_present() {
            continue;
        }
        if level == 0 || entry.is_large() {
            act(at, slot);
        } else {
            visit(entry.address(), level - 1, at, start, end, act);
        }
    }
}
