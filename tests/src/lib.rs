//! What the end-to-end suite, the benchmark and xtask share: programs, islands, services, processes.

pub mod package;
