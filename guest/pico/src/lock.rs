//! A lock that spins briefly and then sleeps in the host.
//!
//! Why not only spin: on a host with few CPUs the holder may be preempted for milliseconds. Invariant:
//! no lock is held while application code runs, so signal handlers that interrupt an application may
//! take locks, and handlers that interrupt the library OS take none.

use core::sync::atomic::{AtomicU32, Ordering::*};

use crate::host;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;

/// The raw lock, for `lock_api`.
pub struct Raw(AtomicU32);

pub type Mutex<T> = lock_api::Mutex<Raw, T>;

// SAFETY: `HELD` and `CONTENDED` are entered only from `FREE` by the one who gets the lock, with acquire
// order, and left only by `unlock`, with release order.
unsafe impl lock_api::RawMutex for Raw {
    #[allow(clippy::declare_interior_mutable_const, reason = "lock_api's way to initialise")]
    const INIT: Self = Self(AtomicU32::new(FREE));
    type GuardMarker = lock_api::GuardSend;

    #[inline]
    fn lock(&self) {
        if self.0.compare_exchange(FREE, HELD, Acquire, Relaxed).is_err() {
            self.wait();
        }
    }

    fn try_lock(&self) -> bool {
        self.0.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        if self.0.swap(FREE, Release) == CONTENDED {
            host::futex_wake(&self.0, 1);
        }
    }
}

impl Raw {
    #[cold]
    fn wait(&self) {
        for _ in 0..200 {
            core::hint::spin_loop();
            if self.0.load(Relaxed) == FREE && self.0.compare_exchange(FREE, HELD, Acquire, Relaxed).is_ok() {
                return;
            }
        }
        while self.0.swap(CONTENDED, Acquire) != FREE {
            host::futex_wait(&self.0, CONTENDED, None);
        }
    }
}
