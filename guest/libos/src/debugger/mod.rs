//! The debugger's hold on the program: gdb's remote protocol, served by the library OS itself.
//!
//! It is here and not outside, so that one implementation serves every machine and nobody outside gets a way
//! into the guest. gdb's bytes come over a granted connection (`connection`), are cut into packets (`packet`)
//! and read as commands (`command`), which a `session` carries out.
//!
//! All threads stop together. A stop is announced by [`State::held`] and by calling every thread's attention;
//! each comes by [`Debugger::next_signal`] or [`Debugger::holds`] before it runs application code or polls
//! its call, and *stands* there, blocked, with its context complete. When all stand, the debugger may look at
//! and change everything. A standing thread keeps its attention called, so that whoever wakes it meanwhile
//! only makes it stand again.
//!
//! Lock order: the debugger's state, then the process's threads, its memory, its pending signals, a thread's
//! body. Nothing here is looked at on an island without a debugger.

mod command;
mod connection;
mod memory;
mod packet;
mod register;
mod session;
mod signal_number;
mod tracee;

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::lock::{Mutex, MutexGuard};
use abi::boot::Boot;
use abi::exit::Exit;
use abi::network::Address;
use machine::{Context, Exception, Trap};

use crate::file::ring::Source;
use crate::network::HostSocket;
use crate::process::Process;
use crate::signal::{self, Information, SIGKILL, Set, set_of};
use crate::thread::{Body, Thread};
use crate::wait::WaitQueue;

use command::{Action, Motion, Threads};
use memory::Breakpoints;
use tracee::{Stop, Tracee};

pub use connection::begin;

/// Whatever bytes come, they are read without harm: for tests and fuzzing.
pub fn read(bytes: &[u8]) {
    let mut receiver = packet::Receiver::default();
    for byte in bytes {
        if let Some(packet::Arrival::Packet(content)) = receiver.take(*byte) {
            assert!(content.len() <= packet::LONGEST);
            let _ = command::parse(&content);
        }
    }
}

/// The processor's trap flag: one instruction, then a debug exception.
const TRAP_FLAG: u64 = 0x100;
const DEBUG: u8 = 1;
const BREAKPOINT: u8 = 3;

/// Who debugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody yet; the program stands at its first instruction once it is loaded.
    Awaited,
    Attached,
    /// Nobody any more, until somebody comes.
    Absent,
}

struct State {
    phase: Phase,
    /// Nobody may run.
    held: bool,
    /// Who stopped all, and why, until that is told.
    report: Option<(u32, Stop)>,
    tracees: BTreeMap<u32, Tracee>,
    breakpoints: Breakpoints,
    /// Signals that the debugger does not want to hear of.
    passed: Set,
    /// The debugger understands that nothing moves any more.
    hears_of_stillness: bool,
    socket: Option<Arc<HostSocket>>,
}

impl State {
    fn tracee(&mut self, thread: &Thread) -> &mut Tracee {
        self.tracees.entry(thread.number()).or_default()
    }

    fn may_move(&mut self, thread: &Thread) -> bool {
        !self.held && self.tracee(thread).motion != Motion::Stay
    }

    fn stop(&mut self, thread: u32, why: Stop) {
        self.held = true;
        self.report = Some((thread, why));
    }
}

/// The debugger of an island that has one.
pub struct Debugger {
    /// Where it listens on the machine, if the user is to be told.
    announced: Option<Address>,
    state: Mutex<State>,
    /// Told when a thread stands, or is no more.
    changed: WaitQueue,
}

impl Debugger {
    /// Takes its breakpoints out of a new process, which it does not debug.
    pub(crate) fn spare(&self, child: &Process) {
        self.state.lock().breakpoints.remove_from_copy(child);
    }

    /// The debugger that the monitor has granted, if it has.
    pub fn granted(boot: &Boot) -> Option<Self> {
        let granted = boot.debugger?;
        let state = State {
            phase: Phase::Awaited,
            held: false,
            report: None,
            tracees: BTreeMap::new(),
            breakpoints: Breakpoints::default(),
            passed: 0,
            hears_of_stillness: false,
            socket: None,
        };
        Some(Self { announced: granted.announced, state: Mutex::new(state), changed: WaitQueue::new() })
    }

    /// A program has been loaded and is about to run: the first, or one that took the place of another.
    pub(crate) fn started(&self, thread: &Thread) {
        let mut state = self.state.lock();
        state.breakpoints.forget();
        let why = match state.phase {
            Phase::Awaited => Stop::Asked,
            Phase::Attached => Stop::Executed(thread.process.program.lock().path.clone()),
            Phase::Absent => return,
        };
        let tracee = state.tracee(thread);
        (tracee.before_call, tracee.motion) = (None, Motion::Go);
        tracee.event = Some(why);
        drop(state);
        thread.keep_attention();
        self.changed.notify();
    }

