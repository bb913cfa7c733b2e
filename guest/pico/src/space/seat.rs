//! The place of a host thread: what it sleeps on, and as little stack as it needs for that.
//!
//! Kernel stacks belong to virtual CPUs and go with them from process to process, so a thread that carries no
//! CPU may not touch one: it sleeps in a few instructions (`asleep`), on the stack in its seat. Seats lie in the
//! state, where every process of the island sees them.
//!
//! A virtual CPU's thread sleeps until the CPU comes to its space, and then returns from the very call of
//! [`hand_over`] that the CPU has left another space by. A space's first thread, which is that of the CPU that made the
//! space, makes the threads of other CPUs, copies of the space, and ends it, as it is ordered: while it sleeps at once,
//! otherwise when the CPU that it carries looks around ([`Seats::serve`]), for which it is kicked.

use alloc::boxed::Box;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use abi::Code;
use linux_raw_sys::general as linux;
use machine::Space;

use super::asleep::{cpu_entry, hand_over, sentry_entry};
use crate::local::{LOCALS, Local};
use crate::{host, idle, layout};

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

/// How long an order is waited for before the CPU that is to see to it is kicked again.
const PATIENCE_NS: u64 = 1_000_000;

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
    /// What a first thread is ordered: the seat to be filled, by a clone with these flags.
    pub order: AtomicPtr<Seat>,
    pub flags: AtomicU64,
    /// The order is not carried out yet.
    pub busy: AtomicU32,
    /// Some order to fill it was given.
    asked: AtomicBool,
    /// What is mapped for applications goes, before anything else.
    pub empties: u32,
    /// Its thread's [`Local`]; null for one that carries no CPU.
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

    /// The number of its thread, or why there is none; nothing while it is being made.
    fn made(&self) -> Option<Result<u32, Code>> {
        match self.thread.load(Acquire) {
            0 => None,
            error if (error as i32) < 0 => Some(Err(Code((error as i32).unsigned_abs() as u16))),
            thread => Some(Ok(thread)),
        }
    }

    fn tell(&self, order: u32) {
        self.word.fetch_or(order, SeqCst);
        host::futex_wake(&self.word, 1);
    }

    fn place(&self, seat: &Seat, flags: u32) {
        self.busy.store(1, Relaxed);
        self.flags.store(u64::from(flags), Relaxed);
        self.order.store((&raw const *seat).cast_mut(), Release);
    }

    /// Does what this thread, the calling one, is ordered to.
    fn carry_out(&self) {
        if self.word.fetch_and(!MAKE, SeqCst) & MAKE == 0 {
            return;
        }
        // SAFETY: who has ordered it keeps the seat until it is filled.
        let seat = unsafe { &*self.order.load(Acquire) };
        let stack = seat.stack[STACK - 2].as_ptr() as u64;
        let arguments = [self.flags.load(Relaxed), stack, seat.descriptor.as_ptr() as u64];
        // SAFETY: what is new begins at its entry on the seat's stack, and touches nothing of the caller's.
        let made = unsafe { host::call(linux::__NR_clone, arguments) };
        seat.thread.store(
            made.map_or_else(|Code(code)| -i32::from(code as i16), |thread| thread as i32) as u32,
            Release,
        );
        host::futex_wake(&seat.thread, 1);
        self.busy.store(0, Release);
        host::futex_wake(&self.busy, u32::MAX >> 1);
    }
}

/// All threads of one space.
pub struct Seats {
    /// Which of them is the process's first.
    first: usize,
    cpus: Box<[Seat]>,
    /// Ends the process when the island's first one ends, where the host does not do that.
    _sentry: Option<Box<Seat>>,
}

impl Seats {
    /// Seats for a space to be made; `cpu` is the first to come there. An empty space has nothing mapped for
    /// applications.
    pub fn new(cpu: usize, empty: bool) -> Self {
        let mut cpus = of_cpus();
        let first = &mut cpus[cpu];
        first.empties = u32::from(empty);
        first.prepare(cpu_entry);
        first.asked.store(true, Relaxed);
        let sentry = (!crate::thread::is_init()).then(|| Box::new(Seat::new(ptr::null(), layout::CPUS_MAX)));
        if let Some(sentry) = &sentry {
            sentry.prepare(sentry_entry);
            first.place(sentry, THREAD);
            first.word.store(MAKE, Relaxed);
        }
        Self { first: cpu, cpus, _sentry: sentry }
    }

