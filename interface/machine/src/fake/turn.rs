//! Turns: each CPU of the fake machine is a thread, of which one runs at a time. Chance says who is next wherever a CPU
//! comes to a point: it enters application code, waits, makes a call of the machine, or takes a lock of the guest's
//! ([`point`]). So a seed tells the whole order of what several CPUs do.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use abi::exit::Exit;

use super::state::{Asleep, CpuState, State};
use super::{Fake, broken, locked};
use crate::{Cpu, Space};

/// Of 1000 points, at how many another CPU may come first.
const SWITCHES: u32 = 120;
/// After so many locks in a row that were found taken nobody will ever get one.
const BLOCKED_MAX: u32 = 20_000;

std::thread_local! {
    /// The CPU that this thread is, of which machine.
    static CURRENT: RefCell<Option<(Weak<Fake>, Cpu)>> = const { RefCell::new(None) };
}

/// The CPU that this thread is.
pub fn current() -> Cpu {
    CURRENT.with_borrow(|current| current.as_ref().map_or(Cpu(0), |(_, cpu)| *cpu))
}

fn with_current(act: impl FnOnce(&Fake, Cpu)) {
    let current =
        CURRENT.with_borrow(|current| current.as_ref().and_then(|(fake, cpu)| Some((fake.upgrade()?, *cpu))));
    if let Some((fake, cpu)) = current {
        act(&fake, cpu);
    }
}

/// A point of the guest's own at which another CPU may come first: before it takes a lock.
pub fn point() {
    if !thread::panicking() {
        with_current(|fake, cpu| {
            let mut state = locked(&fake.state);
            state.blocked = 0;
            drop(fake.may_pass(state, cpu));
        });
    }
}

/// A lock is taken: whoever has it comes first.
pub fn blocked() {
    let ends = thread::panicking();
    with_current(|fake, cpu| match ends {
        // What unwinds needs the lock of a CPU whose turn does not come any more.
        true => fake.finish(None),
        false => fake.give_way(cpu),
    });
    if ends {
        thread::yield_now();
    }
}

/// Ends the other CPUs of the machine whose first CPU this thread has been, if there were any.
pub(super) fn part() {
    if let Some((fake, _)) = CURRENT.take()
        && let Some(fake) = fake.upgrade()
    {
        fake.finish(None);
        let threads: alloc::vec::Vec<JoinHandle<()>> = core::mem::take(&mut *locked(&fake.threads));
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Fake {
    /// Starts another CPU, which runs when its turn comes. The caller is the first one.
    pub(super) fn start(&self, cpu: Cpu, body: Arc<dyn Fn(Cpu) + Send + Sync>) {
        let me = self.me.clone();
        CURRENT.set(Some((me.clone(), Cpu(0))));
        locked(&self.state).cpus.push(CpuState::new());
        let thread = thread::spawn(move || {
            CURRENT.set(Some((me.clone(), cpu)));
            let ended = catch_unwind(AssertUnwindSafe(|| {
                if let Some(fake) = me.upgrade() {
                    drop(fake.await_turn(locked(&fake.state), cpu));
                }
                body(cpu);
            }));
            if let (Some(fake), Err(payload)) = (me.upgrade(), ended) {
                fake.finish(Some(payload));
            }
        });
        locked(&self.threads).push(thread);
    }

    /// Nobody gets a turn any more. The first CPU goes down with the payload, if it has not ended already.
    pub(super) fn finish(&self, payload: Option<Box<dyn Any + Send>>) {
        let mut state = locked(&self.state);
        if !state.ended {
            state.ended = true;
            state.end = payload;
        }
        self.turns.notify_all();
    }

    /// Waits until it is this CPU's turn; unwinds if the machine has ended.
    fn await_turn<'a>(&'a self, mut state: MutexGuard<'a, State>, cpu: Cpu) -> MutexGuard<'a, State> {
        while state.turn != cpu && !state.ended {
            state = self.turns.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended && !thread::panicking() {
            let payload = state.end.take_if(|_| cpu == Cpu(0));
            drop(state);
            let other = || Box::new(Exit::Broken { message: "another CPU has ended".into() }) as _;
            resume_unwind(payload.unwrap_or_else(other));
        }
        state
    }

    fn pass<'a>(&'a self, mut state: MutexGuard<'a, State>, cpu: Cpu, next: Cpu) -> MutexGuard<'a, State> {
        state.turn = next;
        if next != cpu {
            self.turns.notify_all();
        }
        self.await_turn(state, cpu)
    }

    /// Lets another CPU come first, if chance says so.
    pub(super) fn may_pass<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        cpu: Cpu,
    ) -> MutexGuard<'a, State> {
        if state.cpus.len() == 1 || thread::panicking() || !state.random.chance(SWITCHES) {
            return state;
        }
        match state.another(cpu) {
            Some(next) => self.pass(state, cpu, next),
            None => state,
        }
    }

    /// This CPU can do nothing before another one has.
    fn give_way(&self, cpu: Cpu) {
        let mut state = locked(&self.state);
        state.blocked += 1;
        match state.another(cpu) {
            Some(next) if state.blocked < BLOCKED_MAX => drop(self.pass(state, cpu, next)),
            _ => {
                drop(state);
                broken(format!("deadlock: CPU {} waits for a lock that nobody gives back", cpu.0));
            }
        }
    }

    /// Lets others run until this CPU has to look again whether its wait is over; passes time if all of them wait.
    pub(super) fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        cpu: Cpu,
        until_ns: Option<u64>,
        collects: bool,
    ) -> MutexGuard<'a, State> {
        state.cpus[cpu.0 as usize].asleep = Some(Asleep { until_ns, collects });
        if let Some(next) = state.another(cpu) {
            state = self.pass(state, cpu, next);
        } else if let Some(time_ns) = state.next_end_ns() {
            state.clock_ns = state.clock_ns.max(time_ns);
            state.cpus.iter_mut().for_each(|cpu| cpu.asleep = None);
        } else {
            drop(state);
            broken("deadlock: a wait that nothing can end".into());
        }
        state.cpus[cpu.0 as usize].asleep = None;
        state
    }
}

impl State {
    /// Another CPU that does not sleep, by chance.
    fn another(&mut self, cpu: Cpu) -> Option<Cpu> {
        let awake = |(number, state): (usize, &CpuState)| {
            (number != cpu.0 as usize && state.asleep.is_none()).then_some(Cpu(number as u16))
        };
        let others: alloc::vec::Vec<Cpu> = self.cpus.iter().enumerate().filter_map(awake).collect();
        match others.len() {
            0 => None,
            count => Some(others[self.random.below(count as u64) as usize]),
        }
    }

    /// When the first of the CPUs, which all sleep, has to look around.
    fn next_end_ns(&self) -> Option<u64> {
        let ends = self.cpus.iter().filter_map(|cpu| cpu.asleep.as_ref());
        let collects = self.cpus.iter().any(|cpu| cpu.asleep.as_ref().is_some_and(|asleep| asleep.collects));
        ends.filter_map(|asleep| asleep.until_ns).chain(self.next_ns().filter(|_| collects)).min()
    }

    /// This thread's CPU.
    pub fn cpu(&mut self) -> &mut CpuState {
        &mut self.cpus[current().0 as usize]
    }

    /// The space that is active on it.
    pub fn space(&self) -> Space {
        self.cpus[current().0 as usize].space
    }
}
