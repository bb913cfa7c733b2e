//! Virtual CPUs that wait here and not in a halt ([`abi::vm::register::WAIT`]): to wake one takes no interrupt, which
//! costs most where the guest's ring 0 is emulated.
//!
//! Invariant: what comes for a CPU that is on its way to wait is not lost. A call leaves a mark, which the next wait
//! finds; so does an interrupt of a device's that nobody waited for.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

/// One CPU's place.
#[derive(Clone, Copy, Default)]
struct Place {
    called: bool,
    /// It waits for devices as well.
    attentive: bool,
}

#[derive(Default)]
struct State {
    places: Vec<Place>,
    /// A device has interrupted whom it may concern, and nobody was waiting.
    interrupted: bool,
}

/// Where a machine's CPUs wait.
pub struct Sleepers {
    state: Mutex<State>,
    bells: Vec<Condvar>,
}

impl Sleepers {
    pub fn new(cpus: usize) -> Self {
        let state = State { places: vec![Place::default(); cpus], interrupted: false };
        Self { state: Mutex::new(state), bells: (0..cpus).map(|_| Condvar::new()).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the CPU is called, or the time is over; an attentive one also for devices.
    pub fn wait(&self, cpu: usize, attentive: bool, patience: Option<Duration>) {
        let Some(bell) = self.bells.get(cpu) else { return };
        let mut state = self.lock();
        if attentive && std::mem::take(&mut state.interrupted) {
            return;
        }
        state.places[cpu].attentive = attentive;
        let sleeps = |state: &mut State| !state.places[cpu].called;
        let mut state = match patience {
            Some(patience) => {
                let woken = bell.wait_timeout_while(state, patience, sleeps);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => bell.wait_while(state, sleeps).unwrap_or_else(PoisonError::into_inner),
        };
        state.places[cpu] = Place::default();
    }

    /// Calls a CPU: its wait ends, or its next one does at once. A number that is nobody's calls nobody.
    pub fn call(&self, cpu: u64) {
        let Ok(cpu) = usize::try_from(cpu) else { return };
        if let Some(place) = self.lock().places.get_mut(cpu) {
            place.called = true;
        }
        // Who wakes up wants the lock.
        if let Some(bell) = self.bells.get(cpu) {
            bell.notify_one();
        }
    }

    /// Calls the CPUs that wait for devices; false: nobody does, and it takes an interrupt.
    pub fn tell(&self) -> bool {
        let (told, newly) = self.lock().tell();
        newly.into_iter().for_each(|cpu| self.bells[cpu].notify_one());
        told
    }
}

impl State {
    /// Calls those that are attentive: whether there are any, and who did not know yet.
    fn tell(&mut self) -> (bool, SmallVec<[usize; 2]>) {
        let mut newly = SmallVec::new();
        let mut told = false;
        for (cpu, place) in self.places.iter_mut().enumerate().filter(|(_, place)| place.attentive) {
            told = true;
            if !std::mem::replace(&mut place.called, true) {
                newly.push(cpu);
            }
        }
        self.interrupted |= !told;
        (told, newly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const LONG: Option<Duration> = Some(Duration::from_secs(100));

    /// Waits on another thread, and tells when it does and when it is over.
    fn waits(sleepers: &Arc<Sleepers>, cpu: usize, attentive: bool) -> std::thread::JoinHandle<()> {
        let own = sleepers.clone();
        let thread = std::thread::spawn(move || own.wait(cpu, attentive, None));
        while attentive && !sleepers.lock().places[cpu].attentive {
            std::thread::yield_now();
        }
        thread
    }

    #[test]
    fn a_call_that_comes_early_ends_the_next_wait() {
        let sleepers = Sleepers::new(2);
        sleepers.call(1);
        sleepers.wait(1, false, LONG);
        // And no further one.
        assert!(!sleepers.lock().places[1].called);
        sleepers.wait(1, false, Some(Duration::from_millis(1)));
    }

    #[test]
    fn a_call_ends_a_wait_of_that_cpu_alone() {
        let sleepers = Arc::new(Sleepers::new(2));
        let (first, second) = (waits(&sleepers, 0, true), waits(&sleepers, 1, true));
        sleepers.call(1);
        second.join().unwrap();
        assert!(!first.is_finished());
        sleepers.call(0);
        first.join().unwrap();
    }

    #[test]
    fn devices_wake_whoever_waits_for_them_and_else_leave_a_mark() {
        let sleepers = Arc::new(Sleepers::new(2));
        assert!(!sleepers.tell());
        sleepers.wait(0, true, LONG);
        let waiting = waits(&sleepers, 1, true);
        assert!(sleepers.tell());
        waiting.join().unwrap();
        assert!(!sleepers.lock().interrupted);
    }

    #[test]
    fn who_does_not_wait_for_devices_is_not_disturbed() {
        let sleepers = Arc::new(Sleepers::new(1));
        let waiting = waits(&sleepers, 0, false);
        assert!(!sleepers.tell());
        assert!(sleepers.lock().interrupted);
        sleepers.call(0);
        waiting.join().unwrap();
    }

    #[test]
    fn a_number_that_is_nobodys_does_nothing() {
        let sleepers = Sleepers::new(1);
        sleepers.call(1);
        sleepers.call(u64::MAX);
        sleepers.wait(7, true, None);
    }
}
