//! A machine in memory, whose every run a seed decides: for tests of the library OS on the host.
//!
//! Application code is a scripted [`Program`]; time is virtual and passes when code runs or a CPU waits;
//! trees and streams are in memory. [`Faults`] says how often things go badly. [`run`] runs a guest until
//! it halts: the first CPU on the calling thread, each other one on its own, in turns. A guest that waits for what can never come, or never ends,
//! halts as broken. What the contract forbids the library OS panics here.

mod device;
mod memory;
mod object;
mod program;
mod random;
mod request;
mod state;
mod tree;
mod turn;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use abi::boot::Tree;
use abi::exit::Exit;
use abi::file::{At, Extent};

use crate::{
    Advice, Backing, Code, Context, Cpu, Event, Exception, Fault, Handle, Machine, Now, Patience, Protection,
    Slice, Space, Trap, UserRange,
};
use memory::Origin;
use object::{Object, Stream};
pub use program::{CODE, DATA, ENTRY, Program, SPACING, Step};
pub use random::Random;
use state::{Coming, EPOCH_NS, State};
use std::thread::JoinHandle;
use turn::current;
pub use turn::{blocked, point};

/// Entries and waits after which a guest is taken to run for ever.
const TURNS_MAX: u64 = 1_000_000;
/// How long a slice is.
const TICK_NS: u64 = 4_000_000;
const ENOMEM: Code = Code(12);
/// Bytes of the `syscall` instruction.
const SYSCALL: u64 = 2;

/// How many of 1000 chances for something to happen are taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Application code is interrupted before a step, or a wait ends, for no reason.
    pub interrupt: u32,
    /// A request or transfer takes its time.
    pub later: u32,
    /// A stream is not ready although it could be.
    pub not_ready: u32,
    /// A transfer comes less far than it could.
    pub short: u32,
    /// A request fails with EIO.
    pub error: u32,
}

impl Faults {
    /// Everything a correct program does not notice.
    pub const HARMLESS: Self = Self { interrupt: 150, later: 300, not_ready: 200, short: 0, error: 0 };
}

/// The machine.
pub struct Fake {
    me: Weak<Self>,
    state: Mutex<State>,
    /// Told whenever it is another CPU's turn.
    turns: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
    program: Program,
}

/// Locks; a test that has failed elsewhere does not matter here.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a guest until it halts, and says how it did. Other panics go through.
pub fn run<T>(body: impl FnOnce() -> T) -> Exit {
    let ended = catch_unwind(AssertUnwindSafe(body));
    turn::part();
    match ended {
        Ok(_) => Exit::Broken { message: "the guest came back without a halt".into() },
        Err(payload) => match payload.downcast::<Exit>() {
            Ok(exit) => *exit,
            Err(other) => resume_unwind(other),
        },
    }
}

fn broken(message: String) -> ! {
    resume_unwind(Box::new(Exit::Broken { message }))
}

