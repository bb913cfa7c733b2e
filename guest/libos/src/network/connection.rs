//! A connection inside the island: two directions of bytes, for local streams and loopback.
//!
//! Descriptors and credentials are marked at the stream position of the first byte they were sent with;
//! a read delivers one mark at most and stops behind its bytes (unix(7)). The urgent byte of a TCP stream
//! stands beside the others, with its position. Queues are told after a flow's lock is released; no two
//! flows are locked at once.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::lock::Mutex;
use abi::network::Shutdown;

use super::message::{Ancillary, Outgoing, Received, flag};
use crate::errno::{Errno, Result};
use crate::file::pipe::broken;
use crate::file::ring::{Ring, Sink};
use crate::file::{Description, event};
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// Bytes under way in one direction.
const CAPACITY: usize = 208 << 10;
/// Room that must be free before a writer is told of it.
const ROOM: usize = CAPACITY / 4;
/// Bytes that go to somebody who is gone before the answer comes: what a send buffer begins with (tcp(7), tcp_wmem).
const UNANSWERED: usize = 16 << 10;

struct Mark {
    start: u64,
    end: u64,
    ancillary: Ancillary,
}

/// The urgent byte of a stream (tcp(7), MSG_OOB), until the next one.
struct Urgent {
    /// The stream position that it has, without being there.
    position: u64,
    /// `None` when it has been read.
    byte: Option<u8>,
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
    /// The reader waits for no more, which a writer over a network does not hear of.
    deaf: bool,
    /// The reader is gone, and the writer has not sent anything since: on a network it takes an answer to know.
    unaware: bool,
    /// The writer is gone and has lost something: the reader is to hear of it, once.
    reset: bool,
    urgent: Option<Urgent>,
}

impl Flow {
    fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            ring: Ring::new(CAPACITY),
            taken: 0,
            marks: VecDeque::new(),
            ended: false,
            refused: false,
            deaf: false,
            unaware: false,
            reset: false,
            urgent: None,
        }))
    }

    /// Whether the reader need not wait.
    fn is_ended(&self) -> bool {
        self.ended || self.refused || self.deaf
    }

    /// Whether the writer knows that there is nothing more to be written.
    fn is_over(&self) -> bool {
        self.ended || self.refused && !self.unaware
    }

    /// The position of the next byte to be written.
    fn end(&self) -> u64 {
        self.taken + self.ring.length() as u64
    }

    /// How far one read goes at most: to the end of the bytes that descriptors came with, and never over
    /// another's credentials or an urgent byte.
    fn reach(&self) -> usize {
        let mark = self.marks.front().map(|mark| {
            let before = mark.start > self.taken && mark.ancillary.rights.is_empty();
            if before { mark.start } else { mark.end }
        });
        let urgent = self.urgent.as_ref().map(|urgent| urgent.position).filter(|at| *at > self.taken);
        let until = mark.into_iter().chain(urgent).min().unwrap_or(u64::MAX);
        usize::try_from(until - self.taken).unwrap_or(usize::MAX)
    }

    /// What came with the first `count` bytes.
    fn ancillary(&mut self, count: usize, peek: bool) -> Ancillary {
        match self.marks.front() {
            Some(mark) if mark.start < self.taken + count as u64 => {
                if peek {
                    return mark.ancillary.clone();
                }
                // Moved: files that were dropped here would be closed with the flow locked.
                self.marks.pop_front().map(|mark| mark.ancillary).unwrap_or_default()
            }
            _ => Ancillary::default(),
        }
    }

    /// Whether the next byte in order is an urgent one that has not been read.
    fn urgent_is_next(&self) -> bool {
        self.urgent.as_ref().is_some_and(|urgent| urgent.position == self.taken && urgent.byte.is_some())
    }

    fn receive_urgent(&mut self, to: &mut Sink<'_>, peek: bool) -> Result<Option<Received>> {
        let urgent = self.urgent.as_mut().ok_or(Errno::EINVAL)?;
        let byte = urgent.byte.ok_or(Errno::EINVAL)?;
        let count = to.copy(0, &[byte])?;
        if !peek && count > 0 {
            urgent.byte = None;
        }
        Ok(Some(Received::bytes(count)))
    }
}

/// One end of a connection.
pub struct Connection {
    incoming: Arc<Mutex<Flow>>,
    outgoing: Arc<Mutex<Flow>>,
    own: Arc<WaitQueue>,
    peer: Arc<WaitQueue>,
    /// Behaves as one over a network.
    network: bool,
}

impl Connection {
    /// Both ends, given the queues of those who wait at each.
    pub fn pair(first: &Arc<WaitQueue>, second: &Arc<WaitQueue>, network: bool) -> (Self, Self) {
        let (there, back) = (Flow::new(), Flow::new());
        let end = |incoming: &Arc<_>, outgoing: &Arc<_>, own: &Arc<_>, peer: &Arc<_>| Self {
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            own: Arc::clone(own),
            peer: Arc::clone(peer),
            network,
        };
        (end(&back, &there, first, second), end(&there, &back, second, first))
    }