    /// Those of the island's first process, whose threads are there.
    pub fn first() -> Self {
        let cpus = of_cpus();
        for (seat, local) in cpus.iter().zip(crate::thread::locals()) {
            seat.thread.store(local.runs().1, Relaxed);
            seat.asked.store(true, Relaxed);
            seat.ready.store(1, Relaxed);
        }
        Self { first: 0, cpus, _sentry: None }
    }

    fn leader(&self) -> &Seat {
        &self.cpus[self.first]
    }

    /// The host's number for the process.
    pub fn process(&self) -> u32 {
        self.leader().thread.load(Acquire)
    }

    /// The descriptor that tells of the process's end.
    pub fn descriptor(&self) -> u32 {
        self.leader().descriptor.load(Acquire)
    }

    /// Makes the process, a copy of the caller's.
    pub fn copy(&self) -> Result<(), Code> {
        let leader = self.leader();
        let stack = leader.stack[STACK - 2].as_ptr() as u64;
        let descriptor = leader.descriptor.as_ptr() as u64;
        // SAFETY: the new process begins at `cpu_entry` on the seat's stack, and touches nothing of the
        // caller's that is shared; the kernel writes the descriptor.
        let process = unsafe { host::call(linux::__NR_clone, [u64::from(PROCESS), stack, descriptor]) }?;
        leader.thread.store(process as u32, Release);
        Ok(())
    }

    /// Has the first thread of this space, in which no CPU ever is, make the process of these other seats, a copy of its
    /// own.
    pub fn begin_copy(&self, other: &Self) {
        self.order(other.leader(), PROCESS, || {});
    }

    /// Waits for what [`Self::begin_copy`] has begun.
    pub fn copied(&self) -> Result<(), Code> {
        let leader = self.leader();
        loop {
            match leader.made() {
                Some(made) => return made.map(drop),
                None => host::futex_wait(&leader.thread, 0, None),
            }
        }
    }

    /// Orders the first thread to fill a seat, once it has done what it was ordered before; `urge` sees to it that it does
    /// that.
    fn order(&self, seat: &Seat, flags: u32, urge: impl Fn()) {
        let leader = self.leader();
        while leader.busy.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
            urge();
            host::futex_wait(&leader.busy, 1, Some(PATIENCE_NS));
        }
        leader.place(seat, flags);
        leader.tell(MAKE);
    }

    /// Waits until a CPU, the calling one, has a thread here, whose number is the answer; `space` is the one of these
    /// seats. `serve` is what others may want of this CPU meanwhile.
    pub fn summon(&self, cpu: usize, space: Space, serve: impl Fn()) -> Result<u32, Code> {
        let seat = &self.cpus[cpu];
        let urge = || {
            serve();
            let carried = &LOCALS[self.first];
            if carried.active() == space && !ptr::eq(carried, &LOCALS[cpu]) {
                idle::kick(carried);
            }
        };
        if !seat.asked.swap(true, Relaxed) {
            seat.prepare(cpu_entry);
            self.order(seat, THREAD, urge);
        }
        let made = loop {
            match seat.made() {
                Some(made) => break made,
                None => {
                    urge();
                    host::futex_wait(&seat.thread, 0, Some(PATIENCE_NS));
                }
            }
        };
        let thread = made.inspect_err(|_| {
            seat.thread.store(0, Relaxed);
            seat.asked.store(false, Relaxed);
        })?;
        while seat.ready.load(Acquire) == 0 {
            host::futex_wait(&seat.ready, 0, None);
        }
        Ok(thread)
    }

    /// Does what the first thread is ordered to, where that is the calling CPU's.
    #[inline]
    pub fn serve(&self, cpu: usize) {
        if self.first == cpu && self.leader().word.load(SeqCst) & MAKE != 0 {
            self.leader().carry_out();
        }
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
        self.leader().tell(END);
    }
}

fn of_cpus() -> Box<[Seat]> {
    (0..crate::thread::locals().len()).map(|cpu| Seat::new(&raw const LOCALS[cpu], cpu)).collect()
}
