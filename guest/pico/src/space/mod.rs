//! Address spaces, each of which is a process of the host's.
//!
//! All map the state at one address and use one table of descriptors; what applications have mapped is each
//! one's own, and where a copy shares pages with what it is a copy of, the host parts them. A virtual CPU is its
//! `Local` and its kernel stack, which lie in the state: to activate a space it goes on in a thread of that
//! process (`seat`). The first process lives as long as the island and has the helper threads; that others
//! live as long as they should, `watch` sees to.
//!
//! Lock order: none of these locks is held while another is taken, or while a CPU goes to another process.

mod asleep;
mod seat;
mod watch;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

use abi::Code;
use linux_raw_sys::errno;
use machine::{Cpu, Space};

use crate::local::{LOCALS, Local};
use crate::lock::Mutex;
use crate::{host, idle, io, pico, thread};

use seat::Seats;

pub use seat::THREAD;
pub use watch::{end, ending, prepare, run as watch};

/// One address space.
pub struct Record {
    number: Space,
    pub code: entry::Code,
    seats: Arc<Seats>,
    dropped: AtomicBool,
}

/// Spaces by number. What was dropped is not here, but lives on where it is active.
static SPACES: Mutex<BTreeMap<u32, Arc<Record>>> = Mutex::new(BTreeMap::new());
/// A process in which nothing is mapped for applications and no CPU is ever: new spaces are copies of it.
static EMPTY: Mutex<Option<Arc<Seats>>> = Mutex::new(None);
/// One such copy, made or being made.
static SPARE: Mutex<Option<Arc<Seats>>> = Mutex::new(None);

/// How many spaces there may be.
static MOST: AtomicU32 = AtomicU32::new(0);

/// Makes the process that there is a space, active on all CPUs, and one of so many at most.
pub fn begin(most: u32) {
    MOST.store(most, Relaxed);
    let seats = Arc::new(Seats::first());
    let first = Arc::new(Record::new(Space::FIRST, entry::Code::new(), seats));
    SPACES.lock().insert(Space::FIRST.0, first.clone());
    for local in thread::locals() {
        // SAFETY: no CPU runs the library OS yet.
        unsafe { local.set_space(first.clone()) };
    }
}

impl Record {
    fn new(number: Space, code: entry::Code, seats: Arc<Seats>) -> Self {
        Self { number, code, seats, dropped: AtomicBool::new(false) }
    }

    pub fn number(&self) -> Space {
        self.number
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        watch::expect(&self.seats);
        self.seats.end();
    }
}

/// The space that a process of the host's is, by its number in the island.
pub fn of_process(process: u32) -> Option<Space> {
    let spaces = SPACES.lock();
    spaces.values().find(|space| space.seats.process() == process).map(|space| space.number)
}

/// See [`machine::Machine::activate`].
pub fn activate(cpu: Cpu, number: Space) {
    let local = &LOCALS[usize::from(cpu.0)];
    if local.space().number != number {
        let space = SPACES.lock().get(&number.0).cloned().expect("rule: a space that is there");
        go(cpu, local, space);
    }
}

/// Takes the CPU home if its space was dropped; before and after it idles.
#[inline]
pub fn leave_dropped(local: &Local) {
    if local.space().dropped.load(SeqCst) {
        activate(local.cpu(), Space::FIRST);
    }
}

/// Goes on in another space's process. What the CPU leaves may end with this.
fn go(cpu: Cpu, local: &Local, space: Arc<Record>) {
    let number = usize::from(cpu.0);
    let thread = summon(&space, local);
    let (from, to) = (local.space().seats.clone(), space.seats.clone());
    local.set_runs(to.process(), thread);
    // SAFETY: the calling CPU's own, and nobody holds a reference to what is replaced.
    let left = unsafe { local.set_space(space) };
    // SAFETY: the CPU was in this space until now, and `watch` keeps the seats of processes that live.
    unsafe { from.hand_over(number, &to) };
    // From here on in the other process.
    drop((left, from));
}

