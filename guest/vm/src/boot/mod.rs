//! From ring 3's first instruction to the library OS.
//!
//! Order, and why: traps first, so that a fault says something; then memory, with the tables of the start;
//! then the library OS's own map, which needs a heap for nothing but comes before everything that has
//! one; then, on a stack with a guard page, clocks, devices and the library OS.

pub mod entry;
pub mod firmware;
mod information;
pub mod serial;

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use abi::message::decode;
use abi::vm::{SERVICE_HEADER, Start};
use firmware::MemoryMapped;
use information::{Information, Range};
use machine::PAGE;
use spin::Once;

use crate::cpu::block::{FIRST, UPCALLS};
use crate::cpu::{self, clock, stub};
use crate::memory::{frame, map};

unsafe extern "C" {
    static vm_service: u8;
}

/// The stack of the start.
#[repr(C, align(16))]
pub struct Stack(UnsafeCell<[u8; STACK_LENGTH]>);

pub const STACK_LENGTH: usize = 64 << 10;

// SAFETY: it is only ever a stack.
unsafe impl Sync for Stack {}

pub static STACK: Stack = Stack(UnsafeCell::new([0; STACK_LENGTH]));

/// How many processors our VMM says there are; zero: it is none of ours.
static TOLD: AtomicU32 = AtomicU32::new(0);

static INFORMATION: Once<Information> = Once::new();

/// What lies below is left to firmware, and to CPUs that start.
const CONVENTIONAL_END: u64 = 1 << 20;
/// What the tables of the start map.
const MAPPED: u64 = 4 << 30;

/// Ends the guest during start-up.
pub fn fatal(text: &str) -> ! {
    serial::write(b"eyot: ");
    serial::write(text.as_bytes());
    serial::write(b"\r\n");
    crate::cpu::ring::reset()
}

/// The command line.
pub fn command_line() -> &'static [u8] {
    INFORMATION.get().map_or(&[], |information| bytes(information.command_line))
}

/// What was loaded besides the kernel.
pub fn modules() -> impl Iterator<Item = &'static [u8]> {
    INFORMATION.get().into_iter().flat_map(|information| information.modules.iter()).map(bytes)
}

/// The service that was joined with the kernel: what to start, and its files.
pub fn service() -> Option<(&'static [u8], &'static [u8])> {
    let range = service_range();
    let bytes = bytes(range);
    let (head, rest) = bytes.split_first_chunk::<SERVICE_HEADER>()?;
    let length = u64::from_le_bytes(*head) as usize;
    let files = (SERVICE_HEADER + length).next_multiple_of(PAGE as usize) - SERVICE_HEADER;
    Some((rest.get(..length)?, rest.get(files..)?))
}

/// Where it is loaded; empty if there is none.
fn service_range() -> Range {
    // SAFETY: two words behind a mark of eight bytes, which nobody writes; they lie below 4 GiB.
    unsafe {
        let words = frame::direct(&raw const vm_service as u64).cast::<u64>();
        let (start, length) = (words.add(1).read_volatile(), words.add(2).read_volatile());
        Range { start, end: start + length }
    }
}

/// Where the configuration space of PCI's buses is mapped, physically, and the last bus.
pub fn configuration_space() -> Option<(u64, u8)> {
    firmware::configuration_space(INFORMATION.get()?)
}

/// virtio's devices that firmware describes.
pub fn described_devices() -> Vec<MemoryMapped> {
    INFORMATION.get().map(firmware::memory_mapped).unwrap_or_default()
}

/// Interrupt controllers for lines of devices that firmware describes, by address and first line.
pub fn shared_controllers() -> Vec<(u64, u32)> {
    INFORMATION.get().map(firmware::shared_controllers).unwrap_or_default()
}

/// Memory that was in use when we came, and stays so.
fn bytes(range: Range) -> &'static [u8] {
    // SAFETY: such ranges are kept from the frames (`take_memory`), and directly mapped.
    unsafe { core::slice::from_raw_parts(frame::direct(range.start), (range.end - range.start) as usize) }
}

