//! Whether an idle CPU is called for a thread that was woken.
//!
//! Where threads take turns, the waker waits itself before the called CPU has come, and its own CPU takes the thread:
//! the call was in vain, and cost more than the turn. So calls in vain are counted, and after some in a row a woken
//! thread is left to its waker's CPU. Where that turns out wrong, because the waker goes on for a tick, calls are made
//! again, and more of them have to be in vain before the next thread is left: a program that mixes both loses a tick
//! seldom.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use machine::Cpu;

/// So many calls in vain are enough, at first and at most.
const LEAST: usize = 8;
const MOST: usize = 4096;
/// After so many threads that were rightly left, fewer calls in vain are enough again.
const TRUST: usize = 1024;

/// What has become of calls.
pub struct Summons {
    /// Bit per CPU that was called and has not found a thread yet.
    called: AtomicU64,
    /// How many calls in a row were in vain, and how many are enough.
    vain: AtomicUsize,
    enough: AtomicUsize,
    left: AtomicUsize,
}

impl Summons {
    pub const fn new() -> Self {
        Self {
            called: AtomicU64::new(0),
            vain: AtomicUsize::new(0),
            enough: AtomicUsize::new(LEAST),
            left: AtomicUsize::new(0),
        }
    }

    /// Whether a woken thread is left to its waker's CPU.
    pub fn are_vain(&self) -> bool {
        let enough = self.enough.load(Relaxed);
        let vain = self.vain.load(Relaxed) >= enough;
        if vain && (self.left.fetch_add(1, Relaxed) + 1).is_multiple_of(TRUST) {
            self.enough.store((enough / 2).max(LEAST), Relaxed);
        }
        vain
    }

    pub fn call(&self, cpu: Cpu) {
        self.called.fetch_or(1 << cpu.0, Relaxed);
    }

    /// A CPU has found a thread to run.
    pub fn found(&self, cpu: Cpu) {
        if self.is_answered(cpu) {
            self.vain.store(0, Relaxed);
        }
    }

    /// A CPU goes to sleep.
    pub fn sleeps(&self, cpu: Cpu) {
        if self.is_answered(cpu) {
            self.vain.fetch_add(1, Relaxed);
        }
    }

    /// A thread that was left has waited for a tick.
    pub fn was_wrong(&self) {
        self.vain.store(0, Relaxed);
        self.enough.store((self.enough.load(Relaxed) * 4).min(MOST), Relaxed);
    }

    /// Whether this was called; it is not any more.
    fn is_answered(&self, cpu: Cpu) -> bool {
        let bit = 1 << cpu.0;
        self.called.load(Relaxed) & bit != 0 && self.called.fetch_and(!bit, Relaxed) & bit != 0
    }
}
