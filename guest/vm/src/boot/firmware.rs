//! ACPI's tables, as far as they list processors and PCI: no AML (ACPI 6.5, 5.2).
//!
//! Tables are claims: lengths are checked, what lies beyond the first 4 GiB is not looked at, and a table
//! that makes no sense is as good as none.

use alloc::vec::Vec;

use super::information::Information;
use crate::memory::frame::direct;

const MAPPED: u64 = 4 << 30;
/// The most of a table that is read, and of tables.
const LENGTH_MOST: u64 = 1 << 20;
const TABLES_MOST: usize = 256;
const HEADER: u64 = 36;

/// Where firmware of old puts its pointer.
const BIOS: core::ops::Range<u64> = 0xe_0000..0x10_0000;
const SIGNATURE: [u8; 8] = *b"RSD PTR ";

fn read<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: all memory below 4 GiB is directly mapped, and so is what is no memory; bytes are bytes.
    (address < MAPPED - 64).then(|| unsafe { direct(address).cast::<T>().read_unaligned() })
}

/// A table: where it is, and how long.
#[derive(Clone, Copy)]
pub struct Table {
    at: u64,
    length: u64,
}

impl Table {
    fn new(at: u64) -> Option<Self> {
        let length = u64::from(read::<u32>(at + 4)?);
        (HEADER..LENGTH_MOST).contains(&length).then_some(Self { at, length })
    }

    /// A value at an offset, if the table is as long.
    fn value<T: Copy>(self, offset: u64) -> Option<T> {
        (offset + size_of::<T>() as u64 <= self.length).then(|| read(self.at + offset))?
    }
}

/// All tables with this name.
pub fn tables(information: &Information, name: [u8; 4]) -> impl Iterator<Item = Table> {
    let root = root(information);
    let (list, size) = root.unwrap_or((0, 8));
    let list = (list != 0).then(|| Table::new(list)).flatten();
    let count = list.map_or(0, |list| ((list.length - HEADER) / size) as usize).min(TABLES_MOST);
    let entry = move |number: usize| {
        let offset = HEADER + number as u64 * size;
        let at = if size == 8 { list?.value(offset)? } else { u64::from(list?.value::<u32>(offset)?) };
        (read::<[u8; 4]>(at)? == name).then(|| Table::new(at)).flatten()
    };
    (0..count).filter_map(entry)
}

/// The list of tables, and the bytes of its entries.
fn root(information: &Information) -> Option<(u64, u64)> {
    let is_pointer = |at: &u64| read::<[u8; 8]>(*at) == Some(SIGNATURE);
    let told = Some(information.firmware).filter(|at| *at != 0);
    let at = told.filter(is_pointer).or_else(|| BIOS.step_by(16).find(is_pointer))?;
    let revision = read::<u8>(at + 15)?;
    let wide = read::<u64>(at + 24)?;
    if revision >= 2 && wide != 0 { Some((wide, 8)) } else { Some((u64::from(read::<u32>(at + 16)?), 4)) }
}

/// Numbers of the local interrupt controllers of processors that can be used (5.2.12).
pub fn processors(information: &Information) -> Vec<u32> {
    const USABLE: u32 = 1;
    let mut found = Vec::new();
    for table in tables(information, *b"APIC") {
        let mut at = 44;
        while let (Some(kind), Some(length)) = (table.value::<u8>(at), table.value::<u8>(at + 1)) {
            let entry = match kind {
                0 => table.value::<u8>(at + 3).map(u32::from).zip(table.value::<u32>(at + 4)),
                9 => table.value::<u32>(at + 4).zip(table.value::<u32>(at + 8)),
                _ => None,
            };
            if let Some((number, flags)) = entry
                && flags & USABLE != 0
            {
                found.push(number);
            }
            at += u64::from(length).max(2);
        }
    }
    found
}

/// Where the configuration space of PCI's first bus is mapped (PCI Firmware 3.2, 4.1.2).
pub fn configuration_space(information: &Information) -> Option<u64> {
    tables(information, *b"MCFG").find_map(|table| {
        let (base, segment, first) =
            (table.value::<u64>(44)?, table.value::<u16>(52)?, table.value::<u8>(54)?);
        (segment == 0 && first == 0).then_some(base)
    })
}
