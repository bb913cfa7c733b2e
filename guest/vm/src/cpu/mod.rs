//! Virtual CPUs: their blocks, traps, interrupt controllers, clocks and idle waits.

pub mod block;
pub mod clock;
pub mod controller;
pub mod hold;
pub mod idle;
pub mod port;
pub mod ring;
pub mod sleep;
pub mod start;
pub mod stub;
pub mod trap;

use core::arch::asm;

use block::Block;

/// The CPU this runs on.
#[inline]
pub fn current() -> &'static Block {
    let block: *const Block;
    // SAFETY: reads a register, which points to the CPU's block from its first instruction in ring 3 on;
    // blocks live for ever.
    unsafe {
        asm!("rdgsbase {}", out(reg) block, options(nomem, nostack, preserves_flags));
        &*block
    }
}
