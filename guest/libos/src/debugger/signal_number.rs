//! Signals as gdb numbers them, on every system alike (gdb's include/gdb/signals.def).

/// By Linux's number; the real-time signals follow a rule.
const NUMBERS: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 10, 8, 9, 30, 11, 31, 13, 14, 15, UNKNOWN, 20, 19, 17, 18, 21, 22, 16, 24, 25, 26,
    27, 28, 23, 32, 12,
];
/// GDB_SIGNAL_UNKNOWN: SIGSTKFLT has no number of its own.
const UNKNOWN: u8 = 143;

/// gdb's number of a signal.
pub fn told(signal: u8) -> u8 {
    match signal {
        0..=31 => NUMBERS[usize::from(signal)],
        32 => 77,
        33..=63 => signal + 12,
        64 => 78,
        _ => UNKNOWN,
    }
}

/// The signal that gdb means; none if Linux has no such.
pub fn meant(number: u8) -> Option<u8> {
    (1..=64).find(|signal| told(*signal) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_understood_as_it_is_told() {
        for signal in 1..=64 {
            assert_eq!(meant(told(signal)), Some(signal));
        }
        assert_eq!(meant(7), None, "SIGEMT");
        assert_eq!((told(7), told(11), told(17), told(33), told(63)), (10, 11, 20, 45, 75));
    }
}
