//! poll(2) and ppoll(2).

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::attempt;
use super::readiness::{Left, Timeout, Waiting, look_or_wait, mask};
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Description, event};
use crate::thread::Thread;
use crate::user;
use crate::wait::WaitQueue;

/// Bytes of `struct pollfd`.
const POLL_ENTRY: usize = 8;

struct Polled {
    description: Option<Arc<Description>>,
    events: u32,
    /// Negative numbers are skipped.
    skipped: bool,
}

struct Poll {
    address: u64,
    entries: Vec<Polled>,
}

impl Poll {
    fn read(call: &Call<'_>, address: u64, count: u64) -> Result<Self> {
        if count > call.process().limit(7).max(1024) {
            return Err(Errno::EINVAL);
        }
        let bytes = user::read_vec(call.thread, address, count as usize * POLL_ENTRY)?;
        let files = &call.process().files;
        let entries = bytes
            .chunks_exact(POLL_ENTRY)
            .map(|entry| {
                let number = i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
                let events = u32::from(u16::from_le_bytes([entry[4], entry[5]]));
                let skipped = number < 0;
                let description = if skipped { None } else { files.get(number as u64).ok() };
                Polled { description, events, skipped }
            })
            .collect();
        Ok(Self { address, entries })
    }

    fn put(&self, thread: &Arc<Thread>, results: &[u16]) -> Result<()> {
        for (index, result) in results.iter().enumerate() {
            let at = self.address.wrapping_add((index * POLL_ENTRY + 6) as u64);
            user::write(thread, at, &result.to_le_bytes())?;
        }
        Ok(())
    }
}

impl Polled {
    fn result(&self, thread: &Arc<Thread>) -> u16 {
        let events = match &self.description {
            Some(description) => {
                description.file.events_for(thread) & (self.events | event::ERROR | event::HANGUP)
            }
            None if self.skipped => 0,
            None => event::INVALID,
        };
        events as u16
    }
}

impl Waiting for Poll {
    fn look(&self, thread: &Arc<Thread>) -> Result<u64> {
        if self.entries.iter().all(|entry| entry.result(thread) == 0) {
            return Ok(0);
        }
        let results: Vec<u16> = self.entries.iter().map(|entry| entry.result(thread)).collect();
        self.put(thread, &results)?;
        Ok(results.iter().filter(|result| **result != 0).count() as u64)
    }

    fn queues(&self) -> Vec<&WaitQueue> {
        let descriptions = self.entries.iter().filter_map(|entry| entry.description.as_ref());
        descriptions.filter_map(|description| description.file.queue()).collect()
    }

    fn outside(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.description.as_ref().is_some_and(|description| description.file.outside()))
    }

    fn timed_out(&self, thread: &Arc<Thread>) -> Result<u64> {
        self.put(thread, &alloc::vec![0; self.entries.len()])?;
        Ok(0)
    }
}

pub fn poll(call: &mut Call<'_>) -> Outcome {
    let poll = attempt!(Poll::read(call, call.arguments[0], call.word(1).into()));
    let timeout = Timeout::milliseconds(call.int(2));
    look_or_wait(call, timeout, false, Errno::ERESTART_RESTARTBLOCK, None, poll)
}

pub fn ppoll(call: &mut Call<'_>) -> Outcome {
    let timeout = attempt!(Timeout::timespec(call.thread, call.arguments[2]));
    let poll = attempt!(Poll::read(call, call.arguments[0], call.word(1).into()));
    let masked = attempt!(mask(call, call.arguments[3], call.arguments[4]));
    let left = Left::of(call.thread, call.arguments[2], timeout, 1);
    look_or_wait(call, timeout, masked, Errno::ERESTARTNOHAND, left, poll)
}
