//! The thread that ends slices.
//!
//! A slice has an age: 0 none, 1 begun, 2 a tick old. The ticker wakes every tick while any CPU has a
//! slice, ages them and kicks what is old, so a slice lasts one to two ticks and entering an application
//! costs a comparison. Without slices it sleeps. Earlier deadlines wake it at their own time.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use machine::Slice;

use crate::local::Local;
use crate::{host, idle, thread, vdso};

const TICK_NS: u64 = 4_000_000;
const BEGUN: u32 = 1;
const OLD: u32 = 2;

/// Changes whenever the ticker has to look again; it sleeps on it.
static NEWS: AtomicU32 = AtomicU32::new(0);
/// When the ticker wakes by itself.
static WAKES: AtomicU64 = AtomicU64::new(u64::MAX);

/// Notes the slice of a CPU that is about to run application code.
#[inline]
pub fn begin(local: &Local, slice: Slice) {
    let (age, deadline) = match slice {
        Slice::Unlimited => (0, 0),
        Slice::Tick => (BEGUN, 0),
        Slice::Until(time) => (BEGUN, time.max(1)),
    };
    let same = (local.slice.load(Relaxed) != 0) == (age != 0) && local.deadline.load(Relaxed) == deadline;
    if !same {
        change(local, age, deadline);
    }
}

#[cold]
fn change(local: &Local, age: u32, deadline: u64) {
    local.deadline.store(deadline, SeqCst);
    if age == 0 || local.slice.load(Relaxed) == 0 {
        local.slice.store(age, SeqCst);
    }
    let wakes = WAKES.load(SeqCst);
    if age != 0 && (wakes == u64::MAX || deadline != 0 && deadline < wakes) {
        NEWS.fetch_add(1, SeqCst);
        host::futex_wake(&NEWS, 1);
    }
}

/// An idle CPU has no slice.
pub fn end(local: &Local) {
    local.slice.store(0, Relaxed);
    local.deadline.store(0, Relaxed);
}

/// The ticker's life.
pub fn run() -> ! {
    let mut tick = 0;
    loop {
        let news = NEWS.load(SeqCst);
        // Whoever changes a slice from here on sees this and wakes us.
        WAKES.store(u64::MAX, SeqCst);
        let active = thread::locals().iter().any(|local| local.slice.load(SeqCst) != 0);
        if !active {
            host::futex_wait(&NEWS, news, None);
            tick = 0;
            continue;
        }
        let now = vdso::monotonic();
        if tick == 0 {
            tick = now + TICK_NS;
        }
        let ticked = now >= tick;
        if ticked {
            tick = now + TICK_NS;
        }
        let mut next = tick;
        for local in thread::locals() {
            let deadline = local.deadline.load(SeqCst);
            let due = deadline != 0 && deadline <= now;
            if due || ticked && local.slice.load(Relaxed) == OLD {
                // Whichever slice comes next is noted afresh.
                end(local);
                idle::kick(local);
            } else if ticked && local.slice.load(Relaxed) == BEGUN {
                let _ = local.slice.compare_exchange(BEGUN, OLD, Relaxed, Relaxed);
            }
            if !due && deadline != 0 {
                next = next.min(deadline);
            }
        }
        WAKES.store(next, SeqCst);
        host::futex_wait(&NEWS, news, Some(next.saturating_sub(now)));
    }
}
