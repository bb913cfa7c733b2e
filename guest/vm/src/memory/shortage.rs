//! Too little memory for what applications ask for.
//!
//! A part of memory is kept back for the library OS: when only that is left, applications get no more, and the library
//! OS is told whose space has most, to end it. Until then whoever needs a page asks again and again. What the
//! library OS copies to an application takes of the rest, because it cannot be interrupted.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::*};

use machine::{Event, PAGE};

use super::frame;
use super::layout::LARGE;
use super::mappings::is_alone;
use super::spaces::{self, Space};
use crate::cpu::{idle, start};
use crate::device;

/// The library OS has not been told yet.
static UNTOLD: AtomicBool = AtomicBool::new(false);

/// Whether applications get no more memory. What can be had again is given up first.
pub fn is_there() -> bool {
    const SHED: usize = 512;
    while frame::is_exhausted() {
        if !device::shed(SHED) {
            return true;
        }
    }
    false
}

/// Has the library OS told. Every CPU looks around: one of them collects events.
pub fn note() {
    if !UNTOLD.swap(true, SeqCst) {
        start::blocks().for_each(idle::kick);
    }
}

/// Tells of it, if that is due and there still is too little. Who has most is another one as soon as the one that had is
/// being given back, so nobody is named until it is.
pub fn tell(events: &mut Vec<Event>) {
    if UNTOLD.load(Relaxed) && UNTOLD.swap(false, SeqCst) {
        let (mut most, mut largest) = (0, None);
        spaces::each(|space| {
            let held = held(space);
            // Of several alike the youngest.
            if held >= most {
                (most, largest) = (held, Some(space.number()));
            }
        });
        if !spaces::are_emptied() && is_there() {
            events.extend(largest.map(Event::OutOfMemory));
        }
    }
}

/// Bytes that come back when a space ends.
fn held(space: &Space) -> u64 {
    let mappings = space.mappings.lock();
    let mut bytes = 0;
    for (start, area) in mappings.areas.iter().filter(|(_, area)| !area.is_shared()) {
        mappings.tables.visit(start, area.end, &mut |_, slot| {
            let entry = slot.get();
            if is_alone(entry) {
                bytes += if entry.is_large() { LARGE } else { PAGE };
            }
        });
    }
    bytes
}
