//! The library OS's own part of the address space, with each thing's own rights.
//!
//! Nothing is writable and executable at one address: code is executable alone, stubs are written through
//! the direct map. What lies below every stack is not mapped.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::address::{GATE_TABLE, GATE_TABLE_END, IMAGE_BASE, STUBS};
use entry::stub;
use machine::PAGE;
use spin::{Mutex, Once};

use super::frame::{self, Page, direct};
use super::layout::{CONTROLLER, DEVICES, DIRECT, IMAGE_LOAD, LARGE, SHARED_CONTROLLER, STACKS};
use super::table::{self, Bits, Entry, NoMemory, Slot, Tables};
use crate::cpu::ring;

unsafe extern "C" {
    static vm_data_start: u8;
    static vm_data_end: u8;
}

const READ: Bits = Bits::HELD.union(Bits::NO_EXECUTE);
const READ_WRITE: Bits = READ.union(Bits::WRITABLE).union(Bits::DIRTY);
const EXECUTE: Bits = Bits::HELD;
/// The gate table lies where applications are, so each space has entries of its own for it.
const GATES: Bits = READ.union(Bits::LENT);
const DEVICE: Bits = READ_WRITE.union(Bits::UNCACHED);

/// Where the interrupt controllers are on every PC.
const CONTROLLER_AT: u64 = 0xfee0_0000;
const SHARED_CONTROLLER_AT: u64 = 0xfec0_0000;

/// The tables of the first address space, which hold the library OS's part for all: here it is that part alone.
pub static OWN: Once<Mutex<Tables>> = Once::new();
static NEXT_DEVICE: AtomicU64 = AtomicU64::new(DEVICES);
static NEXT_STACK: AtomicU64 = AtomicU64::new(STACKS);

/// The physical address behind an address of the image's, or of the direct map.
pub fn physical(address: u64) -> u64 {
    if address >= DIRECT { address - DIRECT } else { address - IMAGE_BASE + IMAGE_LOAD }
}

/// Bounds of the image's data; everything before is constant.
pub fn data() -> (u64, u64) {
    (&raw const vm_data_start as u64, &raw const vm_data_end as u64)
}

/// What is directly mapped from the start; of memory above, [`show`] maps what is used.
const SHOWN: u64 = 4 << 30;

/// Maps everything, and makes these the tables in use. Memory may end at `end`.
pub fn build(end: u64) -> Result<(), NoMemory> {
    let mut tables = Tables::new()?;
    let mut map = |at: u64, to: u64, length: u64, bits: Bits| -> Result<(), NoMemory> {
        (0..length).step_by(PAGE as usize).try_for_each(|offset| {
            tables.make(at + offset, false)?.set(Entry::new(to + offset, bits));
            Ok(())
        })
    };
    let text = crate::cpu::stub::text();
    let (data, data_end) = data();
    for (start, end, bits) in
        [(text.start, text.end, EXECUTE), (text.end, data, READ), (data, data_end, READ_WRITE)]
    {
        map(start, physical(start), end - start, bits)?;
    }
    map(CONTROLLER, CONTROLLER_AT, PAGE, DEVICE)?;
    map(SHARED_CONTROLLER, SHARED_CONTROLLER_AT, PAGE, DEVICE)?;
    // Slots and stubs, which are written where the direct map has them.
    let table = GATE_TABLE_END - GATE_TABLE;
    let stubs = stub::END - STUBS;
    let gates = frame::take_part(table + stubs).ok_or(NoMemory)?;
    map(GATE_TABLE, gates, table, GATES)?;
    map(STUBS, gates + table, stubs, EXECUTE)?;
    for at in (0..end.next_multiple_of(LARGE).min(SHOWN)).step_by(LARGE as usize) {
        tables.make(DIRECT + at, true)?.set(Entry::new(at, READ_WRITE | Bits::LARGE));
    }
    // Whoever shows more has no memory to take for tables.
    for at in (SHOWN..end).step_by(Tables::SPAN as usize) {
        tables.make(DIRECT + at, true)?;
    }
    super::use_root(tables.root());
    // SAFETY: everything that is in use is mapped where it was; the old tables are never used again but by
    // CPUs that start.
    unsafe {
        ring::load_tables(tables.root());
        stub::claim(direct(gates) as u64, direct(gates + table) as u64);
    }
    table::seal();
    OWN.call_once(|| Mutex::new(tables));
    Ok(())
}

/// Tables for another space, with the library OS's part and the gate table.
pub fn another() -> Result<Tables, NoMemory> {
    let first = OWN.get().expect("invariant: built first").lock();
    let mut tables = first.beside()?;
    for at in (GATE_TABLE..GATE_TABLE_END).step_by(PAGE as usize) {
        let gate = first.find(at).expect("invariant: `build` maps the gate table").get();
        tables.make(at, false)?.set(gate);
    }
    Ok(tables)
}

/// Maps memory where the direct map has it, in large pages; below [`SHOWN`] it is from the start.
pub fn show(start: u64, end: u64) {
    for at in (start.max(SHOWN)..end).step_by(LARGE as usize) {
        let slot = Slot::large(super::root(), DIRECT + at).expect("invariant: `build` made the tables");
        slot.set(Entry::new(at, READ_WRITE | Bits::LARGE));
    }
}

/// A stack of its own pages above one that is not there; its end.
pub fn stack(length: u64) -> Result<u64, NoMemory> {
    let mut tables = OWN.get().expect("invariant: built first").lock();
    let start = NEXT_STACK.fetch_add(PAGE + length, Relaxed) + PAGE;
    for at in (start..start + length).step_by(PAGE as usize) {
        let page = Page::take().ok_or(NoMemory)?.into_address();
        tables.make(at, false)?.set(Entry::new(page, READ_WRITE));
    }
    Ok(start + length)
}

/// Maps registers of a device; the address of the first.
pub fn device(address: u64, length: u64) -> Result<u64, NoMemory> {
    let mut tables = OWN.get().expect("invariant: built first").lock();
    let first = address & !(PAGE - 1);
    let length = (address + length).next_multiple_of(PAGE) - first;
    let start = NEXT_DEVICE.fetch_add(length, Relaxed);
    for offset in (0..length).step_by(PAGE as usize) {
        tables.make(start + offset, false)?.set(Entry::new(first + offset, DEVICE));
    }
    Ok(start + (address - first))
}
