//! One connection: what each side has sent, may send, and is owed.
//!
//! Credit is counted as the standard has it, in wrapping 32-bit numbers of bytes. Invariant: what waits here
//! for its descriptor is never more than the room that the guest was told of.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use abi::network::Address;

use crate::descriptor::{Granted, Kind};

/// Bytes that may wait for a descriptor.
pub const ROOM: u32 = 256 * 1024;
const _: () = assert!(ROOM >= abi::vm::vsock::FIRST_ROOM);
/// The guest is told of room again after so much of it has become free.
const TELL: u32 = ROOM / 4;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The guest has not accepted it.
    Offered,
    Established,
    /// Reset from here: nothing flows, and the guest has yet to close.
    Over,
}

/// Packets without data that the guest is owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    pub response: bool,
    /// It is asked to accept.
    pub request: Option<Address>,
    pub credit: bool,
    /// Directions that are over, as flags of a shutdown.
    pub shutdown: u32,
    pub reset: bool,
}

impl Owed {
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// A connection.
pub struct Connection {
    pub number: u32,
    /// The guest's port that is asked, for one that is offered.
    pub listener: u32,
    pub file: Arc<OwnedFd>,
    pub kind: Kind,
    pub stage: Stage,
    pub owed: Owed,
    /// It is in the list of those that have something to do.
    pub listed: bool,

    /// The guest's room, what left it ever, and what was sent into it ever.
    pub guest_room: u32,
    pub guest_forwarded: u32,
    pub sent: u32,
    /// Bytes of a packet that did not fit the guest's room as a whole.
    pub left_over: VecDeque<u8>,
    pub readable: bool,
    /// A terminal had nothing at all: whether it has by now is to be asked for.
    pub nothing: bool,
    /// The descriptor has said that its end is near, so that a short read is not the last.
    pub ending: bool,
    /// No more comes from the descriptor, or the guest does not want any.
    pub read_over: bool,

    /// What came from the guest ever, what left for the descriptor, and what it was told of that.
    pub received: u32,
    pub forwarded: u32,
    pub told: u32,
    /// What waits for the descriptor.
    pub waiting: VecDeque<u8>,
    pub writable: bool,
    /// The descriptor takes nothing any more: what comes is thrown away.
    pub write_over: bool,
    /// The guest sends no more: the descriptor is told when all is out.
    pub finishing: bool,
    /// The guest has closed it: so is the descriptor, when all is out.
    pub closing: bool,
}

impl Connection {
    pub fn new(number: u32, granted: &Granted) -> Self {
        Self {
            number,
            listener: number,
            file: granted.file.clone(),
            kind: granted.kind,
            stage: Stage::Established,
            owed: Owed::default(),
            listed: false,
            guest_room: 0,
            guest_forwarded: 0,
            sent: 0,
            left_over: VecDeque::new(),
            readable: true,
            nothing: false,
            ending: false,
            read_over: false,
            received: 0,
            forwarded: 0,
            told: 0,
            waiting: VecDeque::new(),
            writable: true,
            write_over: false,
            finishing: false,
            closing: false,
        }
    }

    /// Bytes that may be sent to the guest.
    pub fn credit(&self) -> usize {
        self.guest_room.saturating_sub(self.sent.wrapping_sub(self.guest_forwarded)) as usize
    }

    /// Bytes that the guest may send beyond what waits.
    pub fn room(&self) -> usize {
        (ROOM - self.received.wrapping_sub(self.forwarded).min(ROOM)) as usize
    }

    /// So many bytes have left for the descriptor.
    pub fn forward(&mut self, length: usize) {
        self.forwarded = self.forwarded.wrapping_add(length as u32);
        self.owed.credit |= self.forwarded.wrapping_sub(self.told) >= TELL;
    }

    /// Takes a number of waiting bytes away, and their memory with the last.
    pub fn waited(&mut self, length: usize) {
        self.waiting.drain(..length);
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        self.forward(length);
    }

    /// Nothing flows any more.
    pub fn reset(&mut self) {
        self.stage = Stage::Over;
        self.owed = Owed { reset: true, ..Owed::default() };
        (self.waiting, self.left_over) = (VecDeque::new(), VecDeque::new());
        (self.read_over, self.write_over) = (true, true);
        self.forwarded = self.received;
    }

    /// Whether its descriptor may be asked for something now.
    pub fn wants_to_read(&self) -> bool {
        self.stage == Stage::Established
            && !self.closing
            && !self.read_over
            && (self.readable || !self.left_over.is_empty())
            && (self.kind == Kind::Listener || self.credit() > 0)
    }
}
