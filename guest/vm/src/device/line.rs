//! The console's line by virtio (virtio 1.2, 5.3): one port, of bytes both ways.
//!
//! Bytes out are copied, so that who writes need not wait; only a line that is full for as long as nobody at the
//! other end reads is waited for. What the device says it has received is believed in its length alone, which the
//! queue has judged.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use spin::{Mutex, Once};

use super::wait;
use crate::virtio::queue::{self, Queue};
use crate::virtio::{Device, Transport, Unusable};

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Chains of each direction.
const CHAINS: u16 = 32;
/// Bytes of a buffer.
const LENGTH: usize = 512;

struct State {
    receive: Queue,
    arriving: Vec<[u8; LENGTH]>,
    /// Bytes that have come and nobody has taken, from the end of the list.
    arrived: Vec<u8>,
    transmit: Queue,
    leaving: Vec<[u8; LENGTH]>,
    free: Vec<u32>,
}

struct Line {
    transport: Box<dyn Transport>,
    state: Mutex<State>,
}

static LINE: Once<Line> = Once::new();

/// Takes the device over.
pub fn begin(device: Device) -> Result<(), Unusable> {
    let (receive, transmit) = (device.queue(RECEIVE, CHAINS)?, device.queue(TRANSMIT, CHAINS)?);
    // These never move: the device knows where they are.
    let buffers = || vec![[0; LENGTH]; usize::from(CHAINS)];
    let (arriving, leaving) = (buffers(), buffers());
    // The device may want fewer under way.
    let (lent, most) = (CHAINS.min(receive.room() as u16), CHAINS.min(transmit.room() as u16));
    let free = (0..u32::from(most)).collect();
    let mut state = State { receive, arriving, arrived: vec![], transmit, leaving, free };
    let transport = device.finish();
    (0..u32::from(lent)).for_each(|number| state.lend(number));
    state.receive.tell();
    state.receive.await_next();
    LINE.call_once(|| Line { transport, state: Mutex::new(state) });
    Ok(())
}

impl State {
    /// Lends a buffer to be filled.
    fn lend(&mut self, number: u32) {
        let part = queue::writable(&mut self.arriving[number as usize][..]);
        // There are as many chains as buffers that are lent.
        let _ = self.receive.push(&[part], number);
    }

    /// Takes what has come.
    fn collect(&mut self) {
        while let Some((number, length)) = self.receive.pop() {
            let bytes = &self.arriving[number as usize][..length];
            self.arrived.splice(..0, bytes.iter().rev().copied());
            self.lend(number);
        }
        self.receive.tell();
    }
}

pub fn is_there() -> bool {
    LINE.get().is_some()
}

/// Whether something has come; if not, an interrupt is wanted for what comes next.
pub fn is_ready() -> bool {
    LINE.get().is_some_and(|line| {
        let mut state = line.state.lock();
        // What nobody takes stays with the device, and so does the rest of what it is sent.
        if state.arrived.is_empty() {
            state.collect();
        }
        !state.receive.await_next() || !state.arrived.is_empty()
    })
}

/// A received byte.
pub fn read() -> Option<u8> {
    let mut state = LINE.get()?.state.lock();
    if state.arrived.is_empty() {
        state.collect();
    }
    state.arrived.pop()
}

/// Writes bytes.
pub fn write(bytes: &[u8]) {
    let Some(line) = LINE.get() else { return };
    for bytes in bytes.chunks(LENGTH) {
        loop {
            let mut state = line.state.lock();
            while let Some((number, _)) = state.transmit.pop() {
                state.free.push(number);
            }
            let Some(number) = state.free.pop() else {
                drop(state);
                wait::pause(wait::FOR_EVER, || line.state.lock().transmit.await_next());
                continue;
            };
            let buffer = &mut state.leaving[number as usize];
            buffer[..bytes.len()].copy_from_slice(bytes);
            let part = queue::readable(&buffer[..bytes.len()]);
            // There are as many chains as buffers.
            let _ = state.transmit.push(&[part], number);
            state.transmit.tell();
            break;
        }
    }
}

pub fn acknowledge() {
    if let Some(line) = LINE.get() {
        line.transport.acknowledge();
    }
}
