//! The suite: cases, callers, engines, and how they are brought together.

pub mod caller;
pub mod case;
pub mod play;
pub mod runner;
pub mod setting;
pub mod stage;
pub mod trace;
