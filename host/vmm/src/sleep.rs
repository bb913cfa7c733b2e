//! Virtual CPUs that wait here and not in a halt ([`abi::vm::register::WAIT`]): to wake one takes no interrupt, which
//! costs most where the guest's ring 0 is emulated.
//!
//! Invariant: what comes for a CPU that is on its way to wait is not lost. A call leaves a mark, which the next wait
//! finds; and a wait for devices is over at once if one has spoken since the CPU's last one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

/// What a CPU waits for besides calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    None,
    /// Devices, one of which has something for it, while others may have something for others.
    Curious,
    /// Whatever any device has, on behalf of all CPUs.
    Attentive,
}

/// The CPU that devices interrupt.
const INTERRUPTED: usize = 0;

/// One CPU's place.
#[derive(Clone, Copy, Default)]
struct Place {
    waits: Option<Attention>,
    called: bool,
    /// How often devices had spoken when it waited last.
    seen: u64,
}

struct State {
    places: Vec<Place>,
    /// How often devices have spoken.
    spoken: u64,
}

/// Where a machine's CPUs wait.
pub struct Sleepers {
    state: Mutex<State>,
    bells: Vec<Condvar>,
}

impl Sleepers {
    pub fn new(cpus: usize) -> Self {
        let state = State { places: vec![Place::default(); cpus], spoken: 0 };
        Self { state: Mutex::new(state), bells: (0..cpus).map(|_| Condvar::new()).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the CPU is called, or the time is over, or until there is what its attention is for.
    pub fn wait(&self, cpu: usize, attention: Attention, patience: Option<Duration>) {
        let Some(bell) = self.bells.get(cpu) else { return };
        let mut state = self.lock();
        let spoken = state.spoken;
        if std::mem::replace(&mut state.places[cpu].seen, spoken) != spoken && attention != Attention::None {
            return;
        }
        state.places[cpu].waits = Some(attention);
        let sleeps = |state: &mut State| !state.places[cpu].called;
        let mut state = match patience {
            Some(patience) => {
                let woken = bell.wait_timeout_while(state, patience, sleeps);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => bell.wait_while(state, sleeps).unwrap_or_else(PoisonError::into_inner),
        };
        state.places[cpu] = Place { seen: state.spoken, ..Place::default() };
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

    /// A device has something: calls whom that concerns and who waits; false: it takes an interrupt.
    pub fn tell(&self) -> bool {
        let (told, newly) = self.lock().tell();
        newly.into_iter().for_each(|cpu| self.bells[cpu].notify_one());
        told
    }
}

impl State {
    /// Whether somebody was called who sees to it, and who did not know yet.
    fn tell(&mut self) -> (bool, SmallVec<[usize; 2]>) {
        self.spoken += 1;
        let attentive = self.places.iter().any(|place| place.waits == Some(Attention::Attentive));
        let (mut told, mut newly) = (attentive, SmallVec::new());
        for (cpu, place) in self.places.iter_mut().enumerate() {
            let concerned = match place.waits {
                Some(Attention::None) => cpu == INTERRUPTED && !attentive,
                Some(_) => true,
                None => false,
            };
            if concerned {
                told |= cpu == INTERRUPTED;
                if !std::mem::replace(&mut place.called, true) {
                    newly.push(cpu);
                }
            }
        }
        (told, newly)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread::{JoinHandle, spawn, yield_now};

    const LONG: Option<Duration> = Some(Duration::from_secs(100));

    /// A CPU that waits for ever, on a thread of its own.
    fn waits(sleepers: &Arc<Sleepers>, cpu: usize, attention: Attention) -> JoinHandle<()> {
        let own = sleepers.clone();
        let thread = spawn(move || own.wait(cpu, attention, None));
        while sleepers.lock().places[cpu].waits.is_none() {
            yield_now();
        }
        thread
    }

    #[test]
    fn a_call_that_comes_early_ends_the_next_wait_alone() {
        let sleepers = Sleepers::new(2);
        sleepers.call(1);
        sleepers.wait(1, Attention::None, LONG);
        assert!(!sleepers.lock().places[1].called);
        sleepers.wait(1, Attention::None, Some(Duration::from_millis(1)));
    }

    #[test]
    fn a_call_ends_a_wait_of_that_cpu_alone() {
        let sleepers = Arc::new(Sleepers::new(2));
        let [first, second] = [0, 1].map(|cpu| waits(&sleepers, cpu, Attention::Attentive));
        sleepers.call(1);
        second.join().unwrap();
        assert!(!first.is_finished());
        sleepers.call(0);
        first.join().unwrap();
    }

    #[test]
    fn what_devices_say_on_the_way_to_a_wait_ends_it_once_for_each_cpu() {
        let sleepers = Arc::new(Sleepers::new(2));
        assert!(!sleepers.tell());
        sleepers.wait(0, Attention::Attentive, LONG);
        sleepers.wait(1, Attention::Curious, LONG);
        let waiting = waits(&sleepers, 0, Attention::Attentive);
        assert!(sleepers.tell());
        waiting.join().unwrap();
    }

    #[test]
    fn who_is_curious_does_not_hear_for_others() {
        let sleepers = Arc::new(Sleepers::new(2));
        let curious = waits(&sleepers, 1, Attention::Curious);
        // The first CPU runs: it takes an interrupt.
        assert!(!sleepers.tell());
        curious.join().unwrap();
        let [first, curious] = [(0, Attention::None), (1, Attention::Curious)]
            .map(|(cpu, attention)| waits(&sleepers, cpu, attention));
        // It waits, where no interrupt would find it.
        assert!(sleepers.tell());
        first.join().unwrap();
        curious.join().unwrap();
    }

    #[test]
    fn where_somebody_is_attentive_nobody_else_is_disturbed() {
        let sleepers = Arc::new(Sleepers::new(2));
        let [first, attentive] = [(0, Attention::None), (1, Attention::Attentive)]
            .map(|(cpu, attention)| waits(&sleepers, cpu, attention));
        assert!(sleepers.tell());
        attentive.join().unwrap();
        assert!(!first.is_finished());
        sleepers.call(0);
        first.join().unwrap();
    }

    #[test]
    fn a_number_that_is_nobodys_does_nothing() {
        let sleepers = Sleepers::new(1);
        sleepers.call(1);
        sleepers.call(u64::MAX);
        sleepers.wait(7, Attention::Attentive, None);
    }
}
