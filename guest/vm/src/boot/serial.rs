//! The serial line of every PC (16550), for what has no better way out.

use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

use spin::Mutex;

use crate::cpu::port;

const DATA: u16 = 0x3f8;
const STATUS: u16 = DATA + 5;
const ENABLE: u16 = DATA + 1;
const MODEM: u16 = DATA + 4;
const ROOM: u8 = 0x20;
const RECEIVED: u8 = 1;
/// Where its interrupts arrive.
pub const LINE: u32 = 4;
/// A line that takes no byte within so many looks is not there.
const PATIENCE: u32 = 100_000;

static WRITING: Mutex<()> = Mutex::new(());
/// It has interrupted since it was looked at, or was never looked at.
static INTERRUPTED: AtomicBool = AtomicBool::new(true);

/// Lets received bytes interrupt.
pub fn begin() {
    // SAFETY: the serial line's registers: interrupts for received data, and the line to the controller.
    unsafe {
        port::write_byte(ENABLE, 1);
        port::write_byte(MODEM, 0xb);
    }
}

/// The line has interrupted.
pub fn interrupted() {
    INTERRUPTED.store(true, SeqCst);
}

/// Whether something has been received since this was asked last, or all of what came before was read. To look costs
/// two ways through ring 0, and an emulator's lock: so only after an interrupt.
pub fn has_news() -> bool {
    INTERRUPTED.load(SeqCst) && INTERRUPTED.swap(false, SeqCst) && is_ready()
}

/// Whether a byte has been received. Where there is no line, all bits read as set.
fn is_ready() -> bool {
    // SAFETY: the serial line's registers.
    let status = unsafe { port::read_byte(STATUS) };
    status != 0xff && status & RECEIVED != 0
}

/// A received byte.
pub fn read() -> Option<u8> {
    // SAFETY: the serial line's registers.
    is_ready().then(|| unsafe { port::read_byte(DATA) })
}

/// The line as a place for formatted text, which takes no memory.
pub struct Line;

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// Writes bytes.
pub fn write(bytes: &[u8]) {
    let _line = WRITING.lock();
    for &byte in bytes {
        // SAFETY: the serial line's registers.
        unsafe {
            let mut looks = 0;
            while port::read_byte(STATUS) & ROOM == 0 && looks < PATIENCE {
                looks += 1;
            }
            port::write_byte(DATA, byte);
        }
    }
}
