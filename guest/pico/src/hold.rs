//! Keeping all other CPUs out of application code for a moment, while code is being changed.
//!
//! The holder raises `HOLD` for its space, kicks every CPU that has the same space active and does not idle, and
//! waits until each kick has arrived. From then on such a CPU is in the library OS and carries the kick's mark,
//! which stays through system calls, so it cannot enter an application before it has looked at `HOLD`. An idle CPU
//! looks at it when it wakes, and one that comes to the space does after it has said so: either it sees `HOLD`, or
//! the holder sees that it comes. One that leaves meanwhile may take the kick along to where it never arrives, so
//! what is waited for is that or its leaving, and the kick is sent again. One CPU holds at a time (`patch.rs` has
//! the lock).

use core::sync::atomic::{AtomicU32, Ordering::*};

use crate::local::Local;
use crate::{host, idle, thread};

/// The number of the space whose applications are held, plus one.
static HOLD: AtomicU32 = AtomicU32::new(0);
/// How long a kick is waited for before it is sent again.
const PATIENCE_NS: u64 = 1_000_000;

/// Others are held as long as this lives.
pub struct Held(());

/// Waits while somebody holds; before every entry to an application.
#[inline]
pub fn pass(local: &Local) {
    if HOLD.load(SeqCst) != 0 {
        wait(mark(local));
    }
}

fn mark(local: &Local) -> u32 {
    local.active().0.wrapping_add(1)
}

#[cold]
fn wait(own: u32) {
    while HOLD.load(SeqCst) == own {
        host::futex_wait(&HOLD, own, None);
    }
}

/// A kick has reached its CPU. The holder lets it count whatever it was sent for: an earlier one, whose mark has been
/// taken note of, would return to the application.
pub fn arrived(local: &Local) {
    local.arrived.fetch_add(1, SeqCst);
    if HOLD.load(SeqCst) != 0 {
        local.head.kicked.store(1, SeqCst);
        host::futex_wake(&local.arrived, 1);
    }
}

/// Keeps all CPUs but this one out of applications of its space.
pub fn others(own: &Local) -> Held {
    let space = own.active();
    HOLD.store(mark(own), SeqCst);
    for other in thread::locals().iter().filter(|other| !core::ptr::eq(*other, own)) {
        let seen = other.arrived.load(SeqCst);
        if other.started.load(SeqCst) == 0 || idle::is_idle(other) {
            continue;
        }
        while other.active() == space && other.arrived.load(SeqCst) == seen {
            other.head.kicked.store(1, SeqCst);
            idle::signal(other);
            host::futex_wait(&other.arrived, seen, Some(PATIENCE_NS));
        }
    }
    Held(())
}

impl Drop for Held {
    fn drop(&mut self) {
        HOLD.store(0, SeqCst);
        host::futex_wake(&HOLD, u32::MAX >> 1);
    }
}
