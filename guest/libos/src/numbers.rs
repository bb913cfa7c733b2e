//! The numbers of processes and threads, which they share (gettid(2)).
//!
//! A number is given out again only after all others, so that whoever remembers one of a process that has
//! ended seldom meets another process by it. A group's or session's number stays taken while it has members.

use alloc::collections::BTreeSet;

use crate::lock::Mutex;

/// One above the highest number (proc(5), pid_max).
pub const END: u32 = 1 << 22;
/// Numbers below this are given out once only.
const RESERVED: u32 = 300;

struct State {
    next: u32,
    used: BTreeSet<u32>,
}

/// Which numbers are used.
pub struct Numbers(Mutex<State>);

impl Default for Numbers {
    fn default() -> Self {
        Self(Mutex::new(State { next: 1, used: BTreeSet::new() }))
    }
}

impl Numbers {
    /// The next free number.
    pub fn take(&self) -> Option<u32> {
        let mut state = self.0.lock();
        for _ in 0..END {
            let number = state.next;
            state.next = if number + 1 == END { RESERVED } else { number + 1 };
            if state.used.insert(number) {
                return Some(number);
            }
        }
        None
    }

    pub fn give(&self, number: u32) {
        self.0.lock().used.remove(&number);
    }

    /// How many are used.
    pub fn used(&self) -> usize {
        self.0.lock().used.len()
    }

    /// The last one given out.
    pub fn last(&self) -> u32 {
        self.0.lock().next - 1
    }
}