/// Numbers of the processors' interrupt controllers, that of the first one first. Our own VMM counts them
/// from zero; elsewhere firmware lists them.
pub fn processors() -> &'static [u32] {
    static FOUND: Once<Vec<u32>> = Once::new();
    FOUND.call_once(|| {
        let mut found = match TOLD.load(Relaxed) {
            0 => INFORMATION.get().map(firmware::processors).unwrap_or_default(),
            told => (0..told).collect(),
        };
        let first = FIRST.controller.load(Relaxed);
        found.retain(|number| *number != first);
        found.insert(0, first);
        found
    })
}

/// The first function: on the stack of the start, with its tables.
pub extern "C" fn main(way: u64, address: u64) -> ! {
    stub::install();
    stub::connect(&FIRST, [stack_end() - (32 << 10); UPCALLS]);
    let Some(information) = information::gather(way, address) else {
        fatal("what the boot loader passed is neither PVH's, Linux's nor multiboot2's");
    };
    let information = INFORMATION.call_once(|| information);
    if take_memory(information).is_none() {
        fatal("there is too little memory for this image; give the machine more");
    }
    cpu::start::first(settled)
}

fn stack_end() -> u64 {
    &raw const STACK as u64 + STACK_LENGTH as u64
}

/// Finds out what memory there is, and maps it.
fn take_memory(information: &Information) -> Option<()> {
    let end = information.memory.iter().map(|range| range.end).max()?;
    let (_, image_end) = map::data();
    let image = Range { start: CONVENTIONAL_END, end: map::physical(image_end).next_multiple_of(PAGE) };
    let conventional = Range { start: 0, end: CONVENTIONAL_END };
    let used = || information.in_use().chain([image, conventional, service_range()]);
    let bookkeeping = frame::bookkeeping(end);
    let mut kept = Range::default();
    for_free(information, used, |range| {
        if kept.end == 0 && range.end.min(MAPPED).saturating_sub(range.start) >= bookkeeping {
            kept = Range { start: range.start, end: range.start + bookkeeping };
        }
    });
    if kept.end == 0 {
        return None;
    }
    let used = || used().chain([kept]);
    // SAFETY: the ranges are memory that nobody uses; what is above what is mapped is added when it can be.
    unsafe {
        frame::begin(kept.start);
        for_free(information, used, |range| frame::add(range.start, range.end.min(MAPPED)));
        map::build(end).ok()?;
        for_free(information, used, |range| frame::add(range.start.max(MAPPED), range.end));
    }
    Some(())
}

/// Visits the parts of memory that are not in use, in whole pages.
fn for_free<U: Iterator<Item = Range>>(
    information: &Information,
    used: impl Fn() -> U,
    mut act: impl FnMut(Range),
) {
    for range in information.memory.iter() {
        let mut start = range.start.next_multiple_of(PAGE);
        let end = range.end & !(PAGE - 1);
        while start < end {
            // What is in use at or behind here, the nearest first.
            let next =
                used().filter(|used| used.end > start && used.start < used.end).min_by_key(|used| used.start);
            let stop = next.map_or(end, |used| (used.start & !(PAGE - 1)).min(end));
            if start < stop {
                act(Range { start, end: stop });
            }
            match next {
                Some(used) if used.start < end => start = start.max(used.end.next_multiple_of(PAGE)),
                _ => break,
            }
        }
    }
}

/// On the first CPU's own stack.
extern "C" fn settled() -> ! {
    let told = service().map(|(start, _)| start).or_else(|| modules().next());
    let start = told.map(|told| match decode::<Start>(told) {
        Ok(start) => start,
        Err(_) => fatal("the start information is malformed"),
    });
    let told = start.as_ref();
    if service().is_none() {
        TOLD.store(told.map_or(0, |start| start.boot.cpus.into()), Relaxed);
    }
    // The clock may be measured by the controller's timer, which is set up afterwards.
    clock::begin(
        told.and_then(|start| start.kilohertz),
        told.map(|start| start.realtime_ns).filter(|time_ns| *time_ns != 0),
    );
    cpu::start::settle(cpu::current());
    crate::run(start)
}
