//! The suite: cases, callers, and how they are brought together.

pub mod caller;
pub mod case;
pub mod play;
pub mod runner;
pub mod stage;
pub mod trace;
