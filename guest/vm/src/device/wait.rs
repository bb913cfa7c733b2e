//! Waiting for a transfer or an answer in the middle of something that cannot be left: a page fault, a copy in the
//! library OS's own memory, the guest's end.
//!
//! Whoever waits serves the devices meanwhile. What the library OS is told of that is left for the next collection.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use abi::Code;
use machine::Event;
use spin::Mutex;

use super::{LOOK_NS, disk, errand};
use crate::code::EIO;
use crate::cpu::sleep::{self, Attention};
use crate::cpu::{self, clock, idle};

/// Until when who cannot fail is waited for.
pub const FOR_EVER: u64 = u64::MAX;

/// Until when who may stop to answer is waited for.
pub fn end_ns() -> u64 {
    const PATIENCE_NS: u64 = 30_000_000_000;
    clock::monotonic() + PATIENCE_NS
}

/// What was found for the library OS.
static LEFT: Mutex<Vec<Event>> = Mutex::new(Vec::new());

/// Leaves what the library OS is to be told.
pub fn leave(mut events: Vec<Event>) {
    if events.is_empty() {
        return;
    }
    LEFT.lock().append(&mut events);
    // Whoever sleeps until something is finished has to hear of it.
    idle::pass_on(cpu::current());
}

/// Adds what was left.
pub fn collect(events: &mut Vec<Event>) {
    events.append(&mut LEFT.lock());
}

/// Whether nothing was left.
pub fn is_quiet() -> bool {
    LEFT.lock().is_empty()
}

/// Starts something and waits until a time for what it tells; EIO if it does not.
pub fn until_told<T: Send + 'static>(
    end_ns: u64,
    start: impl FnOnce(Box<dyn FnOnce(T) + Send>) -> Result<(), Code>,
) -> Result<T, Code> {
    let answer = Arc::new(Mutex::new(None));
    let (given, waiter) = (answer.clone(), cpu::current());
    start(Box::new(move |told| {
        *given.lock() = Some(told);
        idle::tell(waiter);
    }))?;
    until(end_ns, || answer.lock().take()).ok_or(EIO)
}

/// Serves devices until there is something, or until a time. Another CPU that brings it about has to tell this one
/// ([`idle::tell`]).
pub fn until<T>(end_ns: u64, there: impl Fn() -> Option<T>) -> Option<T> {
    let mut found;
    loop {
        found = there();
        if found.is_some() || clock::monotonic() >= end_ns {
            break;
        }
        let mut events = Vec::new();
        // Both, whether the first finds anything or not.
        let any = errand::collect(&mut events) | disk::collect(&mut events);
        leave(events);
        if any {
            continue;
        }
        pause(end_ns, || {
            found = there();
            found.is_none() && await_next()
        });
        if found.is_some() {
            break;
        }
    }
    hand_back();
    found
}

/// Wants an interrupt for the next transfer that ends; false if one has.
fn await_next() -> bool {
    errand::await_next() & disk::await_next()
}

/// Whoever sleeps until something is finished wanted an interrupt for what was next then. What has been taken
/// from under it was that, so another interrupt is wanted in its name.
fn hand_back() {
    if !await_next() {
        idle::pass_on(cpu::current());
    }
}

/// Waits for a device, or until a time, on behalf of who cannot go on without it; `quiet` looks whether there is
/// something already, wants an interrupt, and tells whether it will come. It may be over earlier.
///
/// The mark of a kick is for who can heed it, and stays for that; but as long as it stood this CPU could not sleep. So
/// it is taken off meanwhile: who kicks from then on ends the sleep, and what anybody has kicked for before, `quiet`
/// finds.
pub fn pause(end_ns: u64, quiet: impl FnOnce() -> bool) {
    let (block, now_ns) = (cpu::current(), clock::monotonic());
    let kicked = idle::settle(block);
    if quiet() {
        let mut until_ns = end_ns;
        if sleep::is_slow() {
            while clock::monotonic() < now_ns + LOOK_NS && block.interrupted.load(Relaxed) == 0 {
                core::hint::spin_loop();
            }
            // Devices interrupt one CPU alone, which may be waiting for what this one has: nothing but time is sure
            // to end a halt.
            until_ns = end_ns.min(now_ns + idle::TICK_NS);
        }
        idle::rest(block, Some(until_ns).filter(|until_ns| *until_ns != FOR_EVER), Attention::Curious);
        idle::heed(block);
    }
    if kicked {
        idle::mark(block);
    }
}
