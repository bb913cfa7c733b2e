//! The file device (virtio-fs, as far as `abi::vm::fuse` has it): files, and everything asked of the monitor.
//!
//! Invariants: nothing here waits; each errand holds its chain until it is answered, so that there are never
//! more than the queue is long, and nothing is begun while as many that a reset has orphaned are still to be
//! done. What the monitor answers is passed on as it is, but for error numbers beyond
//! Linux's and the descriptor, which gets a number.

mod errand;
mod request;
mod transfer;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use abi::message::ToGuest;
use abi::vm::fuse;
use rustix::io::Errno;

use crate::outside::Outside;
use crate::pool::Pool;
use crate::transport::{Broken, Description, Device, Port, Ring};
use errand::Asked;
use request::{Answer, Operation};
use transfer::Moved;

const ID: u32 = 26;
const TAG: &[u8; 4] = b"eyot";
/// Bytes of a tag, which zeros fill.
const TAG_LENGTH: usize = 36;
/// Hasty errands, of which we know none, and errands.
const QUEUES: &[u16] = &[LONGEST, LONGEST];
const LONGEST: u16 = 1024;
const ERRANDS: usize = 1;

/// The device.
pub struct File {
    pool: Pool,
    /// The port, once there is one, and the generation of its queues.
    port: Option<Arc<Port>>,
    generation: u64,
    /// Requests without an answer, by ticket.
    asked: HashMap<u64, Asked>,
    next_ticket: u64,
    /// Messages that want no answer and have not gone out.
    quiet: VecDeque<Answer>,
    /// What the monitor has sent and nobody has looked at.
    arrived: VecDeque<(ToGuest, Option<OwnedFd>)>,
    /// News that the guest has not asked for, and who waits for some.
    news: VecDeque<Vec<u8>>,
    listeners: VecDeque<(Answer, usize)>,
}

impl File {
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            port: None,
            generation: 0,
            asked: HashMap::new(),
            next_ticket: 1,
            quiet: VecDeque::new(),
            arrived: VecDeque::new(),
            news: VecDeque::new(),
            listeners: VecDeque::new(),
        }
    }

    /// Where chains go back that threads have served.
    pub fn attach(&mut self, port: &Arc<Port>) {
        self.port = Some(port.clone());
    }

    /// Does a request; what was written, if it is answered already.
    fn serve(&mut self, operation: Operation, answer: Answer, outside: &mut Outside) -> Option<(u16, usize)> {
        let head = answer.head;
        match operation {
            Operation::Read { handle, offset, to } => {
                let granted = match outside.table.get_mut(handle) {
                    Ok(granted) => granted,
                    Err(error) => return Some((head, answer.error(error))),
                };
                let moved = match transfer::check(granted) {
                    Ok(()) => transfer::read(granted, &to, offset),
                    Err(error) => Moved::Over(Err(error)),
                };
                let done = match moved {
                    Moved::Over(result) => return Some((head, read_answer(&answer, result))),
                    Moved::Slow(done) => done,
                };
                let (granted, ticket) = (granted.clone(), self.ticket(head)?);
                self.pool.start(move || {
                    let result = transfer::finish(&granted, to, offset, done, false);
                    ticket.used(read_answer(&answer, result));
                });
                None
            }
            Operation::Write { handle, offset, from } => {
                let granted = match outside.table.get_mut(handle) {
                    Ok(granted) => granted,
                    Err(error) => return Some((head, answer.error(error))),
                };
                let moved = match transfer::check(granted) {
                    Ok(()) => transfer::write(granted, &from, offset),
                    Err(error) => Moved::Over(Err(error)),
                };
                let done = match moved {
                    Moved::Over(result) => return Some((head, write_answer(&answer, result))),
                    Moved::Slow(done) => done,
                };
                let (granted, ticket) = (granted.clone(), self.ticket(head)?);
                self.pool.start(move || {
                    let result = transfer::finish(&granted, from, offset, done, true);
                    ticket.used(write_answer(&answer, result));
                });
                None
            }
            Operation::Release { handle } => Some((head, self.release(handle, &answer, outside))),
            Operation::Control { handle, command, data, room } => {
                self.control(handle, command, &data, room, answer, outside)
            }
        }
    }

    /// Whether a driver has left too much behind: what waits for a disk or the monitor outlives a reset.
    fn is_laden(&self, outside: &Outside) -> bool {
        outside.channel.waiting().max(self.pool.waiting()) >= LONGEST.into()
    }

    fn ticket(&self, head: u16) -> Option<crate::transport::Ticket> {
        self.port.as_ref().map(|port| port.ticket(self.generation, ERRANDS, head))
    }

    fn release(&mut self, handle: u64, answer: &Answer, outside: &mut Outside) -> usize {
        let (Ok(granted), Ok(number)) = (outside.table.get(handle), u32::try_from(handle)) else {
            return answer.error(Errno::BADF);
        };
        if granted.kind == crate::descriptor::Kind::File {
            outside.table.forget(number);
        } else {
            outside.released.push_back(number);
        }
        answer.in_place(0)
    }
}

fn read_answer(answer: &Answer, result: Result<usize, Errno>) -> usize {
    match result {
        Ok(length) => answer.in_place(length),
        Err(error) => answer.error(error),
    }
}

fn write_answer(answer: &Answer, result: Result<usize, Errno>) -> usize {
    match result {
        Ok(length) => answer.body(&(length as u64).to_le_bytes()),
        Err(error) => answer.error(error),
    }
}

impl Device for File {
    fn description(&self) -> Description {
        let mut configuration = vec![0; TAG_LENGTH + 4];
        configuration[..TAG.len()].copy_from_slice(TAG);
        configuration[TAG_LENGTH] = 1;
        Description { id: ID, features: 0, configuration, queues: QUEUES }
    }

    fn activate(&mut self, _features: u64, generation: u64, _outside: &mut Outside) {
        self.generation = generation;
        // Answers that are still to come find nobody, and their descriptors are given back.
        self.asked.clear();
        self.quiet.clear();
        self.listeners.clear();
    }

    fn process(&mut self, queue: usize, rings: &mut [Ring], outside: &mut Outside) -> Result<bool, Broken> {
        let ring = &mut rings[queue];
        let mut any = false;
        if queue == ERRANDS {
            any |= self.go_on(ring, outside)?;
            if self.is_laden(outside) {
                return Ok(any);
            }
        }
        while let Some(chain) = ring.pop()? {
            any = true;
            let (answer, operation) = request::parse(chain);
            let head = answer.head;
            match operation {
                Ok(operation) if queue == ERRANDS => {
                    if let Some((head, length)) = self.serve(operation, answer, outside) {
                        ring.used(head, length)?;
                    }
                }
                Ok(_) => ring.used(head, answer.error(Errno::NOSYS))?,
                Err(error) => ring.used(head, answer.error(error))?,
            }
        }
        Ok(any)
    }

    fn listens(&self, _queue: usize) -> bool {
        true
    }
}

/// Bytes of the answer to a write (checked when this is built).
const _: () = assert!(fuse::WRITE_OUT == 8);
