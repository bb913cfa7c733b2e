//! Clocks: what clock_gettime(2) reads, and timers run by.

use alloc::sync::Weak;

use machine::Now;

use crate::kernel::Kernel;
use crate::process::Process;
use crate::thread::Thread;

/// One clock. Those of a process and a thread show the time that they had on a CPU.
#[derive(Clone, Debug)]
pub enum Clock {
    Realtime,
    Monotonic,
    Process(Weak<Process>),
    Thread(Weak<Thread>),
}

/// What a timer by a process's or thread's clock is late at most, beside the time that passes while nobody looks.
const LOOK_NS: u64 = 1_000_000;
/// The same where that clock stands.
const STANDING_LOOK_NS: u64 = 10_000_000;

impl Clock {
    /// What it shows, in nanoseconds. A clock of what has ended stands for ever.
    pub fn time_ns(&self, now: Now) -> u64 {
        match self {
            Self::Realtime => now.realtime_ns,
            Self::Monotonic => now.monotonic_ns,
            Self::Process(process) => process.upgrade().map_or(0, |process| process.processor_time_ns()),
            Self::Thread(thread) => thread.upgrade().map_or(0, |thread| thread.processor_time_ns()),
        }
    }

    /// After how long, on the monotonic clock, it is worth a look whether this one shows so much more.
    /// `stands`: it has not moved since the last look.
    pub fn look_ns(&self, left_ns: u64, kernel: &Kernel, stands: bool) -> u64 {
        let soonest_ns = match self {
            Self::Realtime | Self::Monotonic => return left_ns,
            Self::Process(_) => left_ns / u64::from(kernel.boot.cpus.max(1)),
            Self::Thread(_) => left_ns,
        };
        soonest_ns.max(if stands { STANDING_LOOK_NS } else { LOOK_NS })
    }

    /// Whether what it belongs to is there, if it is any one's own.
    pub fn lives(&self) -> bool {
        match self {
            Self::Realtime | Self::Monotonic => true,
            Self::Process(process) => process.strong_count() > 0,
            Self::Thread(thread) => thread.strong_count() > 0,
        }
    }
}
