//! Idle waits, kicks, and the timer.
//!
//! A CPU publishes that it idles, then looks whether it was kicked; a kicker leaves its mark, then looks
//! whether the CPU idles. One of them sees the other; a CPU that idles is woken (`sleep.rs`: by an interrupt, or
//! called where our VMM has it sleep), one that runs an application gets an interrupt, one that is in the library
//! OS finds the mark at its next exit. A kick of a CPU that does not idle costs an interrupt whatever it does,
//! because to know that it is in the library OS, and stays there long enough to look, would need a locked
//! instruction at every exit.
//!
//! The timer is set only when something has to happen earlier than it is set to already, so that slices
//! that begin thousands of times a second set it a hundred times.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::*};

use machine::{Cpu, Event, Patience, Slice};

use super::block::Block;
use super::sleep::{self, Attention};
use super::{clock, controller, hold, start, stub::vector};
use crate::boot::serial;
use crate::device;
use crate::memory::{flush, shortage, spaces};

const RUNNING: u32 = 0;
const IDLE: u32 = 1;
/// How long somebody else waits for a CPU.
pub const TICK_NS: u64 = 5_000_000;

/// The CPU that sleeps until a device interrupts.
static COLLECTING: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;

/// Ends a CPU's idle wait or application code.
pub fn kick(block: &Block) {
    let first = block.head.kicked.swap(1, SeqCst) == 0;
    if first && !(is_idle(block) && sleep::call(block)) {
        controller::interrupt(block, vector::KICK);
    }
}

/// Wakes a CPU that waits for something in the middle of its work, unless it is this one.
pub fn tell(block: &Block) {
    if !core::ptr::eq(block, super::current()) {
        kick(block);
    }
}

/// Whether a CPU waits, from where it goes no further without looking around.
pub fn is_idle(block: &Block) -> bool {
    block.idle.load(SeqCst) != RUNNING
}

/// Sets the timer for the slice that begins.
pub fn begin_slice(block: &Block, slice: Slice) {
    let until = match slice {
        Slice::Unlimited => return,
        Slice::Tick => None,
        Slice::Until(time_ns) => Some(time_ns),
    };
    let now_ns = clock::monotonic();
    let alarm_ns = block.alarm_ns.load(Relaxed);
    // A tick that is set already will do: a slice is about a tick long.
    if until.is_none() && alarm_ns > now_ns && alarm_ns <= now_ns + TICK_NS {
        return;
    }
    set_alarm(block, now_ns, until.unwrap_or(u64::MAX).min(now_ns + TICK_NS));
}

/// Whether a CPU sleeps until a device interrupts. If none does, the next one that sleeps looks at the devices
/// first.
pub fn is_watched() -> bool {
    COLLECTING.load(SeqCst) != NOBODY
}

/// Makes the timer interrupt at a time, or earlier. An alarm whose time has passed counts for none: its interrupt
/// may have met another one that was not acknowledged yet, and then nobody has heard it.
pub fn set_alarm(block: &Block, now_ns: u64, time_ns: u64) {
    let alarm_ns = block.alarm_ns.load(Relaxed);
    if alarm_ns > now_ns && alarm_ns <= time_ns {
        return;
    }
    block.alarm_ns.store(time_ns.max(1), Relaxed);
    let ticks = time_ns.saturating_sub(now_ns).min(u64::from(u32::MAX)) as u32;
    controller::set_timer(clock::stamp_at(time_ns).max(1), ticks);
}

/// Wakes the CPU that waits for devices, if it is another: they interrupt one alone.
pub fn pass_on(own: &Block) {
    let collecting = COLLECTING.load(SeqCst);
    if collecting != NOBODY && collecting != own.number.load(Relaxed) {
        kick(start::block(Cpu(collecting as u16)));
    }
}

/// Takes note of kicks and interrupts that have come, before anything is collected; whether there were any.
pub fn settle(block: &Block) -> bool {
    let kicked = block.head.kicked.swap(0, SeqCst) != 0;
    heed(block);
    kicked
}

/// Leaves a CPU the mark of a kick that it has taken note of and could not heed.
pub fn mark(own: &Block) {
    own.head.kicked.store(1, SeqCst);
}

/// Takes note of an interrupt that has come; a device's is for whoever waits for devices.
pub fn heed(block: &Block) {
    let vector = block.interrupted.load(Relaxed);
    let missed = block.missed.swap(false, SeqCst);
    if vector == 0 && !missed {
        return;
    }
    if vector == vector::SERIAL || missed {
        serial::interrupted();
    }
    device::interrupted();
    controller::acknowledge(block);
    if matches!(vector, vector::DEVICE | vector::SERIAL) || missed {
        pass_on(block);
    }
}

/// Looks for what devices bring for a moment; false if something has come.
fn linger(block: &Block) -> bool {
    if !sleep::is_slow() || !device::is_brisk() {
        return true;
    }
    let until_ns = clock::monotonic() + device::LOOK_NS;
    while clock::monotonic() < until_ns {
        if block.head.kicked.load(Relaxed) != 0 || device::is_ready() {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Sleeps, unless there was a kick. Meanwhile nobody waits for this CPU, neither to forget translations nor to leave
/// an application.
pub fn rest(block: &Block, until_ns: Option<u64>, attention: Attention) {
    block.idle.store(IDLE, SeqCst);
    if block.head.kicked.load(SeqCst) == 0 {
        sleep::sleep(block, until_ns, attention);
    }
    block.idle.store(RUNNING, SeqCst);
    hold::wake(block);
    flush::wake();
}

/// See [`machine::Machine::wait`]. Whoever drops a space has the CPUs that are here leave it.
pub fn wait(block: &Block, patience: Patience, collect: bool, events: &mut Vec<Event>) {
    idle(block, patience, collect, events);
    spaces::leave_dropped();
}

fn idle(block: &Block, patience: Patience, collect: bool, events: &mut Vec<Event>) {
    let before = events.len();
    // The caller may be a system call, through which the mark of a kick stays.
    let kicked = match patience {
        Patience::None => {
            heed(block);
            false
        }
        _ => settle(block),
    };
    if collect {
        collect_events(events);
    }
    if kicked || matches!(patience, Patience::None | Patience::LOOK) || events.len() > before {
        return;
    }
    if collect {
        COLLECTING.store(block.number.load(Relaxed), SeqCst);
    }
    let quiet = !collect || linger(block) && device::await_events();
    if quiet {
        // Devices may have something due as well, which the collecting CPU sees to.
        let due_ns = if collect { device::due_ns() } else { None };
        let until_ns = match (patience, due_ns) {
            (Patience::Until(time_ns), Some(due_ns)) => Some(time_ns.min(due_ns)),
            (Patience::Until(time_ns), None) => Some(time_ns),
            (_, due_ns) => due_ns,
        };
        rest(block, until_ns, if collect { Attention::Attentive } else { Attention::None });
    }
    settle(block);
    if collect {
        COLLECTING.store(NOBODY, SeqCst);
        device::look_away();
        collect_events(events);
    }
}

fn collect_events(events: &mut Vec<Event>) {
    device::collect(events);
    shortage::tell(events);
}
