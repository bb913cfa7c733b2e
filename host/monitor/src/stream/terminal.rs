//! The caller's terminal.