impl Fake {
    pub fn new(seed: u64, faults: Faults, program: Program) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            state: Mutex::new(State::new(seed, faults)),
            turns: Condvar::new(),
            threads: Mutex::default(),
            program,
        })
    }

    /// Puts a regular file into a granted tree, and directories above it.
    pub fn add_file(&self, tree: Tree, path: &str, permissions: u32, content: &[u8]) {
        locked(&self.state).trees.add(tree, path.as_bytes(), 0o100000 | permissions, content);
    }

    pub fn add_link(&self, tree: Tree, path: &str, target: &str) {
        locked(&self.state).trees.add(tree, path.as_bytes(), 0o120777, target.as_bytes());
    }

    pub fn add_directory(&self, tree: Tree, path: &str, permissions: u32) {
        locked(&self.state).trees.add(tree, path.as_bytes(), 0o040000 | permissions, b"");
    }

    /// A new stream without input.
    pub fn add_stream(&self) -> Handle {
        locked(&self.state).objects.add(Object::Stream(Stream::default()))
    }

    /// A disk with this content, which may be written whatever the library OS is told of it.
    pub fn add_disk(&self, bytes: &[u8]) -> Handle {
        let content = Arc::new(Mutex::new(bytes.to_vec()));
        let (inode, reads, writes, position) = (0, true, true, 0);
        locked(&self.state).objects.add(Object::File { inode, content, reads, writes, position })
    }

    /// Bytes that come in on a stream after a while.
    pub fn feed(&self, handle: Handle, delay_ns: u64, bytes: &[u8]) {
        locked(&self.state).later(delay_ns, Coming::Input(handle, bytes.to_vec()));
    }

    /// The end of a stream's input after a while.
    pub fn end(&self, handle: Handle, delay_ns: u64) {
        locked(&self.state).later(delay_ns, Coming::End(handle));
    }

    /// Something that happens after a while.
    pub fn happen(&self, delay_ns: u64, event: Event) {
        locked(&self.state).later(delay_ns, Coming::Event(event));
    }

    /// What the guest has written to a stream.
    pub fn output(&self, handle: Handle) -> Vec<u8> {
        let mut state = locked(&self.state);
        state.objects.stream(handle).map(|stream| stream.outgoing.clone()).unwrap_or_default()
    }

    /// Lines the guest has said to the user.
    pub fn said(&self) -> Vec<String> {
        locked(&self.state).said.clone()
    }

    /// How a place, by the path, has been synchronised.
    pub fn synchronised(&self, tree: Tree, path: &str) -> Vec<Extent> {
        let state = locked(&self.state);
        let inode = state.trees.find(At { tree, path: path.as_bytes() });
        state.synchronised.iter().filter(|(of, _)| Ok(*of) == inode).map(|(_, extent)| *extent).collect()
    }

    /// How many requests the guest has made that are answered.
    pub fn asked(&self) -> u64 {
        locked(&self.state).asked
    }

    /// The active space.
    fn space(&self) -> Space {
        locked(&self.state).space()
    }

    /// The state, for a call on the active space.
    fn active(&self, space: Space) -> MutexGuard<'_, State> {
        let state = self.may_pass(locked(&self.state), current());
        assert_eq!(state.space(), space, "broken rule: a space that is not active");
        state
    }

    /// Counts a turn, and ends a guest that has had too many.
    fn turn(&self) -> MutexGuard<'_, State> {
        let mut state = self.may_pass(locked(&self.state), current());
        state.blocked = 0;
        state.turns += 1;
        state.tick();
        if state.turns > TURNS_MAX {
            drop(state);
            broken(format!("still running after {TURNS_MAX} turns"));
        }
        state
    }

    /// Runs the step at `rip`, or traps as the processor would.
    fn execute(&self, context: &mut Context) -> Trap {
        let address = context.registers.rip;
        let exception =
            |vector, error| Trap::Exception(Exception { vector, error, address, beyond_file: false });
        let executable = {
            let state = locked(&self.state);
            state.memory.executable(state.space(), address)
        };
        match (executable, self.program.find(address)) {
            (None, _) => exception(14, 0x14),
            (Some(false), _) => exception(14, 0x15),
            (Some(true), Some(run)) => run(&mut Step { context, machine: self }),
            // The call of a step is its last instruction: a restarted one makes the call alone.
            (Some(true), None) if self.program.find(address + SYSCALL - SPACING).is_some() => {
                context.registers.rip += SYSCALL;
                Trap::Syscall
            }
            (Some(true), None) => exception(6, 0),
        }
    }
}

impl Fake {
    /// Runs application code until its next trap.
    fn run_on(&self, cpu: Cpu, context: &mut Context, slice: Slice) -> Trap {
        assert_eq!(cpu, current(), "broken rule: another CPU");
        let mut state = self.turn();
        let chance = state.faults.interrupt;
        let over = matches!(slice, Slice::Until(time_ns) if time_ns <= state.clock_ns);
        if core::mem::take(&mut state.cpu().kicked) || over || state.random.chance(chance) {
            return Trap::Interrupt;
        }
        match state.cpu().live.take() {
            Some((mark, extended, fs_base)) => {
                assert_eq!(mark, context.live, "broken rule: another context is entered before `leave`");
                context.extended = extended;
                context.registers.fs_base = fs_base;
            }
            None => assert_eq!(context.live, 0, "broken rule: a context is entered that was not left"),
        }
        // As a call site's stub does, a context that was not diverted goes on behind its system call.
        if context.resume != 0 {
            context.registers.rip = context.resume;
            context.registers.rcx = context.resume;
            context.registers.r11 = context.registers.rflags;
        }
        context.resume = 0;
        context.live = 0;
        drop(state);
        let trap = self.execute(context);
        let mut state = locked(&self.state);
        if trap == Trap::Syscall {
            context.resume = context.registers.rip;
        }
        state.marks += 1;
        context.live = state.marks;
        let live = (context.live, context.extended.clone(), context.registers.fs_base);
        state.cpu().live = Some(live);
        // Not yet written back: whoever looks before `leave` finds nonsense.
        context.extended.0.fill(0xa5);
        context.registers.fs_base = 0xa5a5_a5a5_a5a5_a5a5;
        // Now and then a step has used up its slice.
        let long = state.faults.interrupt / 4;
        if trap == Trap::Interrupt && state.random.chance(long) {
            state.clock_ns += TICK_NS;
        }
        trap
    }
}

impl Machine for Fake {
    fn enter(
        &self,
        cpu: Cpu,
        context: &mut Context,
        slice: Slice,
        call: &mut dyn FnMut(&mut Context) -> bool,
    ) -> Trap {
        loop {
            match self.run_on(cpu, context, slice) {
                Trap::Syscall if call(context) => {}
                trap => return trap,
            }
        }
    }

    fn leave(&self, _cpu: Cpu, context: &mut Context) {
        let mut state = locked(&self.state);
        if context.live == 0 {
            return;
        }
        let live = state.cpu().live.take_if(|(mark, ..)| *mark == context.live);
        let (_, extended, fs_base) = live.expect("broken rule: a context leaves a CPU it is not on");
        context.extended = extended;
        context.registers.fs_base = fs_base;
        context.live = 0;
    }