/// Does what the calling CPU is kicked for where it carries a space's first thread.
#[inline]
pub fn serve(local: &Local) {
    local.space().seats.serve(usize::from(local.cpu().0));
}

/// The CPU's thread in a space. Where the host has no room for one, some may come.
fn summon(space: &Record, local: &Local) -> u32 {
    const ATTEMPTS: u32 = 2000;
    let never = AtomicU32::new(0);
    for _ in 0..ATTEMPTS {
        match space.seats.summon(local.cpu().0.into(), space.number, || serve(local)) {
            Ok(thread) => return thread,
            Err(_) => host::futex_wait(&never, 0, Some(1_000_000)),
        }
    }
    pico::broken(format_args!("the host refused a thread of an address space"))
}

/// See [`machine::Machine::copy_space`].
pub fn copy(cpu: Cpu) -> Result<Space, Code> {
    room(MOST.load(Relaxed))?;
    watch::begin()?;
    let local = &LOCALS[usize::from(cpu.0)];
    let seats = Arc::new(Seats::new(usize::from(cpu.0), false));
    let _unpatched = entry::patch::pause();
    let code = local.space().code.copied();
    seats.copy()?;
    add(code, seats)
}

/// See [`machine::Machine::make_space`].
pub fn make(cpu: Cpu) -> Result<Space, Code> {
    // A program replaces another one mostly, and soon has its space alone.
    let most = MOST.load(Relaxed);
    room(most + most / 8)?;
    watch::begin()?;
    let empty = empty(cpu)?;
    let spare = SPARE.lock().take();
    let made = spare.filter(|seats| seats.copied().is_ok());
    let seats = match made {
        Some(seats) => seats,
        None => {
            let seats = begin_empty(cpu, &empty);
            seats.copied()?;
            seats
        }
    };
    // The next one is made while this one is used.
    let mut spare = SPARE.lock();
    if spare.is_none() {
        *spare = Some(begin_empty(cpu, &empty));
    }
    drop(spare);
    add(entry::Code::new(), seats)
}

/// Whether there may be one more space.
fn room(most: u32) -> Result<(), Code> {
    let there = SPACES.lock().len();
    if there < most as usize { Ok(()) } else { Err(Code(errno::EAGAIN as u16)) }
}

fn begin_empty(cpu: Cpu, empty: &Seats) -> Arc<Seats> {
    let seats = Arc::new(Seats::new(usize::from(cpu.0), false));
    empty.begin_copy(&seats);
    seats
}

/// The empty process.
fn empty(cpu: Cpu) -> Result<Arc<Seats>, Code> {
    let mut empty = EMPTY.lock();
    if let Some(empty) = &*empty {
        return Ok(empty.clone());
    }
    let seats = Arc::new(Seats::new(usize::from(cpu.0), true));
    seats.copy()?;
    watch::add(seats.clone())?;
    *empty = Some(seats.clone());
    Ok(seats)
}

/// Gives a process its number.
fn add(code: entry::Code, seats: Arc<Seats>) -> Result<Space, Code> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    watch::add(seats.clone())?;
    let mut spaces = SPACES.lock();
    let number = loop {
        let number = NEXT.fetch_add(1, Relaxed);
        if !spaces.contains_key(&number) {
            break number;
        }
    };
    spaces.insert(number, Arc::new(Record::new(Space(number), code, seats)));
    Ok(Space(number))
}

/// See [`machine::Machine::drop_space`].
pub fn drop_space(cpu: Cpu, number: Space) {
    let dropped = (number != Space::FIRST).then(|| SPACES.lock().remove(&number.0)).flatten();
    let dropped = dropped.expect("rule: a space that is there, and not the first");
    dropped.dropped.store(true, SeqCst);
    io::forget(number);
    let own = &LOCALS[usize::from(cpu.0)];
    leave_dropped(own);
    for other in thread::locals().iter().filter(|other| other.active() == number) {
        idle::kick(other);
    }
}
