//! Message queues of System V (msgop(2)).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::lock::Mutex;

use crate::wait::WaitQueue;

/// MSGMAX: the longest message. MSGMNB: bytes in a queue at first.
pub const LONGEST: usize = 8192;
pub const ROOM: u64 = 16_384;

pub struct Message {
    pub kind: i64,
    pub bytes: Vec<u8>,
}

/// What a queue holds, and who used it last when (seconds since the epoch).
pub struct State {
    pub messages: VecDeque<Message>,
    pub bytes: u64,
    pub room: u64,
    pub sender: u32,
    pub receiver: u32,
    pub sent_s: u64,
    pub received_s: u64,
}

/// A queue.
pub struct Queue {
    pub state: Mutex<State>,
    pub queue: WaitQueue,
}

/// Which message is wanted: the first, the first of this kind or of any other, or the one with the lowest kind
/// up to a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    First,
    Kind(i64),
    Except(i64),
    Lowest(i64),
}

impl Default for Queue {
    fn default() -> Self {
        let state = State {
            messages: VecDeque::new(),
            bytes: 0,
            room: ROOM,
            sender: 0,
            receiver: 0,
            sent_s: 0,
            received_s: 0,
        };
        Self { state: Mutex::new(state), queue: WaitQueue::new() }
    }
}

impl State {
    /// The place of the message that is wanted.
    pub fn find(&self, wanted: Wanted) -> Option<usize> {
        let first = |fits: &dyn Fn(i64) -> bool| self.messages.iter().position(|message| fits(message.kind));
        match wanted {
            Wanted::First => first(&|_| true),
            Wanted::Kind(kind) => first(&|other| other == kind),
            Wanted::Except(kind) => first(&|other| other != kind),
            Wanted::Lowest(bound) => {
                let kinds = self.messages.iter().map(|message| message.kind);
                let lowest = kinds.filter(|kind| *kind <= bound).min()?;
                first(&|other| other == lowest)
            }
        }
    }

    /// Puts a message at the end; false if there is no room.
    pub fn put(&mut self, kind: i64, bytes: &[u8], process: u32, now_s: u64) -> bool {
        let full = self.bytes + bytes.len() as u64 > self.room || self.messages.len() as u64 >= self.room;
        if full {
            return false;
        }
        self.bytes += bytes.len() as u64;
        self.messages.push_back(Message { kind, bytes: bytes.to_vec() });
        (self.sender, self.sent_s) = (process, now_s);
        true
    }

    pub fn take(&mut self, place: usize, process: u32, now_s: u64) -> Option<Message> {
        let message = self.messages.remove(place)?;
        self.bytes -= message.bytes.len() as u64;
        (self.receiver, self.received_s) = (process, now_s);
        Some(message)
    }
}
