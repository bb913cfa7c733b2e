//! Deadlines of connections, of which most are put off again and again before they come.
//!
//! A connection has one deadline and at most one entry here that is not later than it. Putting a deadline
//! off changes nothing here: when the entry comes up, it is entered again with what the deadline is then.

use alloc::collections::BinaryHeap;
use core::cmp::Reverse;

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// A connection's part.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at_ns: u64,
    /// The time of the earliest entry.
    entered_ns: u64,
}

impl Deadline {
    pub const NONE: Self = Self { at_ns: NEVER, entered_ns: NEVER };

    pub fn is_set(&self) -> bool {
        self.at_ns != NEVER
    }
}

#[derive(Default)]
pub struct Deadlines {
    entries: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Deadlines {
    pub fn set(&mut self, deadline: &mut Deadline, at_ns: u64, connection: u32) {
        deadline.at_ns = at_ns;
        if at_ns < deadline.entered_ns {
            deadline.entered_ns = at_ns;
            self.entries.push(Reverse((at_ns, connection)));
        }
    }

    /// Takes the next entry that is due.
    pub fn due(&mut self, now_ns: u64) -> Option<(u64, u32)> {
        let Reverse((at_ns, _)) = *self.entries.peek()?;
        if at_ns > now_ns {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry)
    }

    /// Whether a connection whose entry has come up is due; enters it again if it is not yet.
    pub fn confirm(&mut self, deadline: &mut Deadline, entry_ns: u64, now_ns: u64, connection: u32) -> bool {
        if deadline.entered_ns != entry_ns {
            // An older entry of the same connection, or another connection in the same place.
            return false;
        }
        deadline.entered_ns = NEVER;
        if deadline.at_ns <= now_ns {
            deadline.at_ns = NEVER;
            return true;
        }
        if deadline.at_ns != NEVER {
            self.set(deadline, deadline.at_ns, connection);
        }
        false
    }

    pub fn next_ns(&self) -> Option<u64> {
        self.entries.peek().map(|Reverse((at_ns, _))| *at_ns)
    }
}
