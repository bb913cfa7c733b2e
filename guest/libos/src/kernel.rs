//! The library OS of one island, and the loop that each of its CPUs runs.
//!
//! A CPU takes a thread, finishes its pending call, delivers its signals, enters application code, and
//! turns the trap into a call; when the call has to wait, the thread blocks and the CPU takes the next.
//! Calls that wait are futures; a thread has no stack here. Nothing in this loop blocks but the idle wait.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicU32, Ordering};
use core::task::{Context as TaskContext, Poll, Waker};

use crate::lock::{Mutex, Once};
use abi::boot::Boot;
use abi::exit::Exit;
use abi::request::{Reply, Request};
use machine::{Cpu, Machine, Patience, Trap};

use crate::HostClock;
use crate::debugger::Debugger;
use crate::device::Devices;
use crate::entropy::Entropy;
use crate::errno::Result;
use crate::file_system::FileSystems;
use crate::futex::Futexes;
use crate::ipc::Ipc;
use crate::ipc::named::NamedQueues;
use crate::network::Network;
use crate::numbers::Numbers;
use crate::process::Process;
use crate::scheduler::Scheduler;
use crate::signal::{self, Halt, Information, SIGTRAP};
use crate::syscall::{self, Finish, Outcome};
use crate::terminal::Control;
use crate::thread::{Body, Thread};
use crate::timer::Timers;
use crate::wait::WaitQueue;

/// Resident memory in bytes, and its highest mark.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryUse {
    pub resident: u64,
    pub peak: u64,
}

/// Processes by number.
pub type Processes = BTreeMap<u32, Arc<Process>>;

/// Everything an island's processes share.
pub struct Kernel {
    pub machine: Arc<dyn Machine>,
    pub boot: Boot,
    pub clock: HostClock,
    pub scheduler: Scheduler,
    pub timers: Timers,
    pub devices: Devices,
    pub futexes: Futexes,
    pub file_systems: FileSystems,
    pub network: Network,
    pub entropy: Entropy,
    pub ipc: Ipc,
    pub named_queues: NamedQueues,
    pub debugger: Option<Arc<Debugger>>,
    pub hostname: Mutex<Vec<u8>>,
    pub started_ns: u64,
    pub numbers: Numbers,
    /// What the island held when it was last measured.
    memory_use: Mutex<MemoryUse>,
    /// The number of the process whose end is the island's.
    main: AtomicU32,
    /// The terminal that the user sits at, if there is one.
    pub console: Once<Arc<Control>>,
    /// All processes, by number.
    pub processes: Mutex<Processes>,
    /// Held while a process is made, and while a signal goes to several: who is made meanwhile is not left out.
    /// Comes before all other locks.
    pub births: Mutex<()>,
    /// Told of every new signal of any process, for files that signals are read from.
    pub signal_files: WaitQueue,
}

impl Kernel {
    pub fn new(machine: Arc<dyn Machine>, boot: Boot, clock: HostClock) -> Arc<Self> {
        let started_ns = machine.now().monotonic_ns;
        Arc::new(Self {
            scheduler: Scheduler::new(machine.clone(), boot.cpus.clamp(1, 64)),
            timers: Timers::default(),
            devices: Devices::new(machine.clone()),
            futexes: Futexes::new(),
            file_systems: FileSystems::new(&boot, started_ns),
            network: Network::new(&boot),
            ipc: Ipc::default(),
            named_queues: NamedQueues::default(),
            entropy: Entropy::new(boot.seed),
            debugger: Debugger::granted(&boot).map(Arc::new),
            hostname: Mutex::new(boot.hostname.clone()),
            numbers: Numbers::default(),
            memory_use: Mutex::default(),
            main: AtomicU32::new(1),
            console: Once::new(),
            processes: Mutex::default(),
            births: Mutex::default(),
            signal_files: WaitQueue::new(),
            started_ns,
            machine,
            boot,
            clock,
        })
    }

