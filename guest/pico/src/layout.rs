//! Where things lie, in addresses and in the state file.
//!
//! State file: shared data of the image, gate table, stubs, kernel stacks, heap; mapped whole at
//! `STATE_BASE`. Data, gate table and stubs are mapped a second time where they are used, so that
//! nothing is ever writable and executable at one address. Signal stacks are private memory:
//! siblings of a process share the address but must not share the frames.

use abi::address::{GATE_TABLE, GATE_TABLE_END};
use abi::pico::STATE_BASE;
use entry::stub::{SLOTS, STUB};

pub const PAGE: u64 = 4096;

/// The most virtual CPUs an island may have.
pub const CPUS_MAX: usize = 256;
/// Threads that wait for disks on behalf of virtual CPUs.
pub const IO_THREADS: usize = 4;

/// Alternate signal stacks, one per virtual CPU and one for what carries none, aligned to their size: a handler
/// knows its CPU by its stack pointer, whatever the application did to GS.
pub const SIGNAL_STACKS: u64 = 0x7e04_0000_0000;
pub const SIGNAL_STACK: u64 = 64 * 1024;

/// `stack_t` of a signal stack. One page at the bottom stays inaccessible, so that an overflow ends the guest at
/// once.
pub const fn signal_stack(number: usize) -> [u64; 3] {
    [SIGNAL_STACKS + number as u64 * SIGNAL_STACK + PAGE, 0, SIGNAL_STACK - PAGE]
}

/// Offsets in the state file.
pub const DATA_OFFSET: u64 = 0;
pub const DATA_MAX: u64 = 1 << 20;
pub const TABLE_OFFSET: u64 = DATA_OFFSET + DATA_MAX;
pub const STUBS_OFFSET: u64 = TABLE_OFFSET + (GATE_TABLE_END - GATE_TABLE);
pub const STACKS_OFFSET: u64 = STUBS_OFFSET + SLOTS * STUB;

/// A kernel stack with the guard page below it.
pub const STACK: u64 = 256 * 1024;

/// The guard page of a thread's kernel stack; threads count from 0: virtual CPUs, I/O threads, ticker, watch.
pub const fn stack_guard(thread: u64) -> u64 {
    STATE_BASE + STACKS_OFFSET + thread * (STACK + PAGE)
}

/// Where a thread's kernel stack begins to grow down.
pub const fn stack_top(thread: u64) -> u64 {
    stack_guard(thread + 1)
}

/// Where the heap starts: behind as many stacks as there can be, touched or not.
pub const HEAP: u64 = stack_guard(CPUS_MAX as u64 + IO_THREADS as u64 + 2);
