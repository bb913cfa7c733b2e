//! Keeping other CPUs out of the application code of an address space for a moment, while it is being changed.
//!
//! The holder raises `HOLD`, kicks every CPU on which its space is active and that does not idle, and waits until each
//! kick has arrived, or its CPU idles. From then on such a CPU is in the library OS and carries the kick's mark, so it
//! cannot enter an application before it has looked at `HOLD`. A CPU that idled when it would have been kicked looks
//! at it when it wakes, and leaves itself the mark: it may have slept in a page fault, which returns to an application
//! unless there is a mark. One CPU holds at a time (`entry::patch` has the lock). A CPU with another space runs on; one
//! that activates this one meanwhile looks at `HOLD` before it enters an application.

use core::sync::atomic::{AtomicBool, Ordering::*};

use super::block::Block;
use super::{controller, idle, sleep, start, stub::vector};

static HOLD: AtomicBool = AtomicBool::new(false);

/// Others are held as long as this lives.
pub struct Held(());

/// Waits while somebody holds; before every entry to an application.
#[inline]
pub fn pass() {
    while HOLD.load(SeqCst) {
        core::hint::spin_loop();
    }
}

/// A CPU has idled, which spared it a kick: it has the mark now. It does not wait here, where it may have what the
/// holder waits for.
pub fn wake(block: &Block) {
    if HOLD.load(SeqCst) {
        idle::mark(block);
    }
}

/// Keeps all CPUs but this one out of the application that runs on this one.
pub fn others(own: &Block) -> Held {
    HOLD.store(true, SeqCst);
    let root = own.active.root();
    let others = start::blocks().filter(|other| !core::ptr::eq(*other, own));
    for other in others.filter(|other| other.active.is(root)) {
        let seen = other.arrived.load(SeqCst);
        if idle::is_idle(other) {
            continue;
        }
        other.head.kicked.store(1, SeqCst);
        // It may have fallen asleep meanwhile: with the mark, which keeps every further kick from it.
        if idle::is_idle(other) && sleep::call(other) {
            continue;
        }
        // One that has not acknowledged its last interrupt is in the library OS already.
        if other.interrupted.load(SeqCst) != 0 {
            continue;
        }
        controller::interrupt(other, vector::KICK);
        while other.arrived.load(SeqCst) == seen {
            if idle::is_idle(other) {
                // By our VMM it sleeps without taking the interrupt.
                sleep::call(other);
                break;
            }
            core::hint::spin_loop();
        }
    }
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        HOLD.store(false, SeqCst);
    }
}
