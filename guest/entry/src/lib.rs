//! How application code is entered and left, on every machine that runs it natively.
//!
//! The machine keeps a [`Head`] at the address that GS holds while one of its CPUs runs: `gate` reaches
//! it by offsets. `patch` makes call sites jump to the gate, through `stub`s; `code` knows which code may
//! be patched; `user_memory` copies across to the application and survives what is not there. How a trap
//! arrives, how code is made writable and how other CPUs are held back is each machine's own.
#![no_std]

extern crate alloc;

mod code;
mod head;
pub mod patch;
mod place;
mod run;
pub mod stub;
pub mod user_memory;
mod way;

pub use code::Code;
pub use head::Head;
pub use place::{Place, place};
pub use run::{Ground, run};
pub use way::{EXCEPTION, INTERRUPT, TRAPPED, abort, finish, leave};
