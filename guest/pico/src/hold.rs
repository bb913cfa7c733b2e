//! Keeping all other CPUs out of application code for a moment, while code is being changed.
//!
//! The holder raises `HOLD`, kicks every CPU that does not idle, and waits until each kick has arrived.
//! From then on such a CPU is in the library OS and carries the kick's mark, so it cannot enter an
//! application before it has looked at `HOLD`. An idle CPU looks at it when it wakes. One CPU holds at a
//! time (`patch.rs` has the lock).

use core::sync::atomic::{AtomicU32, Ordering::*};

use crate::local::Local;
use crate::{host, idle, thread};

static HOLD: AtomicU32 = AtomicU32::new(0);

/// Others are held as long as this lives.
pub struct Held(());

/// Waits while somebody holds; before every entry to an application.
#[inline]
pub fn pass() {
    if HOLD.load(SeqCst) != 0 {
        wait();
    }
}

#[cold]
fn wait() {
    while HOLD.load(SeqCst) != 0 {
        host::futex_wait(&HOLD, 1, None);
    }
}

/// A kick has reached its CPU.
pub fn arrived(local: &Local) {
    local.arrived.fetch_add(1, SeqCst);
    if HOLD.load(SeqCst) != 0 {
        host::futex_wake(&local.arrived, 1);
    }
}

/// Keeps all CPUs but this one out of applications.
pub fn others(own: &Local) -> Held {
    HOLD.store(1, SeqCst);
    for other in thread::locals().iter().filter(|other| !core::ptr::eq(*other, own)) {
        let seen = other.arrived.load(SeqCst);
        if other.started.load(SeqCst) == 0 || idle::is_idle(other) {
            continue;
        }
        other.head.kicked.store(1, SeqCst);
        idle::signal(other);
        while other.arrived.load(SeqCst) == seen {
            host::futex_wait(&other.arrived, seen, None);
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
