//! The place of a host thread: what it sleeps on, and as little stack as it needs for that.
//!
//! Kernel stacks belong to virtual CPUs and go with them from process to process, so a thread that carries no
//! CPU may not touch one: it sleeps in a few instructions (`asleep`), on the stack in its seat. Seats lie in the
//! state, where every process of the island sees them.
//!
//! Two kinds of threads have one. A virtual CPU's thread sleeps until the CPU comes to its space, and then
//! returns from the very call of [`hand_over`] that the CPU has left another space by. A space's steward, which
//! is its first thread, makes all others of it, copies of it, and ends it, as it is ordered; it never runs
//! anything else, so whoever asks it is answered.

use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use abi::Code;
use linux_raw_sys::general as linux;

use super::asleep::{cpu_entry, hand_over, sentry_entry, steward_entry};
use crate::local::{LOCALS, Local};
use crate::{host, layout};

/// A process that is a copy of the caller's, with the same descriptors. Nobody waits for it (SIGCHLD is
/// ignored); its descriptor tells of its end.
pub const PROCESS: u32 = linux::CLONE_FILES | linux::CLONE_PIDFD | linux::SIGCHLD;
/// A thread of the caller's process.
pub const THREAD: u32 = linux::CLONE_VM
    | linux::CLONE_FS
    | linux::CLONE_FILES
    | linux::CLONE_SIGHAND
    | linux::CLONE_THREAD
    | linux::CLONE_SYSVSEM;

// Orders, as bits of `word`.
pub const RUN: u32 = 1;
pub const MAKE: u32 = 2;
pub const END: u32 = 4;

/// Words on a seat's stack: an entry and its argument, or a return address.
pub const STACK: usize = 4;

#[repr(C, align(64))]
pub struct Seat {
    /// What its thread is to do; it sleeps while this is zero.
    pub word: AtomicU32,
    /// The host's number for its thread; zero while there is none, an error if there cannot be one.
    pub thread: AtomicU32,
    /// Its thread can be sent signals.
    pub ready: AtomicU32,
    /// Where its thread is a process's first, that process's descriptor.
    pub descriptor: AtomicU32,
    /// A steward's order: the seat to be filled, by a clone with these flags.
    pub order: AtomicPtr<Seat>,
    pub flags: AtomicU64,
    /// The order is not carried out yet.
    pub busy: AtomicU32,
    /// The seat that is filled in the same way after this one.
    pub next: *const Seat,
    /// Some order to fill it was given.
    asked: AtomicBool,
    /// What is mapped for applications goes, before anything else.
    pub empties: u32,
    /// Its thread's [`Local`]; null for a steward.
    pub local: *const Local,
    /// `stack_t` of its thread's signal stack.
    pub signals: [u64; 3],
    /// `struct epoll_event`, which nobody reads.
    pub event: [u64; 2],
    pub stack: [AtomicU64; STACK],
}

// SAFETY: what is not atomic does not change once the seat is made, but for `event`, which is one kernel's.
unsafe impl Sync for Seat {}
// SAFETY: `local` points to a static.
unsafe impl Send for Seat {}

impl Seat {
    fn new(local: *const Local, signal_stack: usize) -> Self {
        Self {
            word: AtomicU32::new(0),
            thread: AtomicU32::new(0),
            ready: AtomicU32::new(0),
            descriptor: AtomicU32::new(0),
            order: AtomicPtr::new(ptr::null_mut()),
            flags: AtomicU64::new(0),
            busy: AtomicU32::new(0),
            next: ptr::null(),
            asked: AtomicBool::new(false),
            empties: 0,
            local,
            signals: layout::signal_stack(signal_stack),
            event: [0; 2],
            stack: [const { AtomicU64::new(0) }; STACK],
        }
    }

    /// Prepares the stack that the clone begins on; its address.
    fn prepare(&self, entry: unsafe extern "C" fn() -> !) {
        self.stack[STACK - 2].store(entry as *const () as u64, Relaxed);
        self.stack[STACK - 1].store(&raw const *self as u64, Release);
    }

    /// Waits until there is a thread, and answers its number or why there is none.
    fn made(&self) -> Result<u32, Code> {
        loop {
            match self.thread.load(Acquire) {
                0 => host::futex_wait(&self.thread, 0, None),
                error if (error as i32) < 0 => return Err(Code((error as i32).unsigned_abs() as u16)),
                thread => return Ok(thread),
            }
        }
    }

    fn tell(&self, order: u32) {
        self.word.fetch_or(order, SeqCst);
        host::futex_wake(&self.word, 1);
    }

