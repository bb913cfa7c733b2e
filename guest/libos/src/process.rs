//! A process: what its threads share.
//!
//! Its memory may be another process's for a while (vfork(2)), and changes with the program. Who is whose
//! child and in which group is `family`'s; how it stops, continues and ends is `life`'s.

mod family;
mod identity;
mod life;
mod limit;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::lock::Mutex;
use abi::exit::Exit;
use machine::{Cpu, Space, UserRange};

use crate::errno::Result;
use crate::file::Table;
use crate::file_system::Location;
use crate::interval::IntervalTimers;
use crate::ipc::semaphore::Undo;
use crate::kernel::Kernel;
use crate::memory::Memory;
use crate::signal::{Action, ProcessSignals, SIGCHLD};
use crate::terminal::Control;
use crate::thread::Thread;
use crate::wait::WaitQueue;

pub use family::{Report, Select, States};
pub use identity::Identity;
pub use life::{News, particulars};
pub use limit::{FILE_SIZE_LIMIT, Limits, UNLIMITED};

/// ADDR_NO_RANDOMIZE (personality(2)): programs are loaded at fixed addresses.
const NOT_RANDOM: u32 = 0x4_0000;

/// What program a process runs, for /proc.
#[derive(Clone)]
pub struct Program {
    pub path: Vec<u8>,
    /// None before there is a program.
    pub place: Option<Location>,
    /// Where in its memory the strings of its arguments and environment lie.
    pub arguments: UserRange,
    pub environment: UserRange,
    pub auxiliary: Vec<u8>,
}

impl Default for Program {
    fn default() -> Self {
        let none = UserRange::new(0, 0);
        let (path, auxiliary) = (Vec::new(), Vec::new());
        Self { path, place: None, arguments: none, environment: none, auxiliary }
    }
}

/// What a new process has of its parent's.
pub struct Child {
    pub memory: Arc<Memory>,
    /// Whether descriptors are shared from now on, not copied (CLONE_FILES).
    pub shares_files: bool,
    /// The signal that tells the parent of its end; 0 for none.
    pub exit_signal: u8,
    /// Whether its parent is the caller's (CLONE_PARENT).
    pub is_sibling: bool,
}

/// A process.
pub struct Process {
    pub kernel: Arc<Kernel>,
    pub number: u32,
    /// The parent's number; 0 if it has none.
    pub parent: AtomicU32,
    memory: Mutex<Arc<Memory>>,
    /// That memory's space, to be read without a lock.
    space: AtomicU32,
    pub files: Table,
    pub identity: Mutex<Identity>,
    pub limits: Mutex<Limits>,
    pub signals: ProcessSignals,
    pub threads: Mutex<BTreeMap<u32, Arc<Thread>>>,
    pub program: Mutex<Program>,
    pub group: AtomicU32,
    /// How many signals that were for several it has been sent; counted with `Kernel::births` locked.
    pub addressed: AtomicU64,
    pub session: AtomicU32,
    /// The session's terminal, as far as the process knows it.
    pub terminal: Mutex<Option<Arc<Control>>>,
    pub timers: IntervalTimers,
    /// Time of its threads on CPUs, in runs that are over.
    pub cpu_time_ns: AtomicU64,
    /// The same of its children that were waited for, and of theirs.
    pub children_time_ns: AtomicU64,
    pub started_ns: u64,
    /// nice(2): remembered, for nothing on an island gives way.
    pub nice: AtomicI32,
    /// The signal that tells the parent of its end; 0 for none.
    pub exit_signal: AtomicU8,
    /// Flags of personality(2).
    pub personality: AtomicU32,
    /// Whether it has executed a program since it was made (setpgid(2)).
    pub executed: AtomicBool,
    /// Whether it takes in the orphans among its descendants (PR_SET_CHILD_SUBREAPER).
    pub reaps: AtomicBool,
    /// The signal it wants when its parent ends (PR_SET_PDEATHSIG); 0 for none.
    pub parent_death: AtomicU8,
    /// Its children's numbers; changed only under the lock of `Kernel::processes`.
    children: Mutex<BTreeSet<u32>>,
    /// Told when a child has news.
    pub child_news: WaitQueue,
    /// Threads that it traces, by number, and those that have ended since.
    pub(crate) tracees: Mutex<Option<BTreeMap<u32, Weak<Thread>>>>,
    pub(crate) ended_tracees: Mutex<Vec<Report>>,
    life: life::Life,
    /// What its end does to semaphores (semop(2), SEM_UNDO).
    pub undo: Mutex<Undo>,
    /// The thread that ends the others to run a new program; 0 for none.
    pub sole_survivor: AtomicU32,
}

