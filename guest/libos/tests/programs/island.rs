//! An island in memory: the fake machine, a tree with one program in it, and three streams.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use abi::boot::{Boot, Mount, MountKind, Stream, Tree};
use abi::exit::Exit;
use libos::HostClock;
use machine::Handle;
use machine::fake::{Fake, Faults, Program, run};

/// System call numbers (syscall_64.tbl).
pub mod number {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const OPEN: u64 = 2;
    pub const CLOSE: u64 = 3;
    pub const FSTAT: u64 = 5;
    pub const LSEEK: u64 = 8;
    pub const MMAP: u64 = 9;
    pub const MUNMAP: u64 = 11;
    pub const RT_SIGACTION: u64 = 13;
    pub const RT_SIGPROCMASK: u64 = 14;
    pub const RT_SIGRETURN: u64 = 15;
    pub const IOCTL: u64 = 16;
    pub const PREAD: u64 = 17;
    pub const PWRITE: u64 = 18;
    pub const PAUSE: u64 = 34;
    pub const UNLINK: u64 = 87;
    pub const NANOSLEEP: u64 = 35;
    pub const GETPID: u64 = 39;
    pub const CLONE: u64 = 56;
    pub const FORK: u64 = 57;
    pub const VFORK: u64 = 58;
    pub const EXECVE: u64 = 59;
    pub const EXIT: u64 = 60;
    pub const WAIT4: u64 = 61;
    pub const KILL: u64 = 62;
    pub const FSYNC: u64 = 74;
    pub const FDATASYNC: u64 = 75;
    pub const SYNC: u64 = 162;
    pub const SYNCFS: u64 = 306;
    pub const FTRUNCATE: u64 = 77;
    pub const SETPGID: u64 = 109;
    pub const GETPPID: u64 = 110;
    pub const PIPE: u64 = 22;
    pub const RT_SIGSUSPEND: u64 = 130;
    pub const FUTEX: u64 = 202;
    pub const CLOCK_GETTIME: u64 = 228;
    pub const EXIT_GROUP: u64 = 231;
}

pub const TREE: Tree = Tree(0);
/// How many seeds each program runs with, unless `EYOT_SEEDS` says more.
pub const SEEDS: u64 = 100;

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub exit: Exit,
    pub output: Vec<u8>,
    pub said: Vec<String>,
}

/// The machine before the guest starts.
pub struct Island {
    pub machine: Arc<Fake>,
    pub input: Handle,
    output: Handle,
}

/// Ends the program with a status.
pub fn exit(program: Program, status: u64) -> Program {
    program.call(number::EXIT_GROUP, [status, 0, 0, 0, 0, 0])
}

/// Where [`told_apart`] puts the arguments for a path.
pub fn arguments(path: u64) -> u64 {
    path + 32
}

/// Writes down the program's own path, for execve(2), and its arguments; once executed it goes on at `second`.
pub fn told_apart(path: u64, second: u64) -> Program {
    Program::new().step(move |step| {
        if step.read_u64(step.context.registers.rsp) == 1 {
            assert_eq!(step.read(path, 8), Ok(vec![0; 8]), "its memory is fresh");
            return step.jump(second);
        }
        step.write(path, b"/bin/program\0");
        for (at, word) in [path, 0].into_iter().enumerate() {
            step.write(arguments(path) + 8 * at as u64, &word.to_le_bytes());
        }
        step.go_on()
    })
}

impl Island {
    pub fn new(program: Program, seed: u64, faults: Faults) -> Self {
        let machine = Fake::new(seed, faults, program);
        machine.add_directory(TREE, "", 0o755);
        machine.add_file(TREE, "bin/program", 0o755, &Program::executable());
        let (input, output) = (machine.add_stream(), machine.add_stream());
        Self { machine, input, output }
    }

    pub fn boot(&self) -> Boot {
        Boot {
            program: b"/bin/program".to_vec(),
            arguments: vec![b"program".to_vec(), b"argument".to_vec()],
            environment: vec![b"NAME=value".to_vec()],
            directory: b"/".to_vec(),
            hostname: b"island".to_vec(),
            user: 0,
            group: 0,
            groups: vec![],
            cpus: 1,
            memory: 1 << 30,
            scratch: 1 << 28,
            mounts: vec![Mount { path: b"/".to_vec(), tree: TREE, kind: MountKind::Overlay }],
            disks: vec![],
            streams: [Stream::Pipe(self.input), Stream::Pipe(self.output), Stream::Null],
            published: vec![],
            outgoing: false,
            trace: None,
            record: None,
            debugger: None,
            limits: Vec::new(),
            init: false,
            seed: [7; 32],
        }
    }

    pub fn run(&self, boot: Boot) -> Outcome {
        let machine = self.machine.clone();
        let exit = run(move || libos::boot(machine, boot, HostClock::default()));
        Outcome { exit, output: self.machine.output(self.output), said: self.machine.said() }
    }
}

/// Runs a program with many seeds and judges each run; a failure tells its seed.
pub fn over_seeds(program: impl Fn() -> Program, judge: impl Fn(Outcome)) {
    over_seeds_with(program, |_| {}, judge);
}

/// The same, with something done to the island before it starts.
pub fn over_seeds_with(program: impl Fn() -> Program, prepare: impl Fn(&Island), judge: impl Fn(Outcome)) {
    let seeds = std::env::var("EYOT_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        let faults = if seed == 0 { Faults::default() } else { Faults::HARMLESS };
        let once = || {
            let island = Island::new(program(), seed, faults);
            prepare(&island);
            // On one, two and three CPUs, in an order that the seed decides.
            judge(island.run(Boot { cpus: 1 + (seed % 3) as u16, ..island.boot() }));
        };
        if let Err(failure) = catch_unwind(AssertUnwindSafe(once)) {
            eprintln!("this happened with seed {seed}");
            resume_unwind(failure);
        }
    }
}

/// Judges that a program has found nothing wrong.
pub fn well(outcome: Outcome) {
    assert_eq!(outcome.exit, Exit::Status(0), "said {:?}", outcome.said);
}