    /// Asks how much memory the island holds. Without an answer what was known before stays true enough.
    pub async fn measure_memory(&self) -> MemoryUse {
        let reply = self.devices.request(self, Request::MemoryUse).await;
        if let Ok(Reply::MemoryUse { resident, peak }) = reply {
            *self.memory_use.lock() = MemoryUse { resident, peak };
        }
        self.memory_use()
    }

    /// What the island held when it was last measured.
    pub fn memory_use(&self) -> MemoryUse {
        *self.memory_use.lock()
    }

    /// Bytes of the island's memory that it did not hold then.
    pub fn free_memory(&self) -> u64 {
        self.boot.memory.saturating_sub(self.memory_use().resident)
    }

    /// How many threads and processes there may be: each takes some memory of the library OS's.
    pub fn tasks_most(&self) -> usize {
        const MOST: u64 = 32_768;
        const MEMORY_EACH: u64 = 16 << 10;
        (self.boot.memory / MEMORY_EACH).min(MOST) as usize
    }

    /// Says one line to the user.
    pub fn say(&self, text: &str) {
        let _ = self.machine.request(Request::Say { text });
    }

    /// The number of the process whose end is the island's.
    pub fn main(&self) -> u32 {
        self.main.load(Ordering::Relaxed)
    }

    pub(crate) fn set_main(&self, process: &Process) {
        self.main.store(process.number, Ordering::Relaxed);
    }

    /// Who debugs a thread, if it is the main process's.
    #[inline]
    pub(crate) fn debugger_of(&self, thread: &Thread) -> Option<&Arc<Debugger>> {
        self.debugger.as_ref().filter(|_| thread.process.is_main())
    }

    /// Ends the island.
    pub fn halt(&self, exit: Exit) -> ! {
        self.machine.halt(exit)
    }

    /// What a CPU does for ever.
    pub fn run_cpu(self: &Arc<Self>, cpu: Cpu) -> ! {
        self.scheduler.wake_up(cpu, false);
        loop {
            let mut now_ns = self.machine.now().monotonic_ns;
            let mut ran = None;
            while let Some(thread) = self.scheduler.next(cpu) {
                thread.begin_metering(now_ns);
                let since_ns = now_ns;
                self.run_thread(cpu, &thread);
                self.scheduler.release(cpu);
                now_ns = self.machine.now().monotonic_ns;
                thread.meter(now_ns.saturating_sub(since_ns));
                ran = Some(thread);
            }
            let caught_up = self.scheduler.calls_in_vain() && ran.is_some_and(|ran| self.catch_up(cpu, &ran));
            if !caught_up {
                self.idle(cpu);
            }
        }
    }

