//! select(2) and pselect6(2).

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

/// What each of the three sets asks for, and what answers it (select(2), "Correspondence").
const READ: u32 = event::READ_NORMAL | event::READ_BAND | event::IN | event::HANGUP | event::ERROR;
const WRITE: u32 = event::WRITE_BAND | event::WRITE_NORMAL | event::OUT | event::ERROR;
const EXCEPT: u32 = event::PRIORITY;
const ASKED: [u32; 3] = [READ, WRITE, EXCEPT];

struct Select {
    /// Addresses of the three sets, 0 for none, and their length in bytes.
    sets: [u64; 3],
    length: usize,
    /// Number, description, and bit per set that asks for it.
    entries: Vec<(usize, Arc<Description>, u8)>,
}

impl Select {
    fn read(call: &Call<'_>, count: u64, sets: [u64; 3]) -> Result<Self> {
        let count = usize::try_from(count as i32).map_err(|_| Errno::EINVAL)?;
        // Beyond the table nothing can be open, and nothing is looked at.
        let count = count.min(call.process().files.room());
        let length = count.div_ceil(64) * 8;
        let mut asked = alloc::vec![0_u8; count];
        for (index, set) in sets.iter().enumerate().filter(|(_, set)| **set != 0) {
            let bytes = user::read_vec(call.thread, *set, length)?;
            for (number, asked) in asked.iter_mut().enumerate() {
                if bytes[number / 8] & 1 << (number % 8) != 0 {
                    *asked |= 1 << index;
                }
            }
        }
        let mut entries = Vec::new();
        for (number, asked) in asked.iter().enumerate().filter(|(_, asked)| **asked != 0) {
            entries.push((number, call.process().files.get(number as u64)?, *asked));
        }
        Ok(Self { sets, length, entries })
    }

    /// Writes the three sets.
    fn put(&self, thread: &Arc<Thread>, ready: &[(usize, u8)]) -> Result<u64> {
        let mut total = 0;
        for (index, set) in self.sets.iter().enumerate().filter(|(_, set)| **set != 0) {
            let mut bytes = alloc::vec![0; self.length];
            for (number, _) in ready.iter().filter(|(_, bits)| bits & 1 << index != 0) {
                bytes[number / 8] |= 1 << (number % 8);
                total += 1;
            }
            user::write(thread, *set, &bytes)?;
        }
        Ok(total)
    }
}

fn selected(thread: &Arc<Thread>, description: &Description, asked: u8) -> u8 {
    let events = description.file.events_for(thread);
    let bits = ASKED.iter().enumerate().filter(|(_, wanted)| events & *wanted != 0);
    bits.fold(0, |bits, (index, _)| bits | 1 << index) & asked
}

impl Waiting for Select {
    fn look(&self, thread: &Arc<Thread>) -> Result<u64> {
        let ready: Vec<(usize, u8)> = self
            .entries
            .iter()
            .map(|(number, description, asked)| (*number, selected(thread, description, *asked)))
            .filter(|(_, bits)| *bits != 0)
            .collect();
        if ready.is_empty() { Ok(0) } else { self.put(thread, &ready) }
    }

    fn queues(&self) -> Vec<&WaitQueue> {
        self.entries.iter().filter_map(|(_, description, _)| description.file.queue()).collect()
    }

    fn outside(&self) -> bool {
        self.entries.iter().any(|(_, description, _)| description.file.outside())
    }

    fn timed_out(&self, thread: &Arc<Thread>) -> Result<u64> {
        self.put(thread, &[])
    }
}

fn sets(call: &Call<'_>) -> [u64; 3] {
    [call.arguments[1], call.arguments[2], call.arguments[3]]
}

pub fn select(call: &mut Call<'_>) -> Outcome {
    let timeout = attempt!(Timeout::timeval(call.thread, call.arguments[4]));
    let select = attempt!(Select::read(call, call.arguments[0], sets(call)));
    let left = Left::of(call.thread, call.arguments[4], timeout, 1000);
    look_or_wait(call, timeout, false, Errno::ERESTARTNOHAND, left, select)
}

pub fn pselect6(call: &mut Call<'_>) -> Outcome {
    let timeout = attempt!(Timeout::timespec(call.thread, call.arguments[4]));
    let select = attempt!(Select::read(call, call.arguments[0], sets(call)));
    let masked = match call.arguments[5] {
        0 => false,
        address => {
            let [set, size] = attempt!(user::read_words::<2>(call.thread, address));
            attempt!(mask(call, set, size))
        }
    };
    let left = Left::of(call.thread, call.arguments[4], timeout, 1);
    look_or_wait(call, timeout, masked, Errno::ERESTARTNOHAND, left, select)
}
