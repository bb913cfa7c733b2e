//! What the end-to-end suite, the benchmark and xtask share: programs, islands, services, processes.
#![forbid(unsafe_code)]

pub mod build;
pub mod engine;
pub mod island;
pub mod outcome;
pub mod package;
pub mod process;
pub mod scratch;
pub mod screen;
pub mod service;
