//! The serial line of every PC (16550), for what has no better way out.

use spin::Mutex;

use crate::cpu::port;

const DATA: u16 = 0x3f8;
const STATUS: u16 = DATA + 5;
const ROOM: u8 = 0x20;
/// A line that takes no byte within so many looks is not there.
const PATIENCE: u32 = 100_000;

static LINE: Mutex<()> = Mutex::new(());

/// Writes bytes.
pub fn write(bytes: &[u8]) {
    let _line = LINE.lock();
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
