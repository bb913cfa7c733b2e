//! What is wanted of an island and what is reported about a machine, as commands and monitor agree on it.
//!
//! Plain data without logic. Everything here is the caller's word: it is checked when a monitor turns it
//! into a plan, not before.
#![forbid(unsafe_code)]

pub mod report;
pub mod spec;
