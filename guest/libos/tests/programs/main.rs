//! Scripted programs on the library OS, on the fake machine, over many seeds.
//!
//! A seed decides interruptions, delays and the order of events; a failure names it.

mod disk;
mod file;
mod island;
mod parallel;
mod process;
mod signal;
mod start;
mod thread;
mod time;
