//! Copying what is mapped in a space (fork(2)): nothing is copied but tables.
//!
//! What is private becomes read-only in both and is copied when one of them writes (`fault.rs`); large pages are
//! shared as such. What is shared is as it is in both.

use machine::PAGE;

use abi::address::USER_END;

use super::area::Area;
use super::fault::WRITE;
use super::flush;
use super::frame::{self, Sharer};
use super::layout::LARGE;
use super::mappings::Mappings;
use super::table::{Entry, NoMemory, Slot, Tables};

impl Mappings {
    /// Makes an empty copy show what these show. If there is too little memory for it, it shows a part.
    pub fn copy_to(&mut self, copy: &mut Self) -> Result<(), NoMemory> {
        let mut copying =
            Copying { to: &mut copy.tables, table: None, sharer: Sharer::new(), tightened: false };
        copy.areas = self.areas.clone();
        let done = self.areas.iter().try_for_each(|(start, area)| copying.area(&self.tables, start, area));
        if copying.tightened {
            flush::range(self.tables.root(), 0, USER_END);
        }
        done
    }
}

struct Copying<'a> {
    to: &'a mut Tables,
    /// The table of the lowest level that entries go to, and what it begins with.
    table: Option<(u64, Slot)>,
    sharer: Sharer,
    /// Something that was writable is not any more.
    tightened: bool,
}

impl Copying<'_> {
    fn area(&mut self, from: &Tables, start: u64, area: &Area) -> Result<(), NoMemory> {
        let mut done = Ok(());
        from.visit(start, area.end, &mut |at, slot| {
            if done.is_ok() {
                done = self.entry(at, slot, area.is_shared());
            }
        });
        done
    }

    fn entry(&mut self, at: u64, slot: Slot, shared: bool) -> Result<(), NoMemory> {
        let entry = slot.get();
        let bits = if shared { entry.bits() } else { entry.bits() - WRITE };
        let kept = Entry::new(entry.address(), bits);
        let to = self.place(at, entry.is_large())?;
        // SAFETY: the entry, which stays, has a reference; so have all that were seen before.
        unsafe {
            if entry.is_large() {
                frame::share_block(entry.address());
            } else {
                self.sharer.share(entry.address());
            }
        }
        to.set(kept);
        if kept != entry {
            slot.set(kept);
            self.tightened = true;
        }
        Ok(())
    }

    /// Where the entry of a page goes.
    fn place(&mut self, at: u64, large: bool) -> Result<Slot, NoMemory> {
        if large {
            return self.to.make(at, true);
        }
        let slot = match self.table {
            Some((first, slot)) if first == at / LARGE => slot,
            _ => self.table.insert((at / LARGE, self.to.make(at, false)?)).1,
        };
        Ok(slot.beside((at % LARGE / PAGE) as usize))
    }
}
