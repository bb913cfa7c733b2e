//! The caller's terminal: raw while the island has it, as it was afterwards.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::voice;

/// A terminal set to pass every key on. Dropping it restores what was before.
pub struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    pub fn set(terminal: OwnedFd) -> Result<Self, Errno> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        voice::set_raw(true);
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&self.terminal, &self.before);
        voice::set_raw(false);
    }
}

/// Gives a terminal its settings back. A terminal that is gone needs none.
pub fn restore(terminal: impl AsFd, before: &Termios) {
    let _ = tcsetattr(terminal, OptionalActions::Now, before);
}
