//! Idle waits, and how they and application code are ended from elsewhere.
//!
//! A CPU publishes how it idles, then looks whether it was kicked; a kicker leaves its mark, then looks
//! how the CPU idles: one of them sees the other. A CPU that does not idle gets a signal, whether it
//! runs application code or the library OS: to know which, entering an application would need a
//! locked instruction. The mark alone stops the next entry, and a marked CPU gets no second signal. One that
//! goes to another process says so, then looks at the mark before it enters an application there: a signal
//! to where it was is not missed.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::*};

use abi::pico::descriptor;
use linux_raw_sys::general as linux;
use machine::{Event, Patience};

use crate::local::Local;
use crate::{device, host, signal, space, ticker, vdso};

const RUNNING: u32 = 0;
/// Asleep on its own `idle` word.
const ASLEEP: u32 = 1;
/// Waits for device events.
const COLLECTING: u32 = 2;

/// Whether some CPU waits for device events, or is about to.
static COLLECTED: AtomicU32 = AtomicU32::new(0);

/// Ends a CPU's idle wait or application code.
pub fn kick(local: &Local) {
    if local.head.kicked.swap(1, SeqCst) != 0 {
        return;
    }
    match local.idle.load(SeqCst) {
        ASLEEP => {
            local.idle.store(RUNNING, SeqCst);
            host::futex_wake(&local.idle, 1);
        }
        COLLECTING => wake_collector(),
        _ => signal(local),
    }
}

/// Sends a CPU's thread the kick's signal, whatever it does.
pub fn signal(local: &Local) {
    let (process, thread) = local.runs();
    let arguments = [process.into(), thread.into(), signal::KICK.into()];
    // SAFETY: no memory is named; the handler for the kick stands.
    let _ = unsafe { host::call(linux::__NR_tgkill, arguments) };
}

/// Whether a CPU waits in `wait`, from which it goes no further without looking around.
pub fn is_idle(local: &Local) -> bool {
    local.idle.load(SeqCst) != RUNNING
}

/// Something was finished that the collecting CPU should see.
pub fn completed() {
    if COLLECTED.swap(0, SeqCst) != 0 {
        wake_collector();
    }
}

fn wake_collector() {
    let one = 1u64;
    let part = [&raw const one as u64, 8];
    // SAFETY: the kernel reads the locals.
    let _ = unsafe {
        host::call(linux::__NR_pwritev2, [descriptor::WAKE as u64, part.as_ptr() as u64, 1, u64::MAX, 0, 0])
    };
}

/// See [`machine::Machine::wait`].
pub fn wait(local: &Local, patience: Patience, collect: bool, events: &mut Vec<Event>) {
    space::leave_dropped(local);
    let before = events.len();
    if collect {
        device::collect(events);
    }
    if patience != Patience::None {
        ticker::end(local);
    }
    if matches!(patience, Patience::None | Patience::LOOK) || events.len() > before {
        if collect {
            device::poll(Some(0), events);
        }
        return match patience {
            Patience::None => space::serve(local),
            _ => settle(local),
        };
    }
    let timeout = match patience {
        Patience::Until(time) => Some(time.saturating_sub(vdso::monotonic())),
        _ => None,
    };
    local.idle.store(if collect { COLLECTING } else { ASLEEP }, SeqCst);
    if collect {
        COLLECTED.store(1, SeqCst);
        // What was finished before that mark woke nobody.
        device::linger(&local.head.kicked, events);
        let early = device::collect(events) || !events.is_empty() || local.head.kicked.load(SeqCst) != 0;
        device::poll(if early { Some(0) } else { timeout }, events);
        COLLECTED.store(0, SeqCst);
        device::collect(events);
    } else if local.head.kicked.load(SeqCst) == 0 {
        host::futex_wait(&local.idle, ASLEEP, timeout);
    }
    local.idle.store(RUNNING, SeqCst);
    settle(local);
    space::leave_dropped(local);
}

/// Takes note of a kick.
fn settle(local: &Local) {
    local.head.kicked.swap(0, AcqRel);
    space::serve(local);
}
