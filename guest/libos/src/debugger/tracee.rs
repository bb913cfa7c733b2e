//! A thread as the debugger has it: whether it stands, how it is to go on, and what it has come upon.
//!
//! A thread that waits in a system call is shown before it: at the `syscall` instruction. If its registers are
//! changed there, the call is given up, and whoever returns to it makes it anew; if not, the call goes on.

use alloc::vec::Vec;

use super::command::Motion;
use crate::errno::Errno;
use crate::signal::{Information, Set};
use crate::thread::{Body, Thread};

/// Bytes of the `syscall` instruction.
const SYSCALL: u64 = 2;

/// Why the program has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It was made to.
    Asked,
    Interrupted,
    Breakpoint,
    Stepped,
    Signal(u8),
    /// A new program runs.
    Executed(Vec<u8>),
    /// No thread is left of those that were to go on.
    NothingMoves,
}

/// A thread, as far as the debugger has to do with it.
pub struct Tracee {
    pub standing: bool,
    pub motion: Motion,
    /// What it has come upon and not yet told.
    pub event: Option<Stop>,
    /// Signals that it gets without another word.
    pub let_through: Set,
    /// The signal it was last stopped by.
    pub stopped_by: Option<Information>,
    /// It is shown before a call that it has begun; what the call has asked for about its restart.
    pub before_call: Option<Errno>,
}

impl Default for Tracee {
    fn default() -> Self {
        let motion = Motion::Go;
        Self { standing: false, motion, event: None, let_through: 0, stopped_by: None, before_call: None }
    }
}

impl Tracee {
    pub fn steps(&self) -> bool {
        matches!(self.motion, Motion::Step(_))
    }

    /// The thread stands from now on.
    pub fn stand(&mut self, thread: &Thread, body: &mut Body) {
        self.standing = true;
        let restart = thread.signals.take_restart();
        if self.before_call.is_none() && (body.pending.is_some() || restart.0 != 0) {
            self.before_call = Some(restart);
            body.context.registers.rip -= SYSCALL;
            body.context.divert();
        }
    }

    /// Puts the thread back into the call that it was shown before.
    pub fn go_on(&mut self, thread: &Thread, body: &mut Body) {
        self.standing = false;
        if let Some(restart) = self.before_call.take() {
            body.context.registers.rip += SYSCALL;
            body.context.divert();
            if restart.0 != 0 {
                thread.signals.restart_later(restart);
            }
        }
    }
}
