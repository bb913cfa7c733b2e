//! The gate table's slots and the stubs behind them, and which patched bytes stand for which stub.
//!
//! Both are written through a second mapping and are read-only where they are used. Slots of code that was
//! unmapped are used again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use abi::address::{GATE_TABLE, GATE_TABLE_END, STUBS, USER_END};
use machine::{Context, UserRange};
use spin::Mutex;

use crate::{user_memory, way};

/// Bytes of a stub.
pub const STUB: u64 = gate::LENGTH as u64;
pub const SLOTS: u64 = (GATE_TABLE_END - GATE_TABLE) / 8;
pub const END: u64 = STUBS + SLOTS * STUB;

/// Overwritten bytes of an application and the slot they jump through.
#[derive(Clone, Copy)]
struct Patch {
    end: u64,
    logical: u64,
    slot: u64,
}

/// Patches by where they begin.
static PATCHES: Mutex<BTreeMap<u64, Patch>> = Mutex::new(BTreeMap::new());
/// How many there are, to look before locking.
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Slots given back, and the first one never used.
static FREE: Mutex<(Vec<u64>, u64)> = Mutex::new((Vec::new(), 0));

/// Where table and stubs can be written.
static WRITABLE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Tells where the gate table and the stubs can be written.
///
/// # Safety
/// Both addresses are mapped read-write for ever and nobody else's, and the same memory appears read-only
/// at [`GATE_TABLE`] and read-execute at [`STUBS`], of which there are [`SLOTS`].
pub unsafe fn claim(table: u64, stubs: u64) {
    WRITABLE[0].store(table, Relaxed);
    WRITABLE[1].store(stubs, Relaxed);
}

/// Sets a stub up for a plan; the address of its slot, or none if the table is full.
pub fn make(plan: &gate::Plan) -> Option<u32> {
    let slot = {
        let (free, next) = &mut *FREE.lock();
        free.pop().or_else(|| (*next < SLOTS).then(|| core::mem::replace(next, *next + 1)))?
    };
    let stub = plan.stub(way::address());
    let [table, stubs] = &WRITABLE;
    let entry = STUBS + slot * STUB + if plan.loads_number { 0 } else { gate::after_number() as u64 };
    // SAFETY: the slot is ours alone, below SLOTS, and `claim` was promised the memory; no application
    // jumps through it before its site is written.
    unsafe {
        ((stubs.load(Relaxed) + slot * STUB) as *mut gate::Stub).write(stub);
        ((table.load(Relaxed) + slot * 8) as *mut u64).write_volatile(entry);
    }
    let mut patches = PATCHES.lock();
    patches.insert(plan.at, Patch { end: plan.end(), logical: plan.logical, slot });
    COUNT.store(patches.len(), Relaxed);
    Some((GATE_TABLE + slot * 8) as u32)
}

/// Forgets the patches in a range whose content is going away.
pub fn forget(range: UserRange) {
    if COUNT.load(Relaxed) == 0 {
        return;
    }
    let mut patches = PATCHES.lock();
    let gone: Vec<u64> = patches.range(range.address..range.end()).map(|(&at, _)| at).collect();
    for at in gone {
        if let Some(patch) = patches.remove(&at) {
            FREE.lock().0.push(patch.slot);
        }
    }
    COUNT.store(patches.len(), Relaxed);
}

/// Before an entry: lets a context whose address has been overwritten go on in the stub.
#[inline]
pub fn resume(context: &mut Context) {
    if context.resume == 0 {
        context.resume = continuation(context.registers.rip);
    }
}

/// Where to go on for an address whose bytes have been overwritten; zero if they have not.
#[cold]
fn continuation(rip: u64) -> u64 {
    if COUNT.load(Relaxed) == 0 {
        return 0;
    }
    let patches = PATCHES.lock();
    match patches.range(..rip).next_back() {
        Some((_, patch)) if (patch.logical..patch.end).contains(&rip) => {
            STUBS + patch.slot * STUB + gate::CONTINUATION as u64 + (rip - patch.logical)
        }
        _ => 0,
    }
}

/// The logical address of an instruction in a stub behind its call; none on the way to the gate.
pub fn logical(rip: u64) -> Option<u64> {
    let offset = (rip - STUBS) % STUB;
    // SAFETY: inside the stubs, which are always mapped and plain bytes.
    let stub = unsafe { ((rip - offset) as *const gate::Stub).read() };
    gate::logical(&stub, offset as usize)
}

/// Whether this is the address of a system call that a patch has overwritten.
pub fn is_patched_call(rip: u64) -> bool {
    let mut bytes = [0; gate::PATCH];
    let at = rip.wrapping_sub(5);
    if user_memory::copy_in(USER_END, at, &mut bytes).is_err() {
        return false;
    }
    let slot = u32::from_le_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]) as u64;
    bytes[..3] == [0xff, 0x24, 0x25] && (GATE_TABLE..GATE_TABLE_END).contains(&slot)
}
