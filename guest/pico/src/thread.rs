//! The host threads: one per virtual CPU, a few that wait for disks, one that keeps time.
//!
//! All are made before the filter stands and parked until needed; a thread never ends.

use alloc::sync::Arc;
use core::arch::{asm, naked_asm};
use core::sync::atomic::{AtomicU32, Ordering::*};

use abi::Code;
use linux_raw_sys::{errno, general as linux};
use machine::Cpu;

use crate::local::{LOCALS, Local};
use crate::lock::Mutex;
use crate::{host, layout, signal};

/// What a virtual CPU runs once it is started.
type Body = Arc<dyn Fn(Cpu) + Send + Sync>;

static BODIES: [Mutex<Option<Body>>; layout::CPUS_MAX] = [const { Mutex::new(None) }; layout::CPUS_MAX];
/// Virtual CPUs whose threads are not parked yet.
static MISSING: AtomicU32 = AtomicU32::new(0);
/// Virtual CPUs there are.
static CPUS: AtomicU32 = AtomicU32::new(0);

const FLAGS: u32 = linux::CLONE_VM
    | linux::CLONE_FS
    | linux::CLONE_FILES
    | linux::CLONE_SIGHAND
    | linux::CLONE_THREAD
    | linux::CLONE_SYSVSEM;

/// All threads of an island with that many virtual CPUs.
pub const fn total(cpus: u64) -> u64 {
    cpus + layout::IO_THREADS as u64 + 1
}

/// The virtual CPUs there are.
pub fn locals() -> &'static [Local] {
    &LOCALS[..CPUS.load(Relaxed) as usize]
}

/// Makes the calling thread virtual CPU 0 and starts all others.
pub fn start(cpus: u64) {
    CPUS.store(cpus as u32, Relaxed);
    MISSING.store(cpus as u32 - 1, Relaxed);
    for thread in 1..total(cpus) {
        spawn(thread);
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

fn spawn(thread: u64) {
    let top = layout::stack_top(thread) as *mut u64;
    // SAFETY: the stack is mapped and nobody's yet.
    let stack = unsafe {
        top.sub(1).write(thread);
        top.sub(2).write(enter as *const () as u64);
        top.sub(2)
    };
    // SAFETY: the new thread returns from the call on its own stack, to `enter`.
    if unsafe { host::call(linux::__NR_clone, [FLAGS as u64, stack as u64]) }.is_err() {
        crate::fatal("a thread was refused");
    }
}

/// A new thread's first instruction; its number is on the stack.
#[unsafe(naked)]
unsafe extern "C" fn enter() -> ! {
    naked_asm!("pop rdi", "xor ebp, ebp", "call {body}", "ud2", body = sym body)
}

unsafe extern "C" fn body(thread: u64) -> ! {
    let cpus = locals().len() as u64;
    if thread < cpus {
        cpu(thread as usize)
    } else if thread < cpus + layout::IO_THREADS as u64 {
        crate::io::serve()
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
    local.thread.store(thread as i32, Relaxed);
    signal::set_stack(number);
}
