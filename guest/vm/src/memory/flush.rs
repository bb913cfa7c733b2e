//! Making CPUs forget translations that hold no more.
//!
//! Other CPUs are told by an interrupt that their ring 0 serves alone, so that it does not matter what
//! they do; one that idles forgets everything when it wakes instead. Whoever flushes waits until all
//! have.

use core::sync::atomic::{AtomicBool, Ordering::*};

use machine::PAGE;

use crate::cpu::{self, block::CPUS_MAX, controller, idle, ring, start, stub::vector};

/// Pages that are forgotten one by one; for more, everything is.
const FEW: u64 = 4;

/// CPUs that have to forget everything when they wake.
static STALE: [AtomicBool; CPUS_MAX] = [const { AtomicBool::new(false) }; CPUS_MAX];

/// Makes all CPUs forget the pages of a range.
pub fn range(start: u64, end: u64) {
    if (end - start) / PAGE <= FEW {
        (start..end).step_by(PAGE as usize).for_each(ring::forget_page);
    } else {
        everything();
    }
    let own = cpu::current();
    let others = start::blocks().filter(|block| !core::ptr::eq(*block, own));
    for block in others {
        STALE[block.number.load(Relaxed) as usize].store(true, SeqCst);
        if idle::is_idle(block) {
            continue;
        }
        let seen = block.flushes.load(SeqCst);
        controller::interrupt(block, vector::FLUSH);
        while block.flushes.load(SeqCst) == seen {
            core::hint::spin_loop();
        }
    }
}

fn everything() {
    // SAFETY: the tables that are in use.
    unsafe { ring::load_tables(super::root()) };
}

/// A CPU has idled: it forgets what it should have forgotten meanwhile.
pub fn wake() {
    if STALE[cpu::current().number.load(Relaxed) as usize].swap(false, SeqCst) {
        everything();
    }
}
