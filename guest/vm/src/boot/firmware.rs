//! ACPI's tables, as far as they list processors, interrupt controllers, PCI and virtio (ACPI 6.5, 5.2).
//!
//! Tables are claims: lengths are checked, what lies beyond the first 4 GiB is not looked at, and a table
//! that makes no sense is as good as none. AML is not run: virtio's devices are told by their name and the
//! resources behind it, which all machines that describe them so (QEMU's microvm, Firecracker) write as constants.

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

/// What the table of interrupt controllers lists (5.2.12): each entry, its kind and where it begins.
fn controllers(information: &Information) -> impl Iterator<Item = (Table, u8, u64)> {
    tables(information, *b"APIC").flat_map(|table| {
        let mut next = 44;
        core::iter::from_fn(move || {
            let at = next;
            let (kind, length) = (table.value::<u8>(at)?, table.value::<u8>(at + 1)?);
            next += u64::from(length).max(2);
            Some((table, kind, at))
        })
    })
}

/// Numbers of the local interrupt controllers of processors that can be used.
pub fn processors(information: &Information) -> Vec<u32> {
    const USABLE: u32 = 1;
    let entries = controllers(information).filter_map(|(table, kind, at)| match kind {
        0 => table.value::<u8>(at + 3).map(u32::from).zip(table.value::<u32>(at + 4)),
        9 => table.value::<u32>(at + 4).zip(table.value::<u32>(at + 8)),
        _ => None,
    });
    entries.filter(|(_, flags)| flags & USABLE != 0).map(|(number, _)| number).collect()
}

/// Where the interrupt controllers are that devices' lines lead to, and the first line of each.
pub fn shared_controllers(information: &Information) -> Vec<(u64, u32)> {
    let entries = controllers(information).filter_map(|(table, kind, at)| match kind {
        1 => table.value::<u32>(at + 4).map(u64::from).zip(table.value::<u32>(at + 8)),
        _ => None,
    });
    entries.collect()
}

/// A device with memory-mapped registers: where they are, how many bytes, and its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryMapped {
    pub address: u64,
    pub length: u64,
    pub line: u32,
}

/// virtio's devices with memory-mapped registers (_HID LNRO0005), in the differentiated description (5.2.11.1).
pub fn memory_mapped(information: &Information) -> Vec<MemoryMapped> {
    const NAME: [u8; 8] = *b"LNRO0005";
    /// A device's resources follow its name closely.
    const REACH: u64 = 256;
    let descriptions = tables(information, *b"FACP").filter_map(|table| {
        let wide = table.value::<u64>(140).filter(|at| *at != 0);
        Table::new(wide.or_else(|| table.value::<u32>(40).map(u64::from))?)
    });
    let mut found = Vec::new();
    for table in descriptions {
        let mut names = (HEADER..table.length).filter(|at| table.value(*at) == Some(NAME)).peekable();
        while let Some(name) = names.next() {
            let end = names.peek().copied().unwrap_or(table.length).min(name + REACH);
            found.extend(resources(table, name + NAME.len() as u64, end));
        }
    }
    found
}

/// The first range of addresses and the first line among resources (6.4.3.4, 6.4.3.6).
fn resources(table: Table, start: u64, end: u64) -> Option<MemoryMapped> {
    const RANGE: [u8; 3] = [0x86, 9, 0];
    const LINES: [u8; 3] = [0x89, 6, 0];
    let find = |head: [u8; 3]| (start..end).find(|at| table.value(*at) == Some(head));
    let (range, lines) = (find(RANGE)?, find(LINES)?);
    Some(MemoryMapped {
        address: table.value::<u32>(range + 4)?.into(),
        length: table.value::<u32>(range + 8)?.into(),
        line: table.value(lines + 5)?,
    })
}

/// Where the configuration space of PCI's buses from the first on is mapped, and the number of the last
/// (PCI Firmware 3.2, 4.1.2).
pub fn configuration_space(information: &Information) -> Option<(u64, u8)> {
    tables(information, *b"MCFG").find_map(|table| {
        let (base, segment, first) =
            (table.value::<u64>(44)?, table.value::<u16>(52)?, table.value::<u8>(54)?);
        (segment == 0 && first == 0).then_some(base).zip(table.value::<u8>(55))
    })
}
