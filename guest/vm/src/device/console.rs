//! The console of a machine without our monitor: a line by virtio, else its serial line.
//!
//! Bytes out are written at once, with a carriage return before each new line, as terminals at the other
//! end of a line expect.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Code, Handle};
use machine::{Event, Readiness, Sink, Source, Transfer};
use spin::Mutex;

use super::{line, user};
use crate::boot::serial;
use crate::code::EFAULT;

/// Bytes written at once, at most.
const MOST: usize = 4096;

#[derive(Default)]
pub struct Console {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    watched: Option<Handle>,
    /// It was reported that something has come, and nobody has read all of it since: who does not care for what is
    /// typed hears of it once.
    told: bool,
}

/// The console, once it is granted.
static CONSOLE: spin::Once<Arc<Console>> = spin::Once::new();

pub fn the() -> Arc<Console> {
    CONSOLE.call_once(|| Arc::new(Console::default())).clone()
}

/// Writes bytes on the line there is.
fn put(bytes: &[u8]) {
    if line::is_there() { line::write(bytes) } else { serial::write(bytes) }
}

/// A byte that has come.
fn take() -> Option<u8> {
    if line::is_there() { line::read() } else { serial::read() }
}

impl Console {
    pub fn watch(&self, handle: Handle) {
        *self.state.lock() = State { watched: Some(handle), told: false };
    }

    pub fn write(&self, from: Source<'_>) -> Result<Transfer, Code> {
        let from = user::Source::new(from);
        let length = from.length().min(MOST);
        let mut bytes = Vec::with_capacity(length);
        from.take(0, length, &mut bytes).map_err(|_| EFAULT)?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    put(line);
                    put(b"\r\n");
                }
                None => put(line),
            }
        }
        Ok(Transfer::Done(length))
    }

    pub fn read(&self, to: Sink<'_>) -> Result<Transfer, Code> {
        let mut to = user::Sink::new(to);
        let mut state = self.state.lock();
        let mut done = 0;
        while to.room() > 0
            && let Some(byte) = take()
        {
            done += to.put(&[if byte == b'\r' { b'\n' } else { byte }]).map_err(|_| EFAULT)?;
        }
        // With room left, all was read.
        state.told &= to.room() == 0;
        Ok(if done > 0 || to.room() == 0 { Transfer::Done(done) } else { Transfer::NotReady })
    }
}

/// Reports what has been typed.
pub fn collect(events: &mut Vec<Event>) {
    let Some(console) = CONSOLE.get() else { return };
    let mut state = console.state.lock();
    let Some(handle) = state.watched else { return };
    // Asked in any case: the line wants an interrupt for what comes next by it.
    if (line::is_ready() || serial::has_news()) && !core::mem::replace(&mut state.told, true) {
        events.push(Event::Ready { handle, readiness: Readiness::READ });
    }
}
