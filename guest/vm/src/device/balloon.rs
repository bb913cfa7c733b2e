//! Giving memory back that nobody uses (virtio 1.2, 5.5, free page reporting).
//!
//! Whole blocks that are free go to the host when their number has not changed for a while: until then they are
//! as likely to be taken again, and both ways cost. A block that is under way is nobody's, so that what the host
//! makes of it meets no one; when it is taken again, its content is whatever it is, as that of any free block.
//! The device is set up when there is first something to say: most services end before.

use alloc::boxed::Box;
use alloc::vec::Vec;

use spin::{Mutex, Once};

use crate::cpu::clock;
use crate::memory::frame;
use crate::memory::layout::LARGE;
use crate::virtio::queue::{Part, Queue};
use crate::virtio::{Device, Transport};

const REPORTING: u64 = 1 << 5;
/// The queue of reports, where what lies between has not been agreed on.
const REPORTS: u16 = 2;
/// Blocks of one report.
const MOST: u16 = 32;
/// How long the number of free blocks stays what it is before they are given back.
const PATIENCE_NS: u64 = 1_000_000_000;

struct State {
    transport: Option<Box<dyn Transport>>,
    queue: Option<Queue>,
    /// Blocks under way.
    lent: Vec<u64>,
    /// What was seen of free blocks, and since when; none: what there is, is too little to lend.
    changes: u64,
    since_ns: Option<u64>,
}

static BALLOON: Once<Mutex<State>> = Once::new();

/// Notes that the device is there.
pub fn begin(transport: Box<dyn Transport>) {
    BALLOON.call_once(|| {
        let transport = Some(transport);
        Mutex::new(State { transport, queue: None, lent: Vec::new(), changes: 0, since_ns: None })
    });
}

/// When free blocks are to be given back, if nothing changes before.
pub fn due_ns() -> Option<u64> {
    BALLOON.get()?.lock().due_ns()
}

/// Takes back what was given, and gives what is due.
pub fn collect() {
    let Some(balloon) = BALLOON.get() else { return };
    let mut state = balloon.lock();
    if let Some(queue) = &mut state.queue
        && queue.pop().is_some()
    {
        state.lent.drain(..).for_each(frame::lent);
    }
    if state.due_ns().is_some_and(|due_ns| due_ns <= clock::monotonic()) {
        state.report();
    }
}

/// Wants an interrupt for what comes back; false if it has.
pub fn await_next() -> bool {
    let Some(balloon) = BALLOON.get() else { return true };
    balloon.lock().queue.as_mut().is_none_or(Queue::await_next)
}

impl State {
    fn due_ns(&mut self) -> Option<u64> {
        let (any, changes) = frame::touched();
        if !any || !self.lent.is_empty() || self.transport.is_none() && self.queue.is_none() {
            return None;
        }
        if changes != self.changes {
            (self.changes, self.since_ns) = (changes, Some(clock::monotonic()));
        }
        Some(self.since_ns? + PATIENCE_NS)
    }

    fn report(&mut self) {
        if let Some(transport) = self.transport.take() {
            self.queue = set_up(transport);
        }
        let Some(queue) = &mut self.queue else { return };
        self.lent = frame::lend(queue.room());
        // Lending is a change of our own: nobody has to wait for what that leads to.
        self.changes = frame::touched().1;
        if self.lent.is_empty() {
            self.since_ns = None;
            return;
        }
        let part = |address: &u64| Part { address: *address, length: LARGE as u32, writable: true };
        let parts: Vec<Part> = self.lent.iter().map(part).collect();
        queue.push(&parts, 0).expect("invariant: no more was lent than there is room for");
        queue.tell();
    }
}

/// The queue of reports; none if the device does not take any.
fn set_up(transport: Box<dyn Transport>) -> Option<Queue> {
    let device = Device::begin(transport, REPORTING).ok()?;
    if !device.has(REPORTING) {
        return None;
    }
    let queue = device.queue(REPORTS, MOST).ok()?;
    // Interrupts need no answer where this device is.
    let _ = device.finish();
    Some(queue)
}
