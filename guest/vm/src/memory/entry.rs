//! Entries of translation tables (SDM vol. 3, 5.5.4), and the places where they are.

use core::sync::atomic::{AtomicU64, Ordering::*};

use bitflags::bitflags;
use machine::PAGE;

use super::frame::direct;
use super::table::index;

bitflags! {
    /// What an entry says besides the address.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Bits: u64 {
        const PRESENT = 1;
        const WRITABLE = 1 << 1;
        const USER = 1 << 2;
        const UNCACHED = 1 << 3 | 1 << 4;
        const ACCESSED = 1 << 5;
        const DIRTY = 1 << 6;
        const LARGE = 1 << 7;
        /// Ours (ignored by the processor): the entry holds no reference to its page.
        const LENT = 1 << 9;
        const NO_EXECUTE = 1 << 63;
    }
}

impl Bits {
    /// A page that is there and used.
    pub const HELD: Self = Self::PRESENT.union(Self::USER).union(Self::ACCESSED);
}

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    pub const NONE: Self = Self(0);

    pub fn new(address: u64, bits: Bits) -> Self {
        Self(address & ADDRESS | bits.bits())
    }

    pub fn address(self) -> u64 {
        self.0 & ADDRESS
    }

    pub fn bits(self) -> Bits {
        Bits::from_bits_truncate(self.0)
    }

    pub fn is_present(self) -> bool {
        self.bits().contains(Bits::PRESENT)
    }

    pub fn is_large(self) -> bool {
        self.bits().contains(Bits::PRESENT | Bits::LARGE)
    }
}

/// A place for an entry.
#[derive(Clone, Copy)]
pub struct Slot(*const AtomicU64);

impl Slot {
    /// An entry of the table at this physical address.
    pub fn at(table: u64, index: usize) -> Self {
        Self(direct(table).cast::<AtomicU64>().wrapping_add(index))
    }

    /// The place of the large page around an address, if its table is there.
    pub fn large(root: u64, address: u64) -> Option<Self> {
        let mut table = root;
        for level in [3, 2] {
            let entry = Self::at(table, index(address, level)).get();
            if !entry.is_present() {
                return None;
            }
            table = entry.address();
        }
        Some(Self::at(table, index(address, 1)))
    }

    /// The place of an entry of the same table.
    pub fn beside(self, number: usize) -> Self {
        Self(self.0.map_addr(|at| at & !(PAGE as usize - 1)).wrapping_add(number))
    }

    pub fn get(self) -> Entry {
        // SAFETY: a slot is made from a table in use, which its space keeps.
        Entry(unsafe { (*self.0).load(Relaxed) })
    }

    pub fn set(self, entry: Entry) {
        // SAFETY: as in `get`.
        unsafe { (*self.0).store(entry.0, Release) }
    }

    /// Replaces the entry; the processor may have marked the old one meanwhile, which is kept.
    pub fn swap(self, entry: Entry) -> Entry {
        // SAFETY: as in `get`.
        Entry(unsafe { (*self.0).swap(entry.0, AcqRel) })
    }
}