    /// Application code of this thread has trapped; whether that was the debugger's doing and is settled.
    pub(crate) fn trapped(&self, thread: &Thread, trap: Trap, context: &mut Context) -> bool {
        let mut state = self.state.lock();
        let hit = context.registers.rip.wrapping_sub(1);
        let breakpoint = matches!(trap, Trap::Exception(Exception { vector: BREAKPOINT, .. }))
            && state.breakpoints.contains(hit);
        let tracee = state.tracee(thread);
        let steps = tracee.steps();
        if steps {
            context.registers.rflags &= !TRAP_FLAG;
        }
        match trap {
            Trap::Exception(_) if breakpoint => {
                context.registers.rip = hit;
                context.divert();
                tracee.event = Some(Stop::Breakpoint);
            }
            Trap::Exception(Exception { vector: DEBUG, .. }) | Trap::Syscall if steps => {
                tracee.event = Some(Stop::Stepped);
            }
            _ => return false,
        }
        thread.keep_attention();
        trap != Trap::Syscall
    }

    /// A signal's handler is about to run: a step ends at its first instruction.
    pub(crate) fn handling(&self, thread: &Thread) {
        let mut state = self.state.lock();
        let tracee = state.tracee(thread);
        if tracee.steps() {
            (tracee.event, tracee.motion) = (Some(Stop::Stepped), Motion::Step(None));
        }
    }

    /// Before application code goes on: the next signal to deliver, or break if the thread stands.
    pub(crate) fn next_signal(
        &self,
        thread: &Arc<Thread>,
        body: &mut Body,
        mask: Set,
    ) -> ControlFlow<(), Option<Information>> {
        let mut state = self.state.lock();
        let attached = state.phase == Phase::Attached;
        if state.held && state.phase == Phase::Awaited {
            // Whoever waits for a debugger that does not come may end the program.
            if let Some(information) = signal::take(thread, !mask) {
                return ControlFlow::Continue(Some(information));
            }
        }
        if !state.may_move(thread) {
            // It will come by there again.
            state.tracee(thread).event.take_if(|event| matches!(event, Stop::Breakpoint | Stop::Stepped));
            self.stand(state, thread, body);
            return ControlFlow::Break(());
        }
        let tracee = state.tracee(thread);
        tracee.go_on(thread, body);
        match (tracee.event.take(), tracee.motion) {
            (Some(Stop::Stepped), Motion::Step(Some((start, end))))
                if (start..end).contains(&body.context.registers.rip) => {}
            (Some(why), _) => {
                state.stop(thread.number(), why);
                self.stand(state, thread, body);
                return ControlFlow::Break(());
            }
            (None, _) => {}
        }
        let Some(information) = signal::take(thread, !mask) else { return ControlFlow::Continue(None) };
        let bit = set_of(information.number);
        let quiet = (state.passed | state.tracee(thread).let_through | set_of(SIGKILL)) & bit != 0;
        if quiet || !attached {
            state.tracee(thread).let_through &= !bit;
            return ControlFlow::Continue(Some(information));
        }
        state.tracee(thread).stopped_by = Some(information);
        state.stop(thread.number(), Stop::Signal(information.number));
        self.stand(state, thread, body);
        ControlFlow::Break(())
    }

    /// Before a call is polled: whether the thread stands.
    pub(crate) fn holds(&self, thread: &Arc<Thread>, body: &mut Body) -> bool {
        let mut state = self.state.lock();
        if thread.process.must_end(thread) || state.phase == Phase::Awaited {
            return false;
        }
        if state.may_move(thread) {
            state.tracee(thread).go_on(thread, body);
            return false;
        }
        self.stand(state, thread, body);
        true
    }

    /// Application code is about to go on.
    pub(crate) fn enters(&self, thread: &Thread, context: &mut Context) {
        if self.state.lock().tracee(thread).steps() {
            context.registers.rflags |= TRAP_FLAG;
            thread.keep_attention();
        }
    }

    /// The thread stands from now on; its context is complete once it has left its CPU.
    fn stand(&self, mut state: MutexGuard<'_, State>, thread: &Thread, body: &mut Body) {
        state.tracee(thread).stand(thread, body);
        drop(state);
        thread.keep_attention();
        self.changed.notify();
    }