impl Process {
    /// The island's first process, without a thread yet.
    pub fn first(kernel: &Arc<Kernel>) -> Arc<Self> {
        Self::with(kernel, Memory::first(&*kernel.machine))
    }

    /// A first process that has nothing of a program: it takes in orphans and lets them go. The one after it
    /// is the main process, which is returned.
    pub fn after_init(kernel: &Arc<Kernel>) -> Arc<Self> {
        let init = Self::with(kernel, Memory::none(&*kernel.machine));
        init.signals.set_action(SIGCHLD, Action { handler: 1, ..Action::default() });
        init.program.lock().path = b"init".to_vec();
        let number = kernel.numbers.take().expect("invariant: one is used");
        let memory = Memory::first(&*kernel.machine);
        let main = init
            .child(number, Child { memory, shares_files: false, exit_signal: SIGCHLD, is_sibling: false });
        main.signals.set_action(SIGCHLD, Action::default());
        main.group.store(number, Ordering::Relaxed);
        main.session.store(number, Ordering::Relaxed);
        kernel.set_main(&main);
        main
    }

    fn with(kernel: &Arc<Kernel>, memory: Arc<Memory>) -> Arc<Self> {
        let number = kernel.numbers.take().expect("invariant: none is used yet");
        let process = Arc::new(Self::blank(kernel, number, memory));
        kernel.processes.lock().insert(number, process.clone());
        process
    }

    /// What a process begins as, of which nobody knows yet.
    fn blank(kernel: &Arc<Kernel>, number: u32, memory: Arc<Memory>) -> Self {
        Self {
            kernel: kernel.clone(),
            number,
            parent: AtomicU32::new(0),
            space: AtomicU32::new(memory.space.0),
            memory: Mutex::new(memory),
            files: Table::default(),
            identity: Mutex::new(Identity::first(&kernel.boot)),
            limits: Mutex::new(limit::of(&kernel.boot.limits)),
            signals: ProcessSignals::default(),
            threads: Mutex::new(BTreeMap::new()),
            program: Mutex::new(Program::default()),
            group: AtomicU32::new(number),
            addressed: AtomicU64::new(0),
            session: AtomicU32::new(number),
            terminal: Mutex::new(None),
            timers: IntervalTimers::default(),
            cpu_time_ns: AtomicU64::new(0),
            children_time_ns: AtomicU64::new(0),
            started_ns: kernel.started_ns,
            nice: AtomicI32::new(0),
            exit_signal: AtomicU8::new(SIGCHLD),
            personality: AtomicU32::new(0),
            executed: AtomicBool::new(false),
            reaps: AtomicBool::new(false),
            parent_death: AtomicU8::new(0),
            children: Mutex::default(),
            child_news: WaitQueue::new(),
            tracees: Mutex::new(Some(BTreeMap::new())),
            ended_tracees: Mutex::default(),
            life: life::Life::default(),
            undo: Mutex::default(),
            sole_survivor: AtomicU32::new(0),
        }
    }

