//! One connection: what is known of it, whatever it does.
//!
//! A connection that is established and quiet is asleep: nothing but this record. It wakes, and gets a
//! socket and buffers (`engine`), when a segment comes for it or its program sends. The handshakes before
//! and the wait after the end are done with the record alone as well.

use alloc::boxed::Box;
use alloc::collections::VecDeque;

use abi::Code;
use machine::Readiness;
use smoltcp::socket::tcp::State;

use super::engine::Awake;
use super::segment::{ACK, Announcement, Bare, Flow};
use crate::deadline::Deadline;

/// The scale that our windows are announced with.
pub const SCALE: u8 = 7;

/// What the peer has said of itself.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The longest segment that it takes and the wire carries.
    pub maximum: u16,
    pub scale: Option<u8>,
    pub selective: bool,
    /// The window that it announced last, as it stood in the segment.
    pub window: u16,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub peer: Peer,
    /// The next sequence number to send, and the first that is not acknowledged.
    pub next: u32,
    pub unacknowledged: u32,
    /// The next sequence number to receive, as it was last acknowledged.
    pub expected: u32,
    /// Bytes that have come in order since, at most.
    pub since: usize,
    /// The window announced last, as it stood in the segment.
    pub window: u16,
    pub round_trip_ns: u64,
}

impl Record {
    /// How far our windows are shifted.
    pub fn scale(&self) -> u8 {
        if self.peer.scale.is_some() { SCALE } else { 0 }
    }

    /// Bytes that the peer may send.
    pub fn room(&self) -> usize {
        usize::from(self.window) << self.scale()
    }

    /// Bytes that the peer takes.
    pub fn peer_room(&self) -> usize {
        usize::from(self.peer.window) << self.peer.scale.unwrap_or(0)
    }

    /// The way carries no longer packets than this, says somebody who has seen one under way. A device that
    /// cuts segments makes them shorter from now on; without one it helps when the connection next wakes.
    pub fn shorten(&mut self, sequence: u32, mtu: usize, version_6: bool) {
        let under_way = self.next.wrapping_sub(self.unacknowledged);
        if sequence.wrapping_sub(self.unacknowledged) < under_way {
            let longest = mtu - crate::frame::header_length(version_6) - super::segment::HEADER;
            self.peer.maximum = self.peer.maximum.min(longest.min(usize::from(u16::MAX)) as u16);
        }
    }

    /// Takes over what a SYN announces.
    pub fn hear(&mut self, announcement: Announcement, window: u16, mtu: usize, version_6: bool) {
        let longest = mtu - crate::frame::header_length(version_6) - super::segment::HEADER;
        // Below 48 bytes nobody means it (Linux's TCP_MIN_SND_MSS).
        let maximum = usize::from(announcement.maximum.unwrap_or(536)).max(48).min(longest);
        self.peer.maximum = maximum as u16;
        self.peer.scale = announcement.scale;
        self.peer.selective = announcement.selective;
        // A window in a SYN is not scaled; from now on it is taken as if it were.
        self.peer.window = window >> announcement.scale.unwrap_or(0);
    }
}

pub enum Phase {
    /// Our SYN is on its way.
    Opening,
    /// The peer's SYN is answered.
    Answering,
    Asleep,
    Awake(Box<Awake>),
    /// Both directions are over; the peer may not know it (TIME-WAIT).
    Lingering,
    Closed,
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Program,
    /// Nobody's yet: a listener will give it to its program.
    Listener(u32),
    /// Nobody's any more: what was sent is still delivered.
    Nobody,
}

/// What a program has set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub no_delay: bool,
    pub quick: bool,
    pub keep_alive: bool,
    pub idle_ns: u64,
    pub interval_ns: u64,
    pub probes: u32,
    pub user_timeout_ns: Option<u64>,
    /// Closing resets.
    pub abort: bool,
    /// The longest that the buffers become.
    pub send_limit: usize,
    pub receive_limit: usize,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Default for Settings {
    fn default() -> Self {
        Self {
            no_delay: false,
            quick: false,
            keep_alive: false,
            idle_ns: 7200 * SECOND_NS,
            interval_ns: 75 * SECOND_NS,
            probes: 9,
            user_timeout_ns: None,
            abort: false,
            send_limit: 1 << 20,
            receive_limit: 1 << 20,
        }
    }
}

