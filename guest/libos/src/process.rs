//! A process: what its threads share.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use abi::exit::Exit;
use machine::Space;
use spin::Mutex;

use crate::file::Table;
use crate::file_system::Location;
use crate::kernel::Kernel;
use crate::memory::AddressSpace;
use crate::signal::ProcessSignals;
use crate::thread::Thread;

/// Who a process acts as, as the island sees it (credentials(7)).
#[derive(Clone, Debug)]
pub struct Identity {
    pub real_user: u32,
    pub user: u32,
    pub saved_user: u32,
    pub real_group: u32,
    pub group: u32,
    pub saved_group: u32,
    pub groups: Vec<u32>,
}

impl Identity {
    pub fn privileged(&self) -> bool {
        self.user == 0
    }
    pub fn in_group(&self, group: u32) -> bool {
        self.group == group || self.groups.contains(&group)
    }
}

/// Resource limits (getrlimit(2)): soft and hard, by number.
pub type Limits = [(u64, u64); 16];

/// RLIMIT_FSIZE.
pub const FILE_SIZE_LIMIT: usize = 1;

/// No limit.
pub const UNLIMITED: u64 = u64::MAX;

fn default_limits() -> Limits {
    let mut limits = [(UNLIMITED, UNLIMITED); 16];
    limits[3] = (8 << 20, UNLIMITED); // RLIMIT_STACK
    limits[4] = (0, UNLIMITED); // RLIMIT_CORE
    limits[6] = (32_768, 32_768); // RLIMIT_NPROC
    limits[7] = (1024, 1 << 20); // RLIMIT_NOFILE
    limits[8] = (8 << 20, 8 << 20); // RLIMIT_MEMLOCK
    limits[12] = (800 << 10, 800 << 10); // RLIMIT_MSGQUEUE
    limits[13] = (0, 0); // RLIMIT_NICE
    limits[14] = (0, 0); // RLIMIT_RTPRIO
    limits
}

/// What program a process runs, for /proc.
#[derive(Clone, Default)]
pub struct Program {
    pub path: Vec<u8>,
    /// None before there is a program.
    pub place: Option<Location>,
    pub arguments: Vec<Vec<u8>>,
    pub environment: Vec<Vec<u8>>,
    pub auxiliary: Vec<u8>,
}

/// A process.
pub struct Process {
    pub kernel: Arc<Kernel>,
    pub number: u32,
    pub parent: u32,
    pub space: Space,
    pub memory: Mutex<AddressSpace>,
    pub files: Table,
    pub directory: Mutex<Location>,
    pub root: Mutex<Location>,
    pub file_mask: AtomicU32,
    pub identity: Mutex<Identity>,
    pub limits: Mutex<Limits>,
    pub signals: ProcessSignals,
    pub threads: Mutex<BTreeMap<u32, Arc<Thread>>>,
    pub program: Mutex<Program>,
    pub group: AtomicU32,
    pub session: AtomicU32,
    pub timers: crate::interval::IntervalTimers,
    /// Time of its threads on CPUs, in runs that are over.
    pub cpu_time_ns: AtomicU64,
    /// nice(2): remembered, for one service has nobody to be nice to.
    pub nice: AtomicI32,
    ending: AtomicBool,
    /// The thread that ends the others to run a new program; 0 for none.
    pub sole_survivor: AtomicU32,
}

impl Process {
    /// The island's first process, without a thread yet.
    pub fn first(kernel: &Arc<Kernel>) -> Arc<Self> {
        let boot = &kernel.boot;
        let number = kernel.next_number();
        let root = kernel.file_systems.root();
        let process = Arc::new(Self {
            kernel: kernel.clone(),
            number,
            parent: 0,
            space: Space(0),
            memory: Mutex::new(AddressSpace::new(kernel.machine.user_end())),
            files: Table::default(),
            directory: Mutex::new(root.clone()),
            root: Mutex::new(root),
            file_mask: AtomicU32::new(0o022),
            identity: Mutex::new(Identity {
                real_user: boot.user,
                user: boot.user,
                saved_user: boot.user,
                real_group: boot.group,
                group: boot.group,
                saved_group: boot.group,
                groups: boot.groups.clone(),
            }),
            limits: Mutex::new(default_limits()),
            signals: ProcessSignals::default(),
            threads: Mutex::new(BTreeMap::new()),
            program: Mutex::new(Program::default()),
            group: AtomicU32::new(number),
            session: AtomicU32::new(number),
            timers: crate::interval::IntervalTimers::default(),
            cpu_time_ns: AtomicU64::new(0),
            nice: AtomicI32::new(0),
            ending: AtomicBool::new(false),
            sole_survivor: AtomicU32::new(0),
        });
        kernel.processes.lock().insert(number, process.clone());
        process
    }

    /// Whether the process is being ended as a whole.
    pub fn ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Whether this thread has to end: the process ends, or another thread runs a new program.
    pub fn must_end(&self, thread: &Thread) -> bool {
        let survivor = self.sole_survivor.load(Ordering::SeqCst);
        self.ending() || (survivor != 0 && survivor != thread.number)
    }

    /// Ends the process. The first process's end is the island's.
    pub fn end(&self, exit: Exit) -> ! {
        self.ending.store(true, Ordering::SeqCst);
        if let Some(debugger) = &self.kernel.debugger {
            debugger.over(&exit);
        }
        self.kernel.halt(exit)
    }

    /// Time of all its threads on CPUs (clock_gettime(2), CLOCK_PROCESS_CPUTIME_ID).
    pub fn processor_time_ns(&self) -> u64 {
        let now_ns = self.kernel.machine.now().monotonic_ns;
        let running: u64 = self.threads.lock().values().map(|thread| thread.current_run_ns(now_ns)).sum();
        self.cpu_time_ns.load(Ordering::Relaxed) + running
    }

    /// A limit's soft value.
    pub fn limit(&self, resource: usize) -> u64 {
        self.limits.lock()[resource].0
    }
}
