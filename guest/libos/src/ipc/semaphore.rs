//! Semaphore sets of System V (semop(2)).
//!
//! The operations of a call happen all at once or not at all; whoever waits looks again at each change of the
//! set. What a process wants undone at its end is kept with the process.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::lock::Mutex;

use crate::errno::{Errno, Result};
use crate::wait::WaitQueue;

/// SEMVMX: the highest value.
pub const VALUE_MAX: i32 = 32_767;

/// One semaphore.
#[derive(Clone, Copy, Default)]
pub struct Semaphore {
    pub value: i32,
    /// Who changed it last.
    pub last: u32,
    /// How many wait for it to grow, and to become 0.
    pub growing: u32,
    pub vanishing: u32,
}

/// One operation (`struct sembuf`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub index: u16,
    pub change: i16,
    pub flags: u16,
}

/// SEM_UNDO.
pub const UNDO: u16 = 0x1000;

pub struct State {
    pub semaphores: Vec<Semaphore>,
    pub operated_s: u64,
}

/// A set.
pub struct Set {
    pub state: Mutex<State>,
    pub queue: WaitQueue,
}

/// What a process's end undoes: by set and semaphore.
pub type Undo = BTreeMap<(u32, u16), i32>;

/// How a try of operations came out.
pub enum Tried {
    Done,
    /// The semaphore to wait for, whether it is to become 0, and whether waiting is wanted.
    Wait {
        index: u16,
        vanish: bool,
        waits: bool,
    },
}

impl Set {
    pub fn new(count: usize) -> Self {
        let state = State { semaphores: vec![Semaphore::default(); count], operated_s: 0 };
        Self { state: Mutex::new(state), queue: WaitQueue::new() }
    }

    pub fn length(&self) -> usize {
        self.state.lock().semaphores.len()
    }

    /// Does all operations, or none.
    pub fn attempt(&self, operations: &[Operation], process: u32, now_s: u64) -> Result<Tried> {
        let mut state = self.state.lock();
        let before: Vec<i32> = state.semaphores.iter().map(|semaphore| semaphore.value).collect();
        let restore = |state: &mut State| {
            state.semaphores.iter_mut().zip(&before).for_each(|(semaphore, value)| semaphore.value = *value);
        };
        for operation in operations {
            let Some(semaphore) = state.semaphores.get_mut(usize::from(operation.index)) else {
                restore(&mut state);
                return Err(Errno::EFBIG);
            };
            let after = semaphore.value + i32::from(operation.change);
            let vanish = operation.change == 0;
            if vanish && semaphore.value != 0 || after < 0 {
                restore(&mut state);
                let waits = u32::from(operation.flags) & super::NO_WAIT == 0;
                return Ok(Tried::Wait { index: operation.index, vanish, waits });
            }
            if after > VALUE_MAX {
                restore(&mut state);
                return Err(Errno::ERANGE);
            }
            semaphore.value = after;
        }
        for operation in operations {
            state.semaphores[usize::from(operation.index)].last = process;
        }
        state.operated_s = now_s;
        drop(state);
        self.queue.notify();
        Ok(Tried::Done)
    }

    /// Counts one more, or one less, who waits for a semaphore.
    pub fn count(&self, index: u16, vanish: bool, more: bool) {
        let mut state = self.state.lock();
        let Some(semaphore) = state.semaphores.get_mut(usize::from(index)) else { return };
        let count = if vanish { &mut semaphore.vanishing } else { &mut semaphore.growing };
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Adds what a process that ends wanted undone.
    pub fn undo(&self, index: u16, change: i32, process: u32) {
        let mut state = self.state.lock();
        if let Some(semaphore) = state.semaphores.get_mut(usize::from(index)) {
            semaphore.value = (semaphore.value + change).clamp(0, VALUE_MAX);
            semaphore.last = process;
        }
        drop(state);
        self.queue.notify();
    }
}