    fn start_cpu(&self, cpu: Cpu, body: Arc<dyn Fn(Cpu) + Send + Sync>) -> Result<(), Code> {
        self.start(cpu, body);
        Ok(())
    }

    fn current(&self) -> Cpu {
        current()
    }

    fn kick(&self, cpu: Cpu) {
        if let Some(cpu) = locked(&self.state).cpus.get_mut(cpu.0 as usize) {
            cpu.kicked = true;
            cpu.asleep = None;
        }
    }

    fn wait(&self, cpu: Cpu, patience: Patience, collect: bool, events: &mut Vec<Event>) {
        let mut state = self.turn();
        let before = events.len();
        loop {
            if collect {
                state.happen(events);
            }
            let chance = state.faults.interrupt;
            let kicked = patience != Patience::None && core::mem::take(&mut state.cpu().kicked);
            if kicked || events.len() > before || state.random.chance(chance) {
                return;
            }
            let end_ns = match patience {
                Patience::None => return,
                Patience::Until(time_ns) if time_ns <= state.clock_ns => return,
                Patience::Until(time_ns) => Some(time_ns),
                Patience::Forever => None,
            };
            state = self.sleep(state, cpu, end_ns, collect);
        }
    }

    fn activate(&self, cpu: Cpu, space: Space) {
        let mut state = locked(&self.state);
        if state.space() != space {
            state.may_change_space(cpu);
            assert!(state.spaces.contains(space), "broken rule: a space that is not there becomes active");
            state.cpu().space = space;
        }
    }

    fn make_space(&self, cpu: Cpu) -> Result<Space, Code> {
        let mut state = locked(&self.state);
        state.may_change_space(cpu);
        let chance = state.faults.error;
        if state.random.chance(chance) { Err(ENOMEM) } else { Ok(state.spaces.make()) }
    }

    fn copy_space(&self, cpu: Cpu) -> Result<Space, Code> {
        let space = self.make_space(cpu)?;
        let state = &mut *locked(&self.state);
        state.memory.copy(state.space(), space);
        Ok(space)
    }

    fn drop_space(&self, cpu: Cpu, space: Space) {
        let mut state = locked(&self.state);
        state.spaces.drop(space);
        state.memory.clear(space);
        if state.space() == space {
            state.may_change_space(cpu);
        }
        let where_active = state.cpus.iter_mut().filter(|cpu| cpu.space == space);
        where_active.for_each(|cpu| cpu.space = Space::FIRST);
    }

    fn now(&self) -> Now {
        let monotonic_ns = locked(&self.state).clock_ns;
        Now { monotonic_ns, realtime_ns: monotonic_ns + EPOCH_NS }
    }

    fn user_end(&self) -> u64 {
        memory::USER_END
    }

    fn map(
        &self,
        space: Space,
        range: UserRange,
        protection: Protection,
        backing: Backing,
    ) -> Result<(), Code> {
        let mut state = self.active(space);
        let origin = match backing {
            Backing::Anonymous => Origin::Anonymous,
            Backing::File { handle, offset, shared } => match state.objects.get(handle)? {
                Object::File { writes: false, .. } if shared && protection.contains(Protection::WRITE) => {
                    return Err(Code(13));
                }
                Object::File { content, .. } => Origin::File { content: content.clone(), offset, shared },
                _ => return Err(Code(19)),
            },
        };
        state.memory.map(space, range, protection, &origin)
    }

    fn protect(&self, space: Space, range: UserRange, protection: Protection) -> Result<(), Code> {
        self.active(space).memory.protect(space, range, protection)
    }

    fn unmap(&self, space: Space, range: UserRange) -> Result<(), Code> {
        self.active(space).memory.unmap(space, range)
    }

    fn relocate(&self, space: Space, from: UserRange, to: UserRange) -> Result<(), Code> {
        self.active(space).memory.relocate(space, from, to)
    }

    fn advise(&self, space: Space, range: UserRange, advice: Advice) -> Result<(), Code> {
        self.active(space).memory.advise(space, range, advice)
    }

    fn copy_in(&self, space: Space, from: u64, to: &mut [u8]) -> Result<(), Fault> {
        self.active(space).memory.copy_in(space, from, to)
    }

    fn copy_out(&self, space: Space, from: &[u8], to: u64) -> Result<(), Fault> {
        self.active(space).memory.copy_out(space, from, to)
    }

    fn compare_exchange(&self, space: Space, address: u64, old: u32, new: u32) -> Result<u32, Fault> {
        self.active(space).memory.compare_exchange(space, address, old, new)
    }

    fn entropy(&self, to: &mut [u8]) {
        locked(&self.state).random.fill(to);
    }

    fn halt(&self, exit: Exit) -> ! {
        if current() != Cpu(0) {
            self.finish(Some(Box::new(exit.clone())));
        }
        resume_unwind(Box::new(exit))
    }
}
