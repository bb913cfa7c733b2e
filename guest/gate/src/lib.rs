//! How a `syscall` instruction is replaced by a jump through the gate table.
//!
//! Pure decisions over bytes: what to write over a call site ([`plan`]), and the stub that the jump
//! reaches ([`stub`]). The machine that owns the code reads and writes it, while no other CPU runs the
//! application.
//!
//! A site is seven bytes, `jmp *abs32` through an 8-byte slot of the gate table. They lie over the
//! instruction that loads the call's number together with the `syscall`, or over the `syscall` and what
//! follows it; instructions that give way are moved into the stub. Where no such seven bytes can be
//! had safely, the site stays a trap.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod neighbour;
mod plan;
mod stub;
#[cfg(test)]
mod tests;

pub use plan::{Code, PATCH, Plan, Refusal, plan};
pub use stub::{CONTINUATION, LENGTH, LOGICAL, Stub, after_number, logical};
