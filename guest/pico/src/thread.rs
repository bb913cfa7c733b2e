//! The first process's threads: one per virtual CPU, a few that wait for disks, one that keeps time, one that
//! watches other processes.
//!
//! All are made before the filter stands and parked until needed, but for the last, which is made with the first
//! other process; none ever ends.

use alloc::sync::Arc;
use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU32, Ordering::*};

use abi::Code;
use linux_raw_sys::{errno, general as linux};
use machine::Cpu;

use crate::local::{LOCALS, Local};
use crate::lock::Mutex;
use crate::{host, layout, signal, space};

/// What a virtual CPU runs once it is started.
type Body = Arc<dyn Fn(Cpu) + Send + Sync>;

static BODIES: [Mutex<Option<Body>>; layout::CPUS_MAX] = [const { Mutex::new(None) }; layout::CPUS_MAX];
/// Virtual CPUs whose threads are not parked yet.
static MISSING: AtomicU32 = AtomicU32::new(0);
/// The first process's number.
static PROCESS: AtomicU32 = AtomicU32::new(0);
/// Virtual CPUs there are.
static CPUS: AtomicU32 = AtomicU32::new(0);

/// All threads of the first process with that many virtual CPUs.
pub const fn total(cpus: u64) -> u64 {
    cpus + layout::IO_THREADS as u64 + 2
}

/// The virtual CPUs there are.
pub fn locals() -> &'static [Local] {
    &LOCALS[..CPUS.load(Relaxed) as usize]
}

/// Makes the calling thread virtual CPU 0 and starts all others.
pub fn start(cpus: u64) {
    CPUS.store(cpus as u32, Relaxed);
    MISSING.store(cpus as u32 - 1, Relaxed);
    PROCESS.store(process(), Relaxed);
    for thread in 1..total(cpus) - 1 {
        if spawn(thread).is_err() {
            crate::fatal("a thread was refused");
        }
    }
    become_cpu(0);
    LOCALS[0].started.store(1, Relaxed);
    // Their signal stacks must be set before the filter forbids it.
    loop {
        let missing = MISSING.load(Acquire);
        if missing == 0 {
            break;
        }
        host::futex_wait(&MISSING, missing, None);
    }
}

/// Starts a parked virtual CPU.
pub fn run(cpu: Cpu, body: Body) -> Result<(), Code> {
    let local = locals().get(cpu.0 as usize).ok_or(Code(errno::EINVAL as u16))?;
    *BODIES[cpu.0 as usize].lock() = Some(body);
    local.started.store(1, Release);
    host::futex_wake(&local.started, 1);
    Ok(())
}

/// Makes the thread that watches other processes.
pub fn watch() -> Result<(), Code> {
    spawn(total(locals().len() as u64) - 1)
}

/// Whether the first process is its process name space's init, with which all others end.
pub fn is_init() -> bool {
    PROCESS.load(Relaxed) == 1
}

/// The calling process's number.
pub fn process() -> u32 {
    // SAFETY: no memory is named.
    unsafe { host::call(linux::__NR_getpid, []) }.unwrap_or(0) as u32
}

fn spawn(thread: u64) -> Result<(), Code> {
    let top = layout::stack_top(thread) as *mut u64;
    // SAFETY: the stack is mapped and nobody's yet.
    let stack = unsafe {
        top.sub(1).write(thread);
        top.sub(2).write(enter as *const () as u64);
        top.sub(2)
    };
    // SAFETY: the new thread returns from the call on its own stack, to `enter`.
    unsafe { host::call(linux::__NR_clone, [space::THREAD as u64, stack as u64]) }.map(drop)
}

/// A new thread's first instruction; its number is on the stack.
#[unsafe(naked)]
unsafe extern "C" fn enter() -> ! {
    naked_asm!("pop rdi", "xor ebp, ebp", "call {body}", "ud2", body = sym body)
}

unsafe extern "C" fn body(thread: u64) -> ! {
    // SAFETY: what it has inherited is the maker's; a virtual CPU gets its own next.
    unsafe { asm!("wrgsbase {}", in(reg) 0_u64, options(nostack, preserves_flags)) };
    let cpus = locals().len() as u64;
    if thread < cpus {
        cpu(thread as usize)
    } else if thread < cpus + layout::IO_THREADS as u64 {
        crate::io::serve()
    } else if thread == total(cpus) - 1 {
        space::watch()
    } else {
        crate::ticker::run()
    }
}

fn cpu(number: usize) -> ! {
    become_cpu(number);
    if MISSING.fetch_sub(1, Release) == 1 {
        host::futex_wake(&MISSING, 1);
    }
    let local = &LOCALS[number];
    while local.started.load(Acquire) == 0 {
        host::futex_wait(&local.started, 0, None);
    }
    let body = BODIES[number].lock().take().expect("invariant: a body precedes the start");
    body(Cpu(number as u16));
    crate::pico::broken(format_args!("virtual CPU {number} returned"))
}

/// Makes the calling thread a virtual CPU.
fn become_cpu(number: usize) {
    let local = &LOCALS[number];
    let low: u32;
    // SAFETY: FSGSBASE was checked at start; XGETBV exists wherever the kernel uses XSAVE, and AVX-512's
    // or AVX's absence only clears bits.
    unsafe {
        asm!("wrgsbase {}", in(reg) local, options(nostack, preserves_flags));
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack));
    }
    local.head.components.store(low as u64 & machine::EXTENDED_MASK, Relaxed);
    // SAFETY: no memory is named.
    let thread = unsafe { host::call(linux::__NR_gettid, []) }.unwrap_or(0);
    local.set_runs(PROCESS.load(Relaxed), thread as u32);
    signal::set_stack(number);
}
