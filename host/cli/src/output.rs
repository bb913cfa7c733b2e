//! Data on standard output: all of it, or an error.

use std::io::{ErrorKind, Result as Written, Write, stdout};

use anyhow::{Context, Result};

/// Exit status of a program that writes to a pipe without a reader: as if SIGPIPE had ended it.
pub const BY_PIPE: u8 = 128 + 13;

/// Nobody reads what is written any more, and nothing is to be said of that.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub struct ReaderGone;

/// Prints a text.
pub fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    checked(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Judges how writing went.
pub fn checked(written: Written<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => written.context("standard output cannot be written"),
    }
}
