//! What each virtual CPU has of its own; GS points to it while its thread lives.
//!
//! The first fields are read and written by the gate (`gate.rs`) by their offsets. `inside` is true
//! exactly while application code runs, but for the few instructions of entry and exit, which signal
//! handlers know by their addresses.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::*};

use machine::{Context, Exception};

use crate::cache::Cache;
use crate::layout::CPUS_MAX;

/// One virtual CPU.
#[repr(C, align(128))]
pub struct Local {
    /// The kernel stack pointer to come back to.
    pub kernel_stack: AtomicU64,
    /// The context that runs, or ran last.
    pub context: AtomicU64,
    /// Where the exit sequence jumps, and what the entry sequence saves first.
    pub target: AtomicU64,
    pub user_stack: AtomicU64,
    pub scratch: AtomicU64,
    /// Extended-state components this processor has of those applications may use.
    pub components: AtomicU64,
    /// Somebody wants this CPU back; the next exit to the application is refused.
    pub kicked: AtomicU32,
    pub inside: AtomicU32,
    pub default_mxcsr: AtomicU32,

    /// The address of the current entry's `&mut dyn FnMut(&mut Context) -> bool`.
    pub call: AtomicU64,
    /// How this CPU idles: see `idle.rs`.
    pub idle: AtomicU32,
    /// How far its slice has aged: see `ticker.rs`.
    pub slice: AtomicU32,
    /// The host's number for its thread.
    pub thread: AtomicI32,
    /// Until when its slice lasts, on the monotonic clock; 0 for no such limit.
    pub deadline: AtomicU64,
    /// Threads park here until they are started: 0 not there yet, 1 parked, 2 started.
    pub started: AtomicU32,
    /// Counts the kicks that have arrived: see `hold.rs`.
    pub arrived: AtomicU32,
    /// What the last signal told; written by the handler, read by this CPU alone.
    pub exception: UnsafeCell<Exception>,
    /// The trapped system call came from a `syscall` instruction that stands right before `rip`.
    pub patchable: AtomicU32,
    /// The way out was taken in single steps: the step that ends at the application is none of its own.
    pub steps_out: AtomicU32,
    /// Free memory of its own.
    pub cache: Cache,
}

// The test that kicks the gate on every instruction (host/monitor/tests/gate) knows this one.
const _: () = assert!(core::mem::offset_of!(Local, kicked) == 48);

// SAFETY: `exception` is accessed only by its own CPU's thread: by the handler on top of application code,
// and after that handler has given way to `enter`. Everything else is atomic.
unsafe impl Sync for Local {}

impl Local {
    const fn new() -> Self {
        Self {
            kernel_stack: AtomicU64::new(0),
            context: AtomicU64::new(0),
            target: AtomicU64::new(0),
            user_stack: AtomicU64::new(0),
            scratch: AtomicU64::new(0),
            components: AtomicU64::new(0),
            kicked: AtomicU32::new(0),
            inside: AtomicU32::new(0),
            default_mxcsr: AtomicU32::new(0),
            call: AtomicU64::new(0),
            idle: AtomicU32::new(0),
            slice: AtomicU32::new(0),
            thread: AtomicI32::new(0),
            deadline: AtomicU64::new(0),
            started: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            exception: UnsafeCell::new(Exception { vector: 0, error: 0, address: 0, beyond_file: false }),
            patchable: AtomicU32::new(0),
            steps_out: AtomicU32::new(0),
            cache: Cache::new(),
        }
    }

    /// The context that runs on this CPU.
    pub fn context(&self) -> *mut Context {
        self.context.load(Relaxed) as *mut Context
    }
}

/// All of them, whether started or not.
pub static LOCALS: [Local; CPUS_MAX] = [const { Local::new() }; CPUS_MAX];