    /// A new process, as much the same as fork(2) says, without a thread yet.
    pub fn child(self: &Arc<Self>, number: u32, child: Child) -> Arc<Self> {
        let copy = |value: &AtomicU32| AtomicU32::new(value.load(Ordering::Relaxed));
        let process = Arc::new(Self {
            parent: AtomicU32::new(self.number),
            files: if child.shares_files { self.files.shared() } else { self.files.copied() },
            identity: Mutex::new(self.who()),
            limits: Mutex::new(*self.limits.lock()),
            signals: self.signals.inherited(),
            program: Mutex::new(self.program.lock().clone()),
            group: copy(&self.group),
            session: copy(&self.session),
            terminal: Mutex::new(self.terminal.lock().clone()),
            started_ns: self.kernel.machine.now().monotonic_ns,
            nice: AtomicI32::new(self.nice.load(Ordering::Relaxed)),
            exit_signal: AtomicU8::new(child.exit_signal),
            personality: copy(&self.personality),
            ..Self::blank(&self.kernel, number, child.memory)
        });
        family::adopt(self, &process, child.is_sibling);
        process
    }

    /// The memory it has now.
    pub fn memory(&self) -> Arc<Memory> {
        self.memory.lock().clone()
    }

    /// The address space it has now.
    pub fn space(&self) -> Space {
        Space(self.space.load(Ordering::Relaxed))
    }

    /// Gives the process empty memory for a new program, active on this CPU, and leaves the old.
    pub fn renew_memory(&self, cpu: Cpu) -> Result<Arc<Memory>> {
        let machine = &*self.kernel.machine;
        let old = self.memory();
        if old.space == Space::FIRST && !old.is_shared() {
            old.lock().clear(machine, old.space);
            return Ok(old);
        }
        let new = Memory::new(machine, cpu)?;
        self.use_memory(new.clone());
        machine.activate(cpu, new.space);
        old.leave(machine, cpu);
        // Whoever leaves a space last may leave another one active.
        machine.activate(cpu, new.space);
        Ok(new)
    }

    fn use_memory(&self, memory: Arc<Memory>) {
        self.space.store(memory.space.0, Ordering::Relaxed);
        *self.memory.lock() = memory;
    }

    /// Whether the process is being ended as a whole.
    pub fn ending(&self) -> bool {
        self.life.ending()
    }

    /// Whether this thread has to end: the process ends, or another thread runs a new program.
    pub fn must_end(&self, thread: &Thread) -> bool {
        let survivor = self.sole_survivor.load(Ordering::SeqCst);
        self.ending() || (survivor != 0 && survivor != thread.number())
    }

    /// Whether programs are loaded at addresses that nobody can guess.
    pub fn is_randomised(&self) -> bool {
        self.personality.load(Ordering::Relaxed) & NOT_RANDOM == 0
    }

    /// Whether it has no parent.
    pub fn is_first(&self) -> bool {
        self.parent.load(Ordering::Relaxed) == 0
    }

    /// Whether its end is the island's.
    pub fn is_main(&self) -> bool {
        self.number == self.kernel.main()
    }

    /// Time of all its threads on CPUs (clock_gettime(2), CLOCK_PROCESS_CPUTIME_ID).
    pub fn processor_time_ns(&self) -> u64 {
        let now_ns = self.kernel.machine.now().monotonic_ns;
        let running: u64 = self.threads.lock().values().map(|thread| thread.current_run_ns(now_ns)).sum();
        self.cpu_time_ns.load(Ordering::Relaxed) + running
    }

    /// What the process may do at this moment. A copy, so that nobody ever holds what two processes lock here.
    pub fn who(&self) -> Identity {
        self.identity.lock().clone()
    }

    /// A limit's soft value.
    pub fn limit(&self, resource: usize) -> u64 {
        self.limits.lock()[resource].0
    }

    /// Ends the process; its threads end as soon as each looks. The main process's end is the island's.
    pub fn end(&self, exit: Exit) {
        self.begin_end(exit);
    }

    /// The same; the answer is whether it was not ending already.
    pub(crate) fn begin_end(&self, exit: Exit) -> bool {
        if self.is_main() {
            if let Some(debugger) = &self.kernel.debugger {
                debugger.over(&exit);
            }
            self.kernel.halt(exit)
        }
        let first = self.life.end(life::status(&exit));
        self.alert();
        first
    }

    /// Makes all threads look around.
    pub(crate) fn alert(&self) {
        let threads: Vec<Arc<Thread>> = self.threads.lock().values().cloned().collect();
        threads.iter().for_each(Thread::call_attention);
    }
}
