//! When a card is told of the frames that are to be sent.
//!
//! To ring its bell costs an exit to the host, and in an emulator the wait for a lock: more than to answer a request.
//! So frames are told of together: when nobody has anything else to do, when there are [`BURST`] of them, or when
//! they have waited for as long as a few rings take, so that ringing never takes more than a part of the time.

use network::{Link, Work};

use super::card::Card;
use crate::cpu::clock;

/// Frames of which the card is told at last; a long one counts as many.
const BURST: usize = 64;
const LONG: usize = 4096;
/// Rings that could be rung while frames wait, and how long they wait at most.
const RINGS: u64 = 8;
const PATIENCE_NS: u64 = 1_000_000;

#[derive(Default)]
pub struct Bell {
    /// Frames that the card has not been told of, as [`BURST`] counts them.
    untold: usize,
    /// When the first of them came.
    since_ns: u64,
    /// What a ring takes, on average.
    ring_ns: u64,
}

impl Bell {
    /// Whether somebody has to ring before long.
    pub fn is_wanted(&self) -> bool {
        self.untold > 0
    }

    /// Whether it is time to ring.
    pub fn is_due(&self, now_ns: u64) -> bool {
        let patience_ns = (RINGS * self.ring_ns).min(PATIENCE_NS);
        self.untold >= BURST || self.untold > 0 && now_ns.saturating_sub(self.since_ns) >= patience_ns
    }

    /// When it has to be rung by somebody who computes.
    pub fn end_ns(&self) -> u64 {
        self.since_ns + PATIENCE_NS
    }

    /// Tells the card of what there is to be sent.
    pub fn ring(&mut self, card: &mut Card) {
        if core::mem::take(&mut self.untold) > 0 {
            let before_ns = clock::monotonic();
            card.tell();
            let took_ns = clock::monotonic() - before_ns;
            self.ring_ns = (7 * self.ring_ns + took_ns) / 8;
        }
    }
}

/// A card whose frames are counted.
pub struct Counted<'a> {
    pub card: &'a mut Card,
    pub bell: &'a mut Bell,
    pub now_ns: u64,
}

impl Link for Counted<'_> {
    fn has_room(&mut self) -> bool {
        self.card.has_room()
    }

    fn transmit(&mut self, length: usize, fill: &mut dyn FnMut(&mut [u8]) -> Work) {
        if self.bell.untold == 0 {
            self.bell.since_ns = self.now_ns;
        }
        self.bell.untold += 1 + length / LONG;
        self.card.transmit(length, fill);
    }
}
