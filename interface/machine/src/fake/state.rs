//! What the fake machine knows, under one lock: clock, chance, memory, objects, and what is to come.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use std::any::Any;

use abi::Handle;
use abi::file::Extent;

use super::Faults;
use super::memory::Memory;
use super::object::Objects;
use super::random::Random;
use super::tree::Trees;
use super::turn::current;
use crate::{Cpu, Event, ExtendedState, Space, Ticket};

/// Where the clocks stand at the start: monotonic, and what the real-time clock is ahead.
pub const START_NS: u64 = 1_000_000_000;
pub const EPOCH_NS: u64 = 1_700_000_000_000_000_000;
/// The longest time a delayed answer takes.
const DELAY_MAX_NS: u64 = 3_000_000;

/// Something that will happen.
pub enum Coming {
    Event(Event),
    /// A stream becomes ready, whatever for it is then.
    Ready(Handle),
    Input(Handle, Vec<u8>),
    End(Handle),
}

/// What ends a CPU's sleep but a kick.
pub struct Asleep {
    pub until_ns: Option<u64>,
    pub collects: bool,
}

/// A CPU's own state.
pub struct CpuState {
    pub kicked: bool,
    pub asleep: Option<Asleep>,
    pub space: Space,
    /// The context whose vector state and thread pointer this CPU holds: its mark, and those.
    pub live: Option<(u64, ExtendedState, u64)>,
}

impl CpuState {
    pub fn new() -> Self {
        Self { kicked: false, asleep: None, space: Space::FIRST, live: None }
    }
}

/// The address spaces there are.
pub struct Spaces {
    there: BTreeSet<Space>,
    next: u32,
}

impl Spaces {
    pub fn make(&mut self) -> Space {
        let space = Space(self.next);
        self.next += 1;
        self.there.insert(space);
        space
    }

    pub fn contains(&self, space: Space) -> bool {
        self.there.contains(&space)
    }

    /// Ends a space, whose number is never used again.
    pub fn drop(&mut self, space: Space) {
        assert!(space != Space::FIRST && self.there.remove(&space), "broken rule: a space that is not there");
    }
}

/// Everything but the program.
pub struct State {
    pub random: Random,
    pub faults: Faults,
    pub clock_ns: u64,
    pub memory: Memory,
    pub trees: Trees,
    pub objects: Objects,
    pub cpus: Vec<CpuState>,
    /// Whose turn it is.
    pub turn: Cpu,
    /// How many locks in a row were found taken.
    pub blocked: u32,
    /// The machine has ended; and with what the first CPU has to, if not by itself.
    pub ended: bool,
    pub end: Option<Box<dyn Any + Send>>,
    pub spaces: Spaces,
    pub said: Vec<String>,
    /// What was synchronised, by inode, and how much.
    pub synchronised: Vec<(u64, Extent)>,
    /// Requests that were to be answered.
    pub asked: u64,
    /// By time, then by chance, so that the order of what comes together depends on the seed.
    coming: BTreeMap<(u64, u64), Coming>,
    pub marks: u64,
    tickets: u64,
    /// Entries and waits so far.
    pub turns: u64,
}

impl State {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            random: Random::new(seed),
            faults,
            clock_ns: START_NS,
            memory: Memory::default(),
            trees: Trees::default(),
            objects: Objects::default(),
            cpus: alloc::vec![CpuState::new()],
            turn: Cpu(0),
            blocked: 0,
            ended: false,
            end: None,
            spaces: Spaces { there: BTreeSet::from([Space::FIRST]), next: 1 },
            said: Vec::new(),
            synchronised: Vec::new(),
            asked: 0,
            coming: BTreeMap::new(),
            marks: 0,
            tickets: 0,
            turns: 0,
        }
    }

    /// Holds the rules for whoever changes a CPU's space.
    pub fn may_change_space(&self, cpu: Cpu) {
        assert_eq!(cpu, current(), "broken rule: another CPU");
        assert!(self.cpus[cpu.0 as usize].live.is_none(), "broken rule: the space changes before `leave`");
    }

    /// Lets a little time pass, as running code does.
    pub fn tick(&mut self) {
        self.clock_ns += 100 + self.random.below(5_000);
    }

    pub fn later(&mut self, delay_ns: u64, coming: Coming) {
        let tie = self.random.draw();
        self.coming.insert((self.clock_ns + delay_ns, tie), coming);
    }

    pub fn soon(&mut self, coming: Coming) {
        let delay_ns = self.random.below(DELAY_MAX_NS);
        self.later(delay_ns, coming);
    }

    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// When the next thing happens.
    pub fn next_ns(&self) -> Option<u64> {
        self.coming.keys().next().map(|(time_ns, _)| *time_ns)
    }

    /// Lets happen what is due, and collects what the guest hears of it.
    pub fn happen(&mut self, events: &mut Vec<Event>) {
        while let Some(entry) = self.coming.first_entry() {
            if entry.key().0 > self.clock_ns {
                break;
            }
            match entry.remove() {
                Coming::Event(event) => events.push(event),
                Coming::Ready(handle) => events.extend(self.ready(handle)),
                Coming::Input(handle, bytes) => {
                    if let Ok(stream) = self.objects.stream(handle) {
                        stream.incoming.extend(bytes);
                    }
                    events.extend(self.ready(handle));
                }
                Coming::End(handle) => {
                    if let Ok(stream) = self.objects.stream(handle) {
                        stream.ended = true;
                    }
                    events.extend(self.ready(handle));
                }
            }
        }
    }

    fn ready(&mut self, handle: Handle) -> Option<Event> {
        let stream = self.objects.stream(handle).ok().filter(|stream| stream.watched)?;
        Some(Event::Ready { handle, readiness: stream.readiness() })
    }
}
