//! Random numbers: ChaCha20, keyed once by the monitor's seed and the machine.

use crate::lock::Mutex;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The island's random number generator.
pub struct Entropy(Mutex<ChaCha20Rng>);

impl Entropy {
    pub fn new(seed: [u8; 32]) -> Self {
        Self(Mutex::new(ChaCha20Rng::from_seed(seed)))
    }

    pub fn fill(&self, to: &mut [u8]) {
        self.0.lock().fill_bytes(to);
    }
}