    /// Runs one thread until it blocks, ends or gives way.
    fn run_thread(self: &Arc<Self>, cpu: Cpu, thread: &Arc<Thread>) {
        let mut body = thread.begin(cpu);
        self.machine.activate(cpu, thread.process.space());
        loop {
            // What ends may be followed by something else to wait for (ptrace(2)).
            while body.pending.is_some() {
                match self.resume_call(cpu, thread, body) {
                    Some(continued) => body = continued,
                    None => return,
                }
            }
            if thread.take_attention() {
                match signal::deliver(thread, &mut body, &self.machine, cpu) {
                    ControlFlow::Continue(()) => {}
                    ControlFlow::Break(Halt::Ended) => {
                        self.machine.leave(cpu, &mut body.context);
                        return;
                    }
                    ControlFlow::Break(Halt::Stands) => continue,
                    ControlFlow::Break(Halt::Held) => match thread.block(body) {
                        Some(woken) => {
                            thread.accept_wake();
                            body = woken;
                            continue;
                        }
                        None => return,
                    },
                }
            }
            self.scheduler.leave_collecting();
            let slice = self.scheduler.slice(self.timers.earliest_ns());
            // What the calls left that could not be answered on the spot.
            let mut left = None;
            let trap = self.machine.enter(cpu, &mut body.context, slice, &mut |context| {
                left = Some(match syscall::dispatch(thread, context, cpu) {
                    Outcome::Now(Finish::Return(result)) if !thread.is_traced() => {
                        syscall::set_result(thread, context, result);
                        if !thread.has_attention() && self.scheduler.slice(self.timers.earliest_ns()) == slice
                        {
                            return true;
                        }
                        Outcome::Now(Finish::Keep)
                    }
                    outcome => outcome,
                });
                false
            });
            if let Some(debugger) = self.debugger_of(thread)
                && debugger.trapped(thread, trap, &mut body.context)
            {
                continue;
            }
            let finish = match trap {
                Trap::Syscall => left.expect("invariant: a call that ends the entry leaves something"),
                Trap::Exception(exception) => {
                    if thread.steps() {
                        body.context.registers.rflags &= !signal::TRAP_FLAG;
                    }
                    if signal::is_arithmetic(&exception) {
                        // What it was is in the extended state.
                        self.machine.leave(cpu, &mut body.context);
                    }
                    signal::raise_exception(thread, exception, &body.context);
                    continue;
                }
                Trap::Interrupt => {
                    if self.collect_briefly(cpu) {
                        self.scheduler.rate_delay(thread);
                    }
                    self.scheduler.end_tick();
                    if self.scheduler.contended() {
                        self.machine.leave(cpu, &mut body.context);
                        thread.give_way(body);
                        return;
                    }
                    continue;
                }
            };
            match finish {
                Outcome::Now(Finish::Yield) => {
                    syscall::set_result(thread, &mut body.context, Ok(0));
                    self.machine.leave(cpu, &mut body.context);
                    thread.give_way(body);
                    return;
                }
                Outcome::Now(finish) => {
                    if self.finish_call(cpu, thread, &mut body, finish) {
                        return;
                    }
                }
                Outcome::Later(pending) => {
                    body.pending = Some(pending);
                    self.machine.leave(cpu, &mut body.context);
                    match thread.block(body) {
                        Some(woken) => body = woken,
                        None => return,
                    }
                }
            }
        }
    }