    pub fn send(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) -> Result<Option<usize>> {
        let mut flow = self.outgoing.lock();
        if flow.is_over() {
            drop(flow);
            if self.network && core::mem::take(&mut self.incoming.lock().reset) {
                return Err(Errno::ECONNRESET);
            }
            let silent = outgoing.flags & flag::NO_SIGNAL != 0;
            return Err(if silent { Errno::EPIPE } else { broken(thread) });
        }
        let length = outgoing.from.length();
        if length == 0 {
            return Ok(Some(0));
        }
        if core::mem::take(&mut flow.unaware) {
            drop(flow);
            self.own.notify();
            return Ok(Some(length.min(UNANSWERED)));
        }
        if flow.ring.free() == 0 {
            return Ok(None);
        }
        let start = flow.end();
        let urgent = outgoing.flags & flag::OUT_OF_BAND != 0;
        let mut count = flow.ring.fill(&outgoing.from, length - usize::from(urgent))?;
        if urgent && count + 1 == length {
            let mut byte = [0];
            outgoing.from.copy(count, &mut byte)?;
            flow.urgent = Some(Urgent { position: flow.end(), byte: Some(byte[0]) });
            count += 1;
        }
        if !outgoing.ancillary.is_empty() {
            let ancillary = core::mem::take(&mut outgoing.ancillary);
            flow.marks.push_back(Mark { start, end: start + count as u64, ancillary });
        }
        drop(flow);
        self.peer.notify();
        Ok(Some(count))
    }

    /// Shows the open files that have come and wait.
    pub fn waiting_rights(&self, each: &mut dyn FnMut(&mut Vec<Arc<Description>>)) {
        self.incoming.lock().marks.iter_mut().for_each(|mark| each(&mut mark.ancillary.rights));
    }

    /// Reads; `inline` has urgent bytes in their place among the others (SO_OOBINLINE).
    pub fn receive(&self, mut to: Sink<'_>, flags: u32, inline: bool) -> Result<Option<Received>> {
        let mut flow = self.incoming.lock();
        let peek = flags & flag::PEEK != 0;
        if flags & flag::OUT_OF_BAND != 0 {
            return if inline { Err(Errno::EINVAL) } else { flow.receive_urgent(&mut to, peek) };
        }
        if inline && flow.urgent_is_next() {
            return flow.receive_urgent(&mut to, peek);
        }
        if flow.ring.is_empty() {
            if core::mem::take(&mut flow.reset) {
                return Err(Errno::ECONNRESET);
            }
            return Ok(if flow.is_ended() { Some(Received::default()) } else { None });
        }
        let reach = flow.reach();
        if peek {
            let count = flow.ring.peek(&mut to, reach)?;
            let ancillary = flow.ancillary(count, true);
            return Ok(Some(Received { ancillary, ..Received::bytes(count) }));
        }
        let had_room = flow.ring.free() >= ROOM;
        let count = flow.ring.drain(&mut to, reach)?;
        let ancillary =
            if flow.marks.is_empty() { Ancillary::default() } else { flow.ancillary(count, false) };
        let received = Received { ancillary, ..Received::bytes(count) };
        flow.taken += count as u64;
        let relieved = !had_room && flow.ring.free() >= ROOM;
        drop(flow);
        if relieved {
            self.peer.notify();
        }
        Ok(Some(received))
    }

    /// Over a network the other end may still send if nothing more is read; of the end of both directions it hears
    /// when it has sent something.
    pub fn shutdown(&self, how: Shutdown) {
        if how != Shutdown::Write {
            let mut incoming = self.incoming.lock();
            incoming.deaf = true;
            incoming.refused |= !self.network || how == Shutdown::Both;
            incoming.unaware |= self.network && how == Shutdown::Both && !incoming.ended;
        }
        if how != Shutdown::Read {
            self.outgoing.lock().ended = true;
        }
        self.own.notify();
        self.peer.notify();
    }

    /// The end is gone: what was sent can still be read, what was not read is lost. The other end hears
    /// of a reset if anything was, or if the program wants one (SO_LINGER); else, over a network, the first bytes that
    /// it sends after this go nowhere without its knowing.
    pub fn close(&self, abort: bool) {
        let mut incoming = self.incoming.lock();
        let lost = abort || !incoming.ring.is_empty();
        incoming.refused = true;
        incoming.unaware = self.network && !lost && !incoming.ended;
        let marks = core::mem::take(&mut incoming.marks);
        drop(incoming);
        drop(marks);
        let mut outgoing = self.outgoing.lock();
        outgoing.ended = true;
        outgoing.reset = lost;
        drop(outgoing);
        self.own.notify();
        self.peer.notify();
    }

    /// Whether the other end is gone.
    pub fn is_left(&self) -> bool {
        self.incoming.lock().ended && self.outgoing.lock().refused
    }

    /// SO_ERROR: whether the other end has reset the connection; forgets it.
    pub fn take_error(&self) -> Option<Errno> {
        core::mem::take(&mut self.incoming.lock().reset).then_some(Errno::ECONNRESET)
    }

    /// Whether the next byte is where the urgent one was.
    pub fn at_mark(&self) -> bool {
        let flow = self.incoming.lock();
        flow.urgent.as_ref().is_some_and(|urgent| urgent.position == flow.taken)
    }

    pub fn unread(&self) -> usize {
        self.incoming.lock().ring.length()
    }

    pub fn unsent(&self) -> usize {
        self.outgoing.lock().ring.length()
    }

    pub fn events(&self, inline: bool) -> u32 {
        let mut events = 0;
        let incoming_over = {
            let flow = self.incoming.lock();
            let over = flow.is_ended();
            if over || !flow.ring.is_empty() || inline && flow.urgent_is_next() {
                events |= event::IN | event::READ_NORMAL;
            }
            if over {
                events |= event::READ_HANGUP;
            }
            if flow.reset {
                events |= event::ERROR;
            }
            if flow.urgent.as_ref().is_some_and(|urgent| urgent.byte.is_some()) {
                events |= event::PRIORITY;
            }
            over
        };
        let flow = self.outgoing.lock();
        let outgoing_over = flow.is_over();
        if outgoing_over || flow.ring.free() >= ROOM {
            events |= event::OUT | event::WRITE_NORMAL;
        }
        if incoming_over && outgoing_over {
            events |= event::HANGUP;
        }
        events
    }
}