    /// A thread is no more.
    pub(crate) fn ended(&self, thread: &Thread) {
        let mut state = self.state.lock();
        state.tracees.remove(&thread.number());
        let left: Vec<u32> = thread.process.threads.lock().keys().copied().collect();
        let stays =
            |number: &u32| state.tracees.get(number).is_some_and(|tracee| tracee.motion == Motion::Stay);
        if state.phase == Phase::Attached
            && !state.held
            && left.iter().all(stays)
            && let Some(&first) = left.first()
        {
            let why = if state.hears_of_stillness { Stop::NothingMoves } else { Stop::Asked };
            state.stop(first, why);
        }
        drop(state);
        self.changed.notify();
    }

    /// The program is over: the last that the debugger hears.
    pub(crate) fn over(&self, exit: &Exit) {
        let Some(socket) = self.state.lock().socket.clone() else { return };
        let mut sent = Vec::new();
        packet::send(&mut sent, &session::farewell(exit));
        // A debugger that does not listen learns it from the connection's end.
        let _ = socket.send_quietly(&Source::Kernel(&sent));
    }
}

/// What the session does to the threads.
impl Debugger {
    /// Stops all; `why` is told if nothing else is to be.
    fn stop(&self, process: &Process, why: Stop) {
        let threads: Vec<Arc<Thread>> = {
            let mut state = self.state.lock();
            let threads: Vec<Arc<Thread>> = process.threads.lock().values().cloned().collect();
            if !state.held
                && let Some(first) = threads.first()
            {
                state.stop(first.number(), why);
            }
            threads
        };
        threads.iter().for_each(Thread::call_attention);
    }

    /// Whether everybody stands.
    fn is_still(&self, process: &Process) -> bool {
        let state = self.state.lock();
        // A thread that makes another does so before it stands, so with the state locked none is missed.
        let threads = process.threads.lock();
        state.held
            && !threads.is_empty()
            && threads.keys().all(|number| state.tracees.get(number).is_some_and(|tracee| tracee.standing))
    }

    /// Lets threads go on; the first action that names one is what it does.
    fn resume(&self, process: &Process, actions: &[Action]) {
        let mut state = self.state.lock();
        let threads: Vec<Arc<Thread>> = process.threads.lock().values().cloned().collect();
        let mut moving = Vec::new();
        for thread in threads {
            let named = |action: &&Action| match action.threads {
                Threads::All | Threads::Any => true,
                Threads::One(number) => number == thread.number(),
            };
            let action = actions.iter().find(named);
            let tracee = state.tracee(&thread);
            tracee.standing = false;
            tracee.motion = action.map_or(Motion::Stay, |action| action.motion);
            let stopped_by = tracee.stopped_by.take();
            if let Some(number) = action.and_then(|action| action.signal) {
                let known = stopped_by.filter(|information| information.number == number);
                tracee.let_through |= set_of(number);
                // Where all look for signals, so that a call which waits is interrupted.
                thread.signals.leave(known.unwrap_or(Information::user(number, 0, 0)));
            }
            if tracee.motion != Motion::Stay {
                moving.push(thread);
            }
        }
        (state.held, state.report) = (false, None);
        drop(state);
        moving.iter().for_each(Thread::make_runnable);
    }

    /// The debugger goes: what it has put into the program goes with it. Everybody stands.
    fn detach(&self, process: &Process) {
        let mut state = self.state.lock();
        let threads: Vec<Arc<Thread>> = process.threads.lock().values().cloned().collect();
        state.breakpoints.remove_all(process);
        for thread in &threads {
            let tracee = state.tracee(thread);
            (tracee.standing, tracee.motion, tracee.event) = (false, Motion::Go, None);
            if let Some(information) = tracee.stopped_by.take() {
                thread.signals.leave(information);
            }
        }
        (state.phase, state.held, state.report, state.socket) = (Phase::Absent, false, None, None);
        (state.passed, state.hears_of_stillness) = (0, false);
        drop(state);
        threads.iter().for_each(Thread::make_runnable);
    }

    /// Looks at a thread that stands, or changes it. On its way to its place again it needs the state, so that is not
    /// kept from it.
    fn with_body<T>(&self, thread: &Thread, act: impl FnOnce(&mut Tracee, &mut Body) -> T) -> T {
        loop {
            let mut state = self.state.lock();
            if let Some(body) = thread.body().as_mut() {
                return act(state.tracee(thread), body);
            }
            drop(state);
            crate::lock::pause();
        }
    }

    /// The debugger is there, on this connection.
    fn attach(&self, process: &Process, socket: Arc<HostSocket>) {
        let mut state = self.state.lock();
        (state.phase, state.socket) = (Phase::Attached, Some(socket));
        drop(state);
        self.stop(process, Stop::Asked);
    }

    fn is_held(&self) -> bool {
        self.state.lock().held
    }
}
