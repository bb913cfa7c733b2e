//! The library OS: Linux for one service, over `trait Machine`.
//!
//! A system call comes as a trap, is decoded once ([`syscall`]), works on processes, memory, files,
//! sockets, time and signals, and reaches outside only through [`machine::Machine`] and
//! [`machine::Device`]. Calls that wait are futures; threads have no stack here.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod clock;
mod core_dump;
pub mod debugger;
pub mod device;
pub mod entropy;
pub mod errno;
pub mod file;
pub mod file_system;
mod foreign;
pub mod futex;
pub mod interval;
pub mod ipc;
pub mod job;
pub mod kernel;
pub mod loader;
mod lock;
pub mod memory;
pub mod network;
pub mod numbers;
pub mod process;
mod ptrace;
pub mod scheduler;
mod shortage;
pub mod signal;
mod start;
pub mod syscall;
pub mod terminal;
pub mod thread;
pub mod timer;
mod trace;
mod user;
pub mod wait;

use alloc::sync::Arc;

use abi::boot::Boot;
use machine::{Cpu, Machine};

pub(crate) use syscall::end_thread as syscall_end;

/// What uname(2) calls the release: the kernel whose interface is followed.
pub const RELEASE: &str = "6.1.0-eyot";
pub const VERSION: &str = "#1 SMP Eyot";

/// How applications read the time without a system call: the counter, if there is one for them, else by the
/// host's own functions (vdso(7)), whose addresses are 0 where there are none.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock {
    pub counter: Option<Counter>,
    pub clock_gettime: u64,
    pub gettimeofday: u64,
    pub time: u64,
    pub clock_getres: u64,
}

/// The time-stamp counter: the machine's monotonic clock is the ticks since `start`, times `scale`, over 2^32.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    pub start: u64,
    pub scale: u64,
    /// The time since the epoch at the start.
    pub epoch_ns: u64,
}

/// Starts the service and never returns: CPU 0 runs here, the others are started.
pub fn boot(machine: Arc<dyn Machine>, boot: Boot, clock: HostClock) -> ! {
    let cpus = boot.cpus.clamp(1, 64);
    let kernel = kernel::Kernel::new(machine.clone(), boot, clock);
    start::first_process(&kernel);
    for number in 1..cpus {
        let (body, cpu) = (kernel.clone(), Cpu(number));
        kernel.scheduler.begin(cpu);
        // An island with fewer CPUs than asked for is slower, not wrong.
        if machine.start_cpu(cpu, Arc::new(move |cpu| body.run_cpu(cpu))).is_err() {
            kernel.scheduler.wake_up(cpu, false);
            break;
        }
    }
    kernel.run_cpu(Cpu(0))
}
