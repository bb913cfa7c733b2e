//! What all sockets share: the engine, the way out, deadlines, and what is to be told.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::hash::BuildHasher;

use hashbrown::HashMap;
use machine::Readiness;
use siphasher::sip::SipHasher13;

use crate::deadline::Deadlines;
use crate::event::{Notice, Query};
use crate::output::Output;
use crate::tcp::connection::{Connection, Owner, Phase};
use crate::tcp::engine::Engine;
use crate::tcp::segment::{Bare, Flow};

/// Hashes with a secret, so that no peer can choose what collides.
#[derive(Clone, Copy)]
pub struct Secret(u64, u64);

impl BuildHasher for Secret {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

pub struct Core {
    pub engine: Engine,
    pub output: Output,
    pub deadlines: Deadlines,
    /// Connections that have something to send.
    pub dirty: VecDeque<u32>,
    pub notices: VecDeque<Notice>,
    pub flows: HashMap<Flow, u32, Secret>,
    /// Bytes of buffers in use, and how many may be before they stop to grow.
    pub awake: usize,
    pub memory: usize,
    /// For sequence numbers, ports and identifications.
    secret: Secret,
    counter: u64,
    /// Where the engine's answers are written.
    pub reply: Vec<u8>,
}

impl Core {
    pub fn new(engine: Engine, output: Output, memory: usize, seed: &[u8; 32]) -> Self {
        let part = |at: usize| u64::from_le_bytes(core::array::from_fn(|byte| seed[at + byte]));
        Self {
            engine,
            output,
            deadlines: Deadlines::default(),
            dirty: VecDeque::new(),
            notices: VecDeque::new(),
            flows: HashMap::with_hasher(Secret(part(0), part(8))),
            awake: 0,
            memory,
            secret: Secret(part(16), part(24)),
            counter: 0,
            reply: Vec::new(),
        }
    }

    /// Where a new connection's sequence numbers begin (RFC 6528).
    pub fn initial_sequence(&self, flow: Flow, now_ns: u64) -> u32 {
        // A step every 4 microseconds.
        (self.secret.hash_one(flow) as u32).wrapping_add((now_ns >> 12) as u32)
    }

    /// A number nobody outside can guess.
    pub fn random(&mut self) -> u64 {
        self.counter += 1;
        self.secret.hash_one((self.counter, "random"))
    }

    pub fn send(&mut self, bare: Bare, now_ns: u64) {
        self.output.packet(bare.build(), bare.flow.peer.ip(), now_ns);
    }

    /// Notes that a connection may have something to send.
    pub fn touch(&mut self, connection: &mut Connection, index: u32) {
        if !connection.dirty && !connection.stuck {
            connection.dirty = true;
            self.dirty.push_back(index);
        }
    }

    /// Notes what a connection's program is to be told.
    pub fn tell(&mut self, connection: &mut Connection, index: u32, news: Readiness) {
        if connection.owner != Owner::Program || news.is_empty() {
            return;
        }
        connection.news |= news;
        self.announce(connection, index);
    }

    pub fn announce(&mut self, connection: &mut Connection, index: u32) {
        if !connection.announced {
            connection.announced = true;
            self.notices.push_back(Notice::Connection(index));
        }
    }

    pub fn answer(&mut self, query: Query, result: Result<Vec<u8>, abi::Code>) {
        self.notices.push_back(Notice::Resolved(query, result));
    }

    /// Gives a connection's buffers back.
    pub fn retire(&mut self, connection: &mut Connection, phase: Phase) {
        if let Phase::Awake(awake) = core::mem::replace(&mut connection.phase, phase) {
            self.awake -= awake.receive_size + awake.send_size;
        }
    }
}
