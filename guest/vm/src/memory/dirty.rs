//! Objects that have pages that were written through mappings and are not stored yet. To be here keeps them.
//!
//! What is written is stored within about a second, as by Linux within half a minute: whoever looks from
//! outside shall see it soon, and a guest that is killed loses little.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use spin::Mutex;

use super::object::Object;
use crate::cpu::{self, clock, idle};

const SOON_NS: u64 = 1_000_000_000;

static OBJECTS: Mutex<Vec<Arc<Object>>> = Mutex::new(Vec::new());
/// When they are to be stored; zero: there are none.
static DUE_NS: AtomicU64 = AtomicU64::new(0);

/// Adds an object, whose first page has become dirty.
pub fn add(object: &Arc<Object>) {
    let mut objects = OBJECTS.lock();
    if objects.is_empty() {
        DUE_NS.store(clock::monotonic() + SOON_NS, Relaxed);
        // Whoever sleeps until something happens has to know of it.
        idle::pass_on(cpu::current());
    }
    if !objects.iter().any(|known| Arc::ptr_eq(known, object)) {
        objects.push(object.clone());
    }
}

/// Takes all, to be stored.
pub fn take() -> Vec<Arc<Object>> {
    let mut objects = OBJECTS.lock();
    DUE_NS.store(0, Relaxed);
    core::mem::take(&mut objects)
}

/// When there is something to do, if there is.
pub fn due_ns() -> Option<u64> {
    Some(DUE_NS.load(Relaxed)).filter(|time_ns| *time_ns != 0)
}
