//! Making CPUs forget translations that hold no more.
//!
//! Other CPUs are told by an interrupt that their ring 0 serves alone, so that it does not matter what
//! they do; one that idles forgets everything when it wakes instead. Whoever flushes waits until all
//! have, or idle: who sleeps by our VMM takes no interrupt until it is woken.

use core::sync::atomic::{AtomicBool, Ordering::*, fence};

use machine::PAGE;

use crate::cpu::block::{Block, CPUS_MAX};
use crate::cpu::{self, controller, idle, ring, start, stub::vector};

/// Pages that are forgotten one by one; for more, everything is.
const FEW: u64 = 4;

/// CPUs that have to forget everything when they wake.
static STALE: [AtomicBool; CPUS_MAX] = [const { AtomicBool::new(false) }; CPUS_MAX];

/// Makes all CPUs forget the pages of a range, as far as they translate by these tables. One that has loaded others
/// since then has forgotten them already, and one that loads these from now on reads what they say now.
pub fn range(root: u64, start: u64, end: u64) {
    if (end - start) / PAGE > FEW {
        return all(root);
    }
    if cpu::current().active.is(root) {
        (start..end).step_by(PAGE as usize).for_each(ring::forget_page);
    }
    others(root);
}

/// Makes all CPUs forget whatever they know by these tables.
pub fn all(root: u64) {
    if cpu::current().active.is(root) {
        everything();
    }
    others(root);
}

fn others(root: u64) {
    // What the tables say is to be seen before anybody is asked what is active.
    fence(SeqCst);
    let own = cpu::current();
    let others = || start::blocks().filter(|block| !core::ptr::eq(*block, own));
    let number = |block: &Block| block.number.load(Relaxed) as usize;
    // All are told before any is waited for: where the host has fewer processors, each may have to wait for its turn.
    let mut told = [None; CPUS_MAX];
    for block in others().filter(|block| block.active.is(root)) {
        STALE[number(block)].store(true, SeqCst);
        if !idle::is_idle(block) {
            told[number(block)] = Some(block.flushes.load(SeqCst));
            controller::interrupt(block, vector::FLUSH);
        }
    }
    for block in others().filter(|block| told[number(block)].is_some()) {
        while told[number(block)] == Some(block.flushes.load(SeqCst)) && !idle::is_idle(block) {
            core::hint::spin_loop();
        }
    }
}

fn everything() {
    // SAFETY: the tables that are in use.
    unsafe { ring::load_tables(cpu::current().active.root()) };
}

/// A CPU has idled: it forgets what it should have forgotten meanwhile.
pub fn wake() {
    if STALE[cpu::current().number.load(Relaxed) as usize].swap(false, SeqCst) {
        everything();
    }
}
