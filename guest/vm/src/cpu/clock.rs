//! Clocks: the time-stamp counter, and how fast it runs.
//!
//! Its frequency is told by whoever boots us, by the processor, by the hypervisor, or is measured against
//! a clock that is known: the interrupt controller's in QEMU's emulation (1 GHz), else the interval timer.
//! It is taken to be the same on all CPUs, as on every processor of this century that has what we ask for.

use core::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc};
use core::sync::atomic::{AtomicU64, Ordering::*};

use machine::Now;

use super::{controller, port};

/// Nanoseconds per tick of the counter, times 2^32.
static SCALE: AtomicU64 = AtomicU64::new(0);
/// The counter at the start, and the time since the epoch then.
static START: AtomicU64 = AtomicU64::new(0);
static EPOCH_NS: AtomicU64 = AtomicU64::new(0);

fn stamp() -> u64 {
    // SAFETY: every 64-bit processor has it.
    unsafe { _rdtsc() }
}

/// Whether the timer can be set by the counter.
pub fn has_deadline() -> bool {
    __cpuid(1).ecx & 1 << 24 != 0
}

/// Begins to count; what the boot loader knows comes first.
pub fn begin(kilohertz: Option<u64>, realtime_ns: Option<u64>) {
    let kilohertz = kilohertz.or_else(told).unwrap_or_else(measured).max(1);
    SCALE.store(((1_000_000u128 << 32) / u128::from(kilohertz)) as u64, Relaxed);
    START.store(stamp(), Relaxed);
    EPOCH_NS.store(realtime_ns.unwrap_or_else(|| calendar() * 1_000_000_000), Relaxed);
}

/// Takes over a time since the epoch.
pub fn set_realtime(time_ns: u64) {
    EPOCH_NS.store(time_ns.saturating_sub(monotonic()), Relaxed);
}

/// What processor or hypervisor say of the counter's frequency.
fn told() -> Option<u64> {
    let most = __cpuid(0).eax;
    if most >= 0x15 {
        let leaf = __cpuid(0x15);
        if leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0 {
            return Some(u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax) / 1000);
        }
    }
    let virtualised = __cpuid(1).ecx & 1 << 31 != 0;
    if virtualised && __cpuid(0x4000_0000).eax >= 0x4000_0010 {
        let kilohertz = __cpuid(0x4000_0010).eax;
        return (kilohertz != 0).then_some(u64::from(kilohertz));
    }
    None
}

/// Whether QEMU emulates the processor.
fn is_emulated() -> bool {
    let leaf = __cpuid_count(0x4000_0000, 0);
    __cpuid(1).ecx & 1 << 31 != 0 && leaf.ebx.to_le_bytes() == *b"TCGT"
}

const MILLISECONDS: u64 = 2;

/// Ticks in a millisecond, counted. The machine may stand still at any moment, for longer than is measured: a
/// reading of both clocks counts if little time has passed between them.
fn measured() -> u64 {
    if !is_emulated() {
        // Standing still only ever makes it longer.
        return (0..3).map(|_| by_interval_timer()).min().unwrap_or(0);
    }
    controller::run_counter();
    let (first, begin) = both();
    while u64::from(first - controller::counter()) < MILLISECONDS * 1_000_000 {}
    let (last, end) = both();
    (end - begin) * 1_000_000 / u64::from(first - last)
}

/// What the controller's counter, which counts nanoseconds down, and the time-stamp counter say at one time.
fn both() -> (u32, u64) {
    let reading = || {
        let before = stamp();
        let counter = controller::counter();
        let passed = stamp() - before;
        (passed, counter, before + passed / 2)
    };
    let closest = (0..16).map(|_| reading()).min();
    closest.map(|(_, counter, stamp)| (counter, stamp)).unwrap_or_default()
}

/// Ticks in a millisecond by channel 2 of the interval timer, gated by port 61h (8254): it counts down and raises
/// its output.
fn by_interval_timer() -> u64 {
    const HERTZ: u64 = 1_193_182;
    let count = HERTZ * MILLISECONDS / 1000;
    // SAFETY: the speaker's channel, with the speaker off.
    let passed = unsafe {
        port::write_byte(0x61, port::read_byte(0x61) & !2 | 1);
        port::write_byte(0x43, 0xb0);
        port::write_byte(0x42, count as u8);
        port::write_byte(0x42, (count >> 8) as u8);
        let begin = stamp();
        while port::read_byte(0x61) & 0x20 == 0 {}
        stamp() - begin
    };
    passed / MILLISECONDS
}

/// Seconds since the epoch by the battery's clock (MC146818), to the second.
fn calendar() -> u64 {
    let read = |register: u8| {
        // SAFETY: selecting a register of the clock and reading it.
        unsafe {
            port::write_byte(0x70, register);
            port::read_byte(0x71)
        }
    };
    let binary = read(0x0b) & 4 != 0;
    let number = |register: u8| {
        let value = read(register);
        u64::from(if binary { value } else { (value >> 4) * 10 + (value & 15) })
    };
    // No clock there: all lines read high.
    if read(0x0d) == 0xff {
        return 0;
    }
    while read(0x0a) & 0x80 != 0 {}
    let (second, minute, hour, day, month, year) =
        (number(0), number(2), number(4), number(7), number(8), number(9) + 2000);
    // Days since the epoch by the civil calendar, years from March on.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day.max(1) - 1;
    const BEFORE: u64 = 719_468;
    (((days - BEFORE) * 24 + hour) * 60 + minute) * 60 + second
}

/// Nanoseconds since the start.
pub fn monotonic() -> u64 {
    let ticks = stamp().saturating_sub(START.load(Relaxed));
    ((u128::from(ticks) * u128::from(SCALE.load(Relaxed))) >> 32) as u64
}

/// How the time is computed from the counter, which is final when there are programs.
pub fn counter() -> libos::Counter {
    let [start, scale, epoch_ns] = [&START, &SCALE, &EPOCH_NS].map(|value| value.load(Relaxed));
    libos::Counter { start, scale, epoch_ns }
}

/// The time stamp at a time of the monotonic clock.
pub fn stamp_at(time_ns: u64) -> u64 {
    let ticks = (u128::from(time_ns) << 32) / u128::from(SCALE.load(Relaxed).max(1));
    START.load(Relaxed).saturating_add(ticks as u64)
}

pub fn now() -> Now {
    let monotonic_ns = monotonic();
    Now { monotonic_ns, realtime_ns: EPOCH_NS.load(Relaxed) + monotonic_ns }
}
