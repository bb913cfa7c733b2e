//! Signals that the guest was told of and has not taken.
//!
//! What the program makes of a signal is its own affair, however long that takes. But a library OS that does not even
//! take one is not there any more, and whoever wants its island to end must not have to look for the monitor's process.

use std::time::{Duration, Instant};

/// SIGHUP, SIGINT, SIGQUIT, SIGTERM: what asks for an end.
const ENDING: [u8; 4] = [1, 2, 3, 15];
/// How long a signal may stay unheard (docker stop's grace), and after which time asking again is answered.
const GRACE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_secs(1);

/// What has not been taken, and since when.
#[derive(Debug, Default)]
pub struct Unheard {
    signals: Vec<(u8, Instant)>,
    asked_again: bool,
}

impl Unheard {
    /// The guest was told of a signal.
    pub fn told(&mut self, signal: u8, now: Instant) {
        if !ENDING.contains(&signal) {
            return;
        }
        self.asked_again |= self.signals.first().is_some_and(|(_, since)| now - *since >= AGAIN);
        if self.signals.iter().all(|(told, _)| *told != signal) {
            self.signals.push((signal, now));
        }
    }

    /// The guest has taken a signal.
    pub fn heard(&mut self, signal: u8) {
        self.signals.retain(|(told, _)| *told != signal);
        self.asked_again = false;
    }

    /// The guest could hear nothing until now.
    pub fn begin_again(&mut self, now: Instant) {
        self.signals.iter_mut().for_each(|(_, since)| *since = now);
    }

    pub fn is_empty(&self) -> bool {
        self.signals.is_empty()
    }

    /// Whether the guest has had its time.
    pub fn is_over(&self, now: Instant) -> bool {
        self.signals.first().is_some_and(|(_, since)| self.asked_again || now - *since >= GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: u8 = 15;
    const INT: u8 = 2;
    const USR1: u8 = 10;

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_signal_that_is_not_taken_has_its_time() {
        let (mut unheard, start) = (Unheard::default(), Instant::now());
        unheard.told(TERM, start);
        assert!(!unheard.is_over(after(start, 9_999)) && unheard.is_over(after(start, 10_000)));
        unheard.begin_again(after(start, 5_000));
        assert!(!unheard.is_over(after(start, 14_999)) && unheard.is_over(after(start, 15_000)));
        unheard.heard(TERM);
        assert!(unheard.is_empty() && !unheard.is_over(after(start, 20_000)));
    }

    #[test]
    fn who_asks_again_is_answered_unless_it_was_at_once() {
        let (mut unheard, start) = (Unheard::default(), Instant::now());
        unheard.told(INT, start);
        unheard.told(INT, after(start, 999));
        assert!(!unheard.is_over(after(start, 999)));
        unheard.told(TERM, after(start, 1000));
        assert!(unheard.is_over(after(start, 1000)));
        // It hears after all: what else it was told has its own time.
        unheard.heard(INT);
        assert!(!unheard.is_over(after(start, 1000)) && unheard.is_over(after(start, 11_000)));
    }

    #[test]
    fn what_asks_for_no_end_may_stay_unheard() {
        let (mut unheard, start) = (Unheard::default(), Instant::now());
        (0..3).for_each(|second| unheard.told(USR1, after(start, second * 1000)));
        assert!(unheard.is_empty() && !unheard.is_over(after(start, 100_000)));
    }
}
