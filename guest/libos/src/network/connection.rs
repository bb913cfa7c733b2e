//! A connection inside the island: two directions of bytes, for local streams and loopback.
//!
//! Descriptors and credentials are marked at the stream position of the first byte they were sent with;
//! a read delivers one mark at most and stops before the next (unix(7)). Queues are told after a flow's
//! lock is released; no two flows are locked at once.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use abi::network::Shutdown;
use spin::Mutex;

use super::message::{Ancillary, Outgoing, Received, flag};
use crate::errno::{Errno, Result};
use crate::file::event;
use crate::file::pipe::broken;
use crate::file::ring::{Ring, Sink};
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// Bytes under way in one direction.
const CAPACITY: usize = 208 << 10;
/// Room that must be free before a writer is told of it.
const ROOM: usize = CAPACITY / 4;

struct Mark {
    start: u64,
    end: u64,
    ancillary: Ancillary,
}

/// One direction.
struct Flow {
    ring: Ring,
    /// Bytes ever read.
    taken: u64,
    marks: VecDeque<Mark>,
    /// The writer has ended it.
    ended: bool,
    /// The reader wants no more.
    refused: bool,
}

impl Flow {
    fn new() -> Arc<Mutex<Self>> {
        let ring = Ring::new(CAPACITY);
        Arc::new(Mutex::new(Self { ring, taken: 0, marks: VecDeque::new(), ended: false, refused: false }))
    }
}

/// One end of a connection.
pub struct Connection {
    incoming: Arc<Mutex<Flow>>,
    outgoing: Arc<Mutex<Flow>>,
    own: Arc<WaitQueue>,
    peer: Arc<WaitQueue>,
}

impl Connection {
    /// Both ends, given the queues of those who wait at each.
    pub fn pair(first: &Arc<WaitQueue>, second: &Arc<WaitQueue>) -> (Self, Self) {
        let (there, back) = (Flow::new(), Flow::new());
        let end = |incoming: &Arc<_>, outgoing: &Arc<_>, own: &Arc<_>, peer: &Arc<_>| Self {
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            own: Arc::clone(own),
            peer: Arc::clone(peer),
        };
        (end(&back, &there, first, second), end(&there, &back, second, first))
    }

    pub fn send(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) -> Result<Option<usize>> {
        let mut flow = self.outgoing.lock();
        if flow.refused || flow.ended {
            drop(flow);
            let silent = outgoing.flags & flag::NO_SIGNAL != 0;
            return Err(if silent { Errno::EPIPE } else { broken(thread) });
        }
        let length = outgoing.from.length();
        if length == 0 {
            return Ok(Some(0));
        }
        if flow.ring.free() == 0 {
            return Ok(None);
        }
        let start = flow.taken + flow.ring.length() as u64;
        let count = flow.ring.fill(&outgoing.from, usize::MAX)?;
        if !outgoing.ancillary.is_empty() {
            let ancillary = core::mem::take(&mut outgoing.ancillary);
            flow.marks.push_back(Mark { start, end: start + count as u64, ancillary });
        }
        drop(flow);
        self.peer.notify();
        Ok(Some(count))
    }

    pub fn receive(&self, mut to: Sink<'_>, flags: u32) -> Result<Option<Received>> {
        let mut flow = self.incoming.lock();
        if flow.ring.is_empty() {
            let over = flow.ended || flow.refused;
            return Ok(if over { Some(Received::default()) } else { None });
        }
        let mut limit = u64::MAX;
        let mut at_mark = false;
        if let Some(mark) = flow.marks.front() {
            at_mark = mark.start == flow.taken;
            limit = if at_mark { mark.end } else { mark.start } - flow.taken;
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if flags & flag::PEEK != 0 {
            return Ok(Some(Received::bytes(flow.ring.peek(&mut to, limit)?)));
        }
        let had_room = flow.ring.free() >= ROOM;
        let count = flow.ring.drain(&mut to, limit)?;
        let mut received = Received::bytes(count);
        if at_mark
            && count > 0
            && let Some(mark) = flow.marks.pop_front()
        {
            received.ancillary = mark.ancillary;
        }
        flow.taken += count as u64;
        let relieved = !had_room && flow.ring.free() >= ROOM;
        drop(flow);
        if relieved {
            self.peer.notify();
        }
        Ok(Some(received))
    }

    pub fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Write {
            self.incoming.lock().refused = true;
        }
        if how != Shutdown::Read {
            self.outgoing.lock().ended = true;
        }
        self.own.notify();
        self.peer.notify();
    }

    /// The end is gone: what was sent can still be read, what was not read is lost.
    pub fn close(&self) {
        self.shutdown(Shutdown::Both);
        let marks = core::mem::take(&mut self.incoming.lock().marks);
        drop(marks);
    }

    pub fn unread(&self) -> usize {
        self.incoming.lock().ring.length()
    }

    pub fn unsent(&self) -> usize {
        self.outgoing.lock().ring.length()
    }

    pub fn events(&self) -> u32 {
        let mut events = 0;
        let incoming_over = {
            let flow = self.incoming.lock();
            let over = flow.ended || flow.refused;
            if over || !flow.ring.is_empty() {
                events |= event::IN | event::READ_NORMAL;
            }
            if over {
                events |= event::READ_HANGUP;
            }
            over
        };
        let flow = self.outgoing.lock();
        let outgoing_over = flow.ended || flow.refused;
        if outgoing_over || flow.ring.free() >= ROOM {
            events |= event::OUT | event::WRITE_NORMAL;
        }
        if incoming_over && outgoing_over {
            events |= event::HANGUP;
        }
        events
    }
}
