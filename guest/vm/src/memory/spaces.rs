//! Address spaces, of which each CPU has one active.
//!
//! Locks, in this order: a space's mappings; those of its copy, while it is made; then one of these at a time: the
//! table of spaces, an object's state, the list of dirty objects, frames. Nobody has a lock of these while user memory
//! is accessed by its address, because faults take the mappings'. Whoever holds a space's mappings may wait for other
//! CPUs to forget translations, which ring 0 does whatever they do.
//!
//! What acts on an object wherever it is shown visits all spaces in the order of their numbers ([`each`]). A copy has a
//! greater number than its original, and is in the table with its mappings locked before anything is copied. So it is
//! either visited when it is whole, or made of an original that has been visited.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering::*};

use abi::Code;
use machine::Space as Number;
use spin::{Mutex, Once};

use super::flush;
use super::map;
use super::mappings::Mappings;
use super::shortage;
use super::table::Tables;
use crate::code::{EAGAIN, ENOMEM};
use crate::cpu;
use crate::cpu::block::Block;

/// A space. Its tables are given back with the last reference, its pages when it is dropped.
pub struct Space {
    /// What the library OS calls it; [`DROPPED`] when it does not any more.
    number: AtomicU32,
    root: u64,
    pub mappings: Mutex<Mappings>,
    pub code: entry::Code,
}

/// The number of none.
const DROPPED: u32 = u32::MAX;

static FIRST: Once<Arc<Space>> = Once::new();
static SPACES: Mutex<BTreeMap<u32, Arc<Space>>> = Mutex::new(BTreeMap::new());
/// Spaces that are just being given back.
static EMPTIED: AtomicU32 = AtomicU32::new(0);
/// Numbers are not used again.
static NEXT: AtomicU32 = AtomicU32::new(Number::FIRST.0);

impl Space {
    fn new(tables: Tables, code: entry::Code) -> Result<Arc<Self>, Code> {
        let next = NEXT.fetch_update(Relaxed, Relaxed, |next| (next < DROPPED).then_some(next + 1));
        let (number, root) = (AtomicU32::new(next.map_err(|_| EAGAIN)?), tables.root());
        Ok(Arc::new(Self { number, root, mappings: Mutex::new(Mappings::new(tables)), code }))
    }

    pub fn root(&self) -> u64 {
        self.root
    }

    pub fn number(&self) -> Number {
        Number(self.number.load(Relaxed))
    }

    /// Takes everything away that is mapped.
    fn empty(&self) {
        let (areas, detached) = {
            let mut mappings = self.mappings.lock();
            (mappings.areas.take(), mappings.tables.detach())
        };
        flush::all(self.root);
        drop((areas, detached));
    }
}

/// The space that is there from the start.
fn first() -> Arc<Space> {
    let make = || {
        let space = Space::new(Tables::named(super::root()), entry::Code::new());
        let space = space.expect("invariant: it has the first number");
        SPACES.lock().insert(Number::FIRST.0, space.clone());
        space
    };
    FIRST.call_once(make).clone()
}

/// A CPU begins: it has the first space.
pub fn begin(block: &Block) {
    block.active.switch(first());
}

/// Does something with the space that this CPU has active; it stays that.
pub fn with_active<T>(act: impl FnOnce(&Space) -> T) -> T {
    // SAFETY: the CPU activates none meanwhile.
    act(unsafe { cpu::current().active.space() })
}

/// Holds the library OS to naming the space that is active.
#[inline]
pub fn check(number: Number) {
    assert!(with_active(Space::number) == number, "rule: memory is that of the active space");
}

/// Makes a space this CPU's active one.
pub fn activate(number: Number) {
    if with_active(Space::number) != number {
        let space = SPACES.lock().get(&number.0).cloned();
        cpu::current().active.switch(space.expect("rule: the space is there"));
    }
}

/// Has this CPU leave a space that was dropped meanwhile.
pub fn leave_dropped() {
    if with_active(Space::number).0 == DROPPED {
        cpu::current().active.switch(first());
    }
}

/// Whether there is memory for another space.
fn room() -> Result<(), Code> {
    if shortage::is_there() { Err(ENOMEM) } else { Ok(()) }
}

/// Makes an empty space.
pub fn make() -> Result<Number, Code> {
    room()?;
    let space = Space::new(map::another()?, entry::Code::new())?;
    let number = space.number();
    SPACES.lock().insert(number.0, space);
    Ok(number)
}

/// Copies this CPU's active space.
pub fn copy() -> Result<Number, Code> {
    room()?;
    let tables = map::another()?;
    with_active(|original| {
        let mut mappings = original.mappings.lock();
        // Under the lock: what is patched later is not copied.
        let copy = Space::new(tables, original.code.copied())?;
        let number = copy.number();
        let copied = {
            let mut target = copy.mappings.lock();
            SPACES.lock().insert(number.0, copy.clone());
            mappings.copy_to(&mut target)
        };
        drop(mappings);
        if copied.is_err() {
            drop_space(number);
            return Err(ENOMEM);
        }
        Ok(number)
    })
}

/// Ends a space.
pub fn drop_space(number: Number) {
    assert!(number != Number::FIRST, "rule: the first space stays");
    EMPTIED.fetch_add(1, SeqCst);
    let space = SPACES.lock().remove(&number.0).expect("rule: the space is there");
    space.number.store(DROPPED, SeqCst);
    leave_dropped();
    space.empty();
    EMPTIED.fetch_sub(1, SeqCst);
}

/// Whether memory comes back any moment.
pub fn are_emptied() -> bool {
    EMPTIED.load(SeqCst) != 0
}

/// Visits all spaces.
pub fn each(mut act: impl FnMut(&Space)) {
    let next = |from| SPACES.lock().range(from..).next().map(|(number, space)| (*number, space.clone()));
    let mut from = 0;
    while let Some((number, space)) = next(from) {
        act(&space);
        from = number + 1;
    }
}