pub struct Connection {
    pub flow: Flow,
    pub phase: Phase,
    pub owner: Owner,
    pub record: Record,
    pub settings: Settings,
    /// Received bytes that the socket they came to is gone from; they are read first.
    pub leftover: VecDeque<u8>,
    /// Why the connection is over, until somebody is told.
    pub error: Option<Code>,
    /// The peer has ended its direction; the program has ended its.
    pub peer_ended: bool,
    pub ended: bool,
    /// The sequence number behind the peer's end.
    pub fin: u32,
    /// The program reads no more.
    pub deaf: bool,
    /// A send did not find all the room it wanted.
    pub crowded: bool,
    /// Room is to grow as soon as all is acknowledged.
    pub grow_send: bool,
    pub grow_receive: bool,
    /// Until when a part of a segment is held back for what follows.
    pub hold_ns: u64,
    /// When the handshake's last segment was sent, or the peer was last heard of.
    pub heard_ns: u64,
    /// Since when something waits to be acknowledged.
    pub waiting_ns: u64,
    /// When the program last sent or received.
    pub used_ns: u64,
    /// Tries of the handshake, or probes that are not answered.
    pub tries: u32,
    pub deadline: Deadline,
    /// It is among those that have something to send.
    pub dirty: bool,
    /// It waits for its neighbour's answer.
    pub stuck: bool,
    /// What the program has not been told of yet.
    pub news: Readiness,
    pub connected: Option<Result<(), Code>>,
    pub announced: bool,
}

impl Connection {
    pub fn new(flow: Flow, phase: Phase, owner: Owner, sequence: u32, now_ns: u64) -> Self {
        let peer = Peer { maximum: 536, scale: None, selective: false, window: 0 };
        let record = Record {
            peer,
            next: sequence,
            unacknowledged: sequence,
            expected: 0,
            since: 0,
            window: 0,
            round_trip_ns: 0,
        };
        Self {
            flow,
            phase,
            owner,
            record,
            settings: Settings::default(),
            leftover: VecDeque::new(),
            error: None,
            peer_ended: false,
            ended: false,
            fin: 0,
            deaf: false,
            crowded: false,
            grow_send: false,
            grow_receive: false,
            hold_ns: 0,
            heard_ns: now_ns,
            waiting_ns: now_ns,
            used_ns: now_ns,
            tries: 0,
            deadline: Deadline::NONE,
            dirty: false,
            stuck: false,
            news: Readiness::empty(),
            connected: None,
            announced: false,
        }
    }

    /// A segment without payload from where the connection stands.
    pub fn bare(&self, flags: u8) -> Bare {
        let Record { next, expected, window, .. } = self.record;
        let acknowledged = if flags & ACK == 0 { 0 } else { expected };
        Bare { flow: self.flow, flags, sequence: next, acknowledged, window, announcement: None }
    }

    /// Bytes that can be read.
    pub fn unread(&self) -> usize {
        let waiting = match &self.phase {
            Phase::Awake(awake) => awake.view().recv_queue(),
            _ => 0,
        };
        self.leftover.len() + waiting
    }

    /// Bytes that are not acknowledged.
    pub fn unsent(&self) -> usize {
        match &self.phase {
            Phase::Awake(awake) => awake.view().send_queue(),
            _ => 0,
        }
    }

    /// Whether both directions are over.
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Lingering | Phase::Closed) || self.peer_ended && self.ended
    }

    pub fn readiness(&self) -> Readiness {
        let mut readiness = Readiness::empty();
        if matches!(self.phase, Phase::Opening | Phase::Answering) {
            return readiness;
        }
        let over = self.is_over();
        if self.unread() > 0 || self.peer_ended || over || self.deaf {
            readiness |= Readiness::READ;
        }
        if self.peer_ended || over || self.deaf {
            readiness |= Readiness::READ_END;
        }
        let room = match &self.phase {
            Phase::Awake(awake) => {
                let free = awake.send_size - awake.view().send_queue();
                !self.grow_send && free >= awake.send_size / 3
            }
            _ => true,
        };
        if room || over || self.ended {
            readiness |= Readiness::WRITE;
        }
        if over {
            readiness |= Readiness::HANGUP;
        }
        if self.error.is_some() {
            readiness |= Readiness::ERROR;
        }
        readiness
    }

    /// Whether nothing keeps the connection from sleeping.
    pub fn is_quiet(&self) -> bool {
        match &self.phase {
            Phase::Awake(awake) => {
                let socket = awake.view();
                socket.state() == State::Established && socket.send_queue() == 0 && socket.recv_queue() == 0
            }
            _ => false,
        }
    }
}