    /// Polls a pending call. `None`: the thread has blocked or ended, and its body with it.
    fn resume_call(self: &Arc<Self>, cpu: Cpu, thread: &Arc<Thread>, mut body: Body) -> Option<Body> {
        let waker = Waker::from(thread.clone());
        loop {
            thread.accept_wake();
            if let Some(debugger) = self.debugger_of(thread)
                && thread.has_attention()
                && debugger.holds(thread, &mut body)
            {
                body = thread.block(body)?;
                continue;
            }
            // The debugger may have made the thread give it up.
            let Some(pending) = body.pending.as_mut() else { return Some(body) };
            match pending.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
                Poll::Ready(finish) => {
                    body.pending = None;
                    return if self.finish_call(cpu, thread, &mut body, finish) { None } else { Some(body) };
                }
                Poll::Pending => {
                    self.machine.leave(cpu, &mut body.context);
                    body = thread.block(body)?;
                    // It may go on like that until another CPU has done something, and that one may need this one to
                    // look around first.
                    self.machine.wait(cpu, Patience::LOOK, false, &mut Vec::new());
                }
            }
        }
    }

    /// Applies the end of a call to the context; true if the thread is no more.
    fn finish_call(
        self: &Arc<Self>,
        cpu: Cpu,
        thread: &Arc<Thread>,
        body: &mut Body,
        finish: Finish,
    ) -> bool {
        match finish {
            Finish::Return(result) => {
                syscall::set_result(thread, &mut body.context, result);
                if thread.is_traced() {
                    self.end_traced_call(thread, body, result);
                }
                false
            }
            Finish::Redo => match syscall::start(thread, &mut body.context, cpu) {
                Outcome::Now(Finish::Yield) => self.finish_call(cpu, thread, body, Finish::Return(Ok(0))),
                Outcome::Now(finish) => self.finish_call(cpu, thread, body, finish),
                Outcome::Later(pending) => {
                    body.pending = Some(pending);
                    false
                }
            },
            Finish::Keep | Finish::Yield => {
                if thread.is_traced() {
                    let result = Ok(body.context.registers.rax);
                    self.end_traced_call(thread, body, result);
                }
                false
            }
            Finish::Start(context) => {
                self.machine.leave(cpu, &mut body.context);
                body.context = context;
                if thread.is_traced() {
                    body.pending = Some(thread.standing_at_start());
                }
                if let Some(debugger) = self.debugger_of(thread) {
                    debugger.started(thread);
                }
                false
            }
            Finish::GoOn => false,
            Finish::Exit(status) => {
                self.machine.leave(cpu, &mut body.context);
                syscall::end_thread(thread, cpu, status);
                true
            }
            Finish::End => {
                self.machine.leave(cpu, &mut body.context);
                true
            }
        }
    }

    /// What a tracer has to do with the end of a call: it may be told, and one instruction may be over.
    fn end_traced_call(&self, thread: &Arc<Thread>, body: &mut Body, result: Result<u64>) {
        if thread.stands_at_exit() {
            let value = match result {
                Ok(value) => value as i64,
                Err(errno) => -i64::from(errno.0),
            };
            body.pending = Some(thread.standing_at_exit(value));
        } else if thread.steps() {
            body.context.registers.rflags &= !signal::TRAP_FLAG;
            // TRAP_TRACE
            thread.signals.leave(Information::traced(SIGTRAP, 2));
            thread.keep_attention();
        }
    }

    /// Hands out what has happened, without waiting; whether there was anything.
    fn collect_briefly(&self, cpu: Cpu) -> bool {
        let mut events = Vec::new();
        if self.scheduler.try_collect() {
            self.machine.wait(cpu, Patience::None, true, &mut events);
            self.scheduler.end_collect();
        }
        let any = !events.is_empty();
        self.hand_out(events);
        self.timers.expire(self.machine.now().monotonic_ns);
        any
    }

    /// Hands out what has come while this CPU ran a thread and nobody was called to collect it; false: nothing.
    fn catch_up(&self, cpu: Cpu, ran: &Arc<Thread>) -> bool {
        let mut any = false;
        self.scheduler.serve(|| any = self.collect_briefly(cpu));
        if any {
            self.scheduler.rate_delay(ran);
        }
        any
    }

    fn hand_out(&self, events: Vec<machine::Event>) {
        for event in events {
            self.devices.handle(self, event);
        }
    }

    /// Sleeps until there may be something to run.
    fn idle(&self, cpu: Cpu) {
        let collects = self.scheduler.fall_asleep(cpu);
        let kept_ns = self.timers.earliest_ns().filter(|time_ns| self.scheduler.keep_time(*time_ns));
        let patience = match kept_ns {
            _ if self.scheduler.has_work_for(cpu) => Patience::LOOK,
            Some(time_ns) => Patience::Until(time_ns),
            None => Patience::Forever,
        };
        let mut events = Vec::new();
        self.machine.wait(cpu, patience, collects, &mut events);
        if let Some(time_ns) = kept_ns {
            self.scheduler.end_keeping(time_ns);
        }
        self.scheduler.wake_up(cpu, collects);
        let any = !events.is_empty();
        self.scheduler.serve(|| {
            self.hand_out(events);
            if self.timers.earliest_ns().is_some() {
                self.timers.expire(self.machine.now().monotonic_ns);
            }
        });
        if any {
            self.scheduler.rate_call();
        }
    }

    /// Collects events that may have come meanwhile, for calls that look at readiness (poll, epoll).
    pub fn refresh(&self, cpu: Cpu) {
        self.collect_briefly(cpu);
    }
}
