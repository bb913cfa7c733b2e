//! The gate table's slots and the stubs behind them, and which patched bytes stand for which stub.
//!
//! Both are written through a second mapping and are read-only where they are used. A stub says only what
//! stood at an address, so address spaces with the same code there share it; a slot that no space needs any
//! more is used again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

use abi::address::{GATE_TABLE, GATE_TABLE_END, STUBS, USER_END};
use machine::UserRange;
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

/// Which slots are in use.
struct Slots {
    /// Slots given back, and the first one never used.
    free: Vec<u64>,
    next: u64,
    /// How many spaces use each.
    users: BTreeMap<u64, u32>,
    /// Those in use, by where their patches begin.
    places: BTreeMap<u64, Vec<u64>>,
}

static POOL: Mutex<Slots> =
    Mutex::new(Slots { free: Vec::new(), next: 0, users: BTreeMap::new(), places: BTreeMap::new() });

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

/// A stub's content, and where in it the slot leads.
fn read(slot: u64) -> (gate::Stub, u64) {
    let [table, stubs] = &WRITABLE;
    // SAFETY: a slot below SLOTS of the memory that `claim` was promised; it was written by `write`, and is
    // not again while somebody uses it.
    unsafe {
        let stub = ((stubs.load(Relaxed) + slot * STUB) as *const gate::Stub).read();
        (stub, ((table.load(Relaxed) + slot * 8) as *const u64).read_volatile())
    }
}

/// Sets a slot up.
fn write(slot: u64, stub: gate::Stub, entry: u64) {
    let [table, stubs] = &WRITABLE;
    // SAFETY: the slot was just taken, below SLOTS, and `claim` was promised the memory; no application
    // jumps through it before its site is written.
    unsafe {
        ((stubs.load(Relaxed) + slot * STUB) as *mut gate::Stub).write(stub);
        ((table.load(Relaxed) + slot * 8) as *mut u64).write_volatile(entry);
    }
}

impl Slots {
    /// A slot for a plan, one more user's; none if the table is full.
    fn take(&mut self, plan: &gate::Plan) -> Option<u64> {
        let stub = plan.stub(way::address());
        let offset = if plan.loads_number { 0 } else { gate::after_number() as u64 };
        let here = self.places.entry(plan.at).or_default();
        let same = here.iter().copied().find(|&slot| read(slot) == (stub, STUBS + slot * STUB + offset));
        if let Some(slot) = same {
            self.share(slot);
            return Some(slot);
        }
        let next = &mut self.next;
        let new = || (*next < SLOTS).then(|| core::mem::replace(next, *next + 1));
        let slot = self.free.pop().or_else(new)?;
        write(slot, stub, STUBS + slot * STUB + offset);
        here.push(slot);
        self.users.insert(slot, 1);
        Some(slot)
    }

    fn share(&mut self, slot: u64) {
        *self.users.entry(slot).or_default() += 1;
    }

    fn give(&mut self, at: u64, slot: u64) {
        let Some(users) = self.users.get_mut(&slot) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        self.users.remove(&slot);
        if let Some(here) = self.places.get_mut(&at) {
            here.retain(|&other| other != slot);
            if here.is_empty() {
                self.places.remove(&at);
            }
        }
        self.free.push(slot);
    }
}

/// The patches of one space, by where they begin.
pub(crate) struct Patches {
    patches: Mutex<BTreeMap<u64, Patch>>,
    /// How many there are, to look before locking.
    count: AtomicUsize,
}

impl Patches {
    pub const fn new() -> Self {
        Self { patches: Mutex::new(BTreeMap::new()), count: AtomicUsize::new(0) }
    }

    /// The same patches in a copy of the space.
    pub fn copied(&self) -> Self {
        let patches = self.patches.lock().clone();
        let mut pool = POOL.lock();
        patches.values().for_each(|patch| pool.share(patch.slot));
        Self { count: AtomicUsize::new(patches.len()), patches: Mutex::new(patches) }
    }

    /// Sets a stub up for a plan; the address of its slot, or none if the table is full.
    pub fn make(&self, plan: &gate::Plan) -> Option<u32> {
        let slot = POOL.lock().take(plan)?;
        let mut patches = self.patches.lock();
        patches.insert(plan.at, Patch { end: plan.end(), logical: plan.logical, slot });
        self.count.store(patches.len(), Relaxed);
        Some((GATE_TABLE + slot * 8) as u32)
    }

    /// Forgets the patches in a range whose content is going away.
    pub fn forget(&self, range: UserRange) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let mut patches = self.patches.lock();
        let gone: Vec<u64> = patches.range(range.address..range.end()).map(|(&at, _)| at).collect();
        for at in gone {
            if let Some(patch) = patches.remove(&at) {
                POOL.lock().give(at, patch.slot);
            }
        }
        self.count.store(patches.len(), Relaxed);
    }

    /// Where to go on for an address whose bytes have been overwritten; zero if they have not.
    #[cold]
    pub fn continuation(&self, rip: u64) -> u64 {
        if self.count.load(Relaxed) == 0 {
            return 0;
        }
        let patches = self.patches.lock();
        match patches.range(..rip).next_back() {
            Some((_, patch)) if (patch.logical..patch.end).contains(&rip) => {
                STUBS + patch.slot * STUB + gate::CONTINUATION as u64 + (rip - patch.logical)
            }
            _ => 0,
        }
    }
}

impl Drop for Patches {
    fn drop(&mut self) {
        self.forget(UserRange::new(0, USER_END));
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