    /// Orders a steward to fill a seat, once it has done what it was ordered before.
    fn order(&self, seat: &Seat, flags: u32) {
        while self.busy.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
            host::futex_wait(&self.busy, 1, None);
        }
        self.place(seat, flags);
        self.tell(MAKE);
    }

    fn place(&self, seat: &Seat, flags: u32) {
        self.busy.store(1, Relaxed);
        self.flags.store(u64::from(flags), Relaxed);
        self.order.store((&raw const *seat).cast_mut(), Release);
    }
}

/// All threads of one space.
pub struct Seats {
    steward: Box<Seat>,
    cpus: Box<[Seat]>,
    /// Ends the process when the island's first one ends, where the host does not do that.
    _sentry: Option<Box<Seat>>,
}

impl Seats {
    /// Seats for a space to be made; `cpu` is the first to come there. An empty space has nothing mapped for
    /// applications.
    pub fn new(cpu: usize, empty: bool) -> Self {
        let mut cpus = of_cpus();
        let sentry = (!crate::thread::is_init()).then(|| Box::new(Seat::new(ptr::null(), layout::CPUS_MAX)));
        if let Some(sentry) = &sentry {
            sentry.prepare(sentry_entry);
            cpus[cpu].next = &raw const **sentry;
        }
        cpus[cpu].prepare(cpu_entry);
        cpus[cpu].asked.store(true, Relaxed);
        let mut steward = Box::new(Seat::new(ptr::null(), layout::CPUS_MAX));
        steward.empties = u32::from(empty);
        steward.prepare(steward_entry);
        steward.place(&cpus[cpu], THREAD);
        steward.word.store(MAKE, Relaxed);
        Self { steward, cpus, _sentry: sentry }
    }

    /// Those of the first process, whose threads are there.
    pub fn first() -> Self {
        let steward = Box::new(Seat::new(ptr::null(), layout::CPUS_MAX));
        let cpus = of_cpus();
        for (seat, local) in cpus.iter().zip(crate::thread::locals()) {
            let (process, thread) = local.runs();
            steward.thread.store(process, Relaxed);
            seat.thread.store(thread, Relaxed);
            seat.asked.store(true, Relaxed);
            seat.ready.store(1, Relaxed);
        }
        Self { steward, cpus, _sentry: None }
    }

    /// The host's number for the process.
    pub fn process(&self) -> u32 {
        self.steward.thread.load(Acquire)
    }

    /// The descriptor that tells of the process's end.
    pub fn descriptor(&self) -> u32 {
        self.steward.descriptor.load(Acquire)
    }

    /// Makes the process, a copy of the caller's.
    pub fn copy(&self) -> Result<(), Code> {
        let steward = &*self.steward;
        let stack = steward.stack[STACK - 2].as_ptr() as u64;
        let descriptor = steward.descriptor.as_ptr() as u64;
        // SAFETY: the new process begins at `steward_entry` on the seat's stack, and touches nothing of the
        // caller's that is shared; the kernel writes the descriptor.
        let process = unsafe { host::call(linux::__NR_clone, [u64::from(PROCESS), stack, descriptor]) }?;
        steward.thread.store(process as u32, Release);
        Ok(())
    }

    /// Has this space's steward make the process of these other seats, a copy of its own.
    pub fn begin_copy(&self, other: &Self) {
        self.steward.order(&other.steward, PROCESS);
    }

    /// Waits for what [`Self::begin_copy`] has begun.
    pub fn copied(&self) -> Result<(), Code> {
        self.steward.made().map(drop)
    }

    /// Waits until a CPU, the calling one, has a thread here, whose number is the answer.
    pub fn summon(&self, cpu: usize) -> Result<u32, Code> {
        let seat = &self.cpus[cpu];
        if !seat.asked.swap(true, Relaxed) {
            seat.prepare(cpu_entry);
            self.steward.order(seat, THREAD);
        }
        let thread = seat.made().inspect_err(|_| {
            seat.thread.store(0, Relaxed);
            seat.asked.store(false, Relaxed);
        })?;
        while seat.ready.load(Acquire) == 0 {
            host::futex_wait(&seat.ready, 0, None);
        }
        Ok(thread)
    }

    /// Lets a CPU go on in another process, where it has a thread.
    ///
    /// # Safety
    /// It is the calling CPU, in the process of these seats; both stay as long as their processes live.
    pub unsafe fn hand_over(&self, cpu: usize, to: &Self) {
        // SAFETY: the caller's promise; the other thread sleeps, because a CPU is in one process at a time.
        unsafe { hand_over(&raw const LOCALS[cpu], &raw const self.cpus[cpu], &raw const to.cpus[cpu]) }
    }

    /// Ends the process, in which no CPU is.
    pub fn end(&self) {
        self.steward.tell(END);
    }
}

fn of_cpus() -> Box<[Seat]> {
    (0..crate::thread::locals().len()).map(|cpu| Seat::new(&raw const LOCALS[cpu], cpu)).collect()
}
