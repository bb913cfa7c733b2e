//! What the gate knows of a CPU; GS points to it while one of a machine's CPUs runs.
//!
//! The fields are read and written by the gate (`gate.rs`) by their offsets. `inside` is true exactly
//! while application code runs, but for the few instructions of entry and exit, which whoever interrupts
//! them knows by their addresses.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use machine::{Context, Exception};

/// The beginning of a CPU's own memory.
#[repr(C)]
pub struct Head {
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
    /// The address of the [`Code`](crate::Code) of the space that is active.
    pub code: AtomicU64,
    /// What the last exception was; written by whoever the trap interrupts us with, read by this CPU alone.
    pub exception: UnsafeCell<Exception>,
    /// The trapped system call came from a `syscall` instruction that stands right before `rip`.
    pub patchable: AtomicBool,
    /// The way out was taken in single steps: the step that ends at the application is none of its own.
    pub steps_out: AtomicBool,
}

// SAFETY: `exception` is accessed only by its own CPU: by the handler on top of application code, and after
// that has given way to `run`. Everything else is atomic.
unsafe impl Sync for Head {}

// The test that kicks the gate on every instruction (host/monitor/tests/gate) knows this one.
const _: () = assert!(core::mem::offset_of!(Head, kicked) == 48);

impl Head {
    pub const fn new() -> Self {
        Self {
            kernel_stack: AtomicU64::new(0),
            context: AtomicU64::new(0),
            target: AtomicU64::new(0),
            user_stack: AtomicU64::new(0),
            scratch: AtomicU64::new(0),
            components: AtomicU64::new(0),
            kicked: AtomicU32::new(0),
            inside: AtomicU32::new(0),
            default_mxcsr: AtomicU32::new(0x1f80),
            call: AtomicU64::new(0),
            code: AtomicU64::new(0),
            exception: UnsafeCell::new(Exception { vector: 0, error: 0, address: 0, beyond_file: false }),
            patchable: AtomicBool::new(false),
            steps_out: AtomicBool::new(false),
        }
    }

    /// The context that runs on this CPU.
    pub fn context(&self) -> *mut Context {
        self.context.load(Relaxed) as *mut Context
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}
