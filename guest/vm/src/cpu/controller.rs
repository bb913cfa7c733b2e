//! The local interrupt controllers: acknowledging, interrupting others, and the timer; and the shared ones,
//! which lines of devices lead to (SDM vol. 3, chapter 12; 82093AA).
//!
//! An interrupt is acknowledged when its CPU has taken note of it, not when it arrives: until then no
//! further one of its class comes (`trap.rs`).

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::*};

use machine::PAGE;
use spin::Once;

use super::block::Block;
use super::ring;
use super::stub::vector;
use crate::boot;
use crate::memory::layout::{CONTROLLER, SHARED_CONTROLLER};
use crate::memory::map;

const ID: u64 = 0x20;
const END: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const COMMAND: u64 = 0x300;
const TIMER: u64 = 0x320;
const LINE_0: u64 = 0x350;
const LINE_1: u64 = 0x360;
const INITIAL: u64 = 0x380;
const CURRENT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;

const MASKED: u32 = 1 << 16;
/// A timer that interrupts when the time-stamp counter reaches a value.
const DEADLINE: u32 = 2 << 17;
const BY_ONE: u32 = 0xb;
/// The delivery of a command is under way.
const PENDING: u32 = 1 << 12;
const ASSERTED: u32 = 1 << 14;
const TSC_DEADLINE: u32 = 0x6e0;

/// The timer counts in time stamps.
static BY_DEADLINE: AtomicBool = AtomicBool::new(false);

fn read(register: u64) -> u32 {
    // SAFETY: the controller's page is mapped for ever, and reading changes nothing.
    unsafe { ((CONTROLLER + register) as *const u32).read_volatile() }
}

fn write(register: u64, value: u32) {
    // SAFETY: as in `read`; what is written here only makes interrupts that have handlers.
    unsafe { ((CONTROLLER + register) as *mut u32).write_volatile(value) };
}

/// Switches this CPU's controller on.
pub fn begin(block: &Block) {
    block.controller.store(read(ID) >> 24, Relaxed);
    write(SPURIOUS, 0x100 | u32::from(vector::SPURIOUS));
    write(LINE_0, MASKED);
    write(LINE_1, MASKED);
    let by_deadline = super::clock::has_deadline();
    BY_DEADLINE.store(by_deadline, Relaxed);
    write(TIMER, u32::from(vector::TIMER) | if by_deadline { DEADLINE } else { 0 });
    write(DIVIDE, BY_ONE);
}

/// Acknowledges the interrupt that this CPU has taken note of, if there was one.
pub fn acknowledge(block: &Block) {
    if block.interrupted.swap(0, Relaxed) != 0 {
        write(END, 0);
    }
}

/// Interrupts another CPU.
pub fn interrupt(block: &Block, vector: u8) {
    command(block.controller.load(Relaxed), u32::from(vector));
}

/// Gives a command to the controller with this number.
pub fn command(controller: u32, command: u32) {
    write(COMMAND + 0x10, controller << 24);
    write(COMMAND, command | ASSERTED);
    while read(COMMAND) & PENDING != 0 {
        core::hint::spin_loop();
    }
}

/// Sets the timer to a time stamp, or `ticks` of the controller's own clock from now.
pub fn set_timer(stamp: u64, ticks: u32) {
    if BY_DEADLINE.load(Relaxed) {
        // SAFETY: the processor has said that it has this register.
        unsafe { ring::write_register(TSC_DEADLINE, stamp) };
    } else {
        write(INITIAL, ticks.max(1));
    }
}

/// Lets the timer's counter run without interrupting, from the highest value down.
pub fn run_counter() {
    write(TIMER, MASKED);
    write(DIVIDE, BY_ONE);
    write(INITIAL, u32::MAX);
}

pub fn counter() -> u32 {
    read(CURRENT)
}

/// A controller that lines of devices lead to.
#[derive(Clone, Copy)]
struct Shared {
    registers: u64,
    /// Its first line.
    first: u32,
}

impl Shared {
    /// The one with this line: the first, which every PC has, unless firmware tells of another.
    fn with(line: u32) -> Self {
        static FURTHER: Once<Vec<Shared>> = Once::new();
        let further = FURTHER.call_once(|| {
            let described = boot::shared_controllers().into_iter().filter(|(_, first)| *first != 0);
            let mapped = described.filter_map(|(address, first)| {
                map::device(address, PAGE).ok().map(|registers| Self { registers, first })
            });
            mapped.collect()
        });
        let nearest = further.iter().filter(|shared| shared.first <= line).max_by_key(|shared| shared.first);
        nearest.copied().unwrap_or(Self { registers: SHARED_CONTROLLER, first: 0 })
    }

    fn set(self, register: u32, value: u32) {
        // SAFETY: the controller's page is mapped for ever: select, then write.
        unsafe {
            (self.registers as *mut u32).write_volatile(register);
            ((self.registers + 0x10) as *mut u32).write_volatile(value);
        }
    }
}

/// Leads a line of a device to this CPU.
pub fn route(line: u32, vector: u8, block: &Block, level: bool) {
    let shared = Shared::with(line);
    let entry = 0x10 + 2 * (line - shared.first);
    shared.set(entry + 1, block.controller.load(Relaxed) << 24);
    shared.set(entry, u32::from(vector) | u32::from(level) << 15);
}
