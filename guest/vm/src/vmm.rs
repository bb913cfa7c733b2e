//! Our own VMM's registers ([`abi::vm::register`]), which save ways out of the guest; elsewhere there are none.

use abi::vm::register;
use machine::PAGE;
use spin::Once;

use crate::memory::map;

/// Where they are mapped.
static REGISTERS: Once<u64> = Once::new();

/// Notes that the VMM is ours: one of its devices was found. False: there is no memory for that.
pub fn found() -> bool {
    REGISTERS.try_call_once(|| map::device(register::PAGE, PAGE)).is_ok()
}

/// Whether the VMM is ours.
pub fn is_there() -> bool {
    REGISTERS.get().is_some()
}

/// A register of the VMM's, if it is ours.
pub fn register(register: u64) -> Option<u64> {
    REGISTERS.get().map(|page| page + register)
}
