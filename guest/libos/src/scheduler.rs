//! Which thread runs where: one run queue, of which a CPU prefers what it ran last; CPUs that idle; and the one that
//! collects events.
//!
//! At most one idle CPU collects device events; the others sleep until they are kicked. A CPU that takes
//! a thread off the queue while more are waiting kicks the next idle one, so wake-ups spread like a
//! chain and a single wake-up that the collector can serve itself costs no kick. A thread that may not
//! run everywhere (sched_setaffinity(2)) has one of its CPUs kicked when it is queued, idle or not.
//!
//! While a thread runs and others wait for something outside, an idle CPU is called to collect. Where the
//! threads take turns that is in vain: the thread waits itself before anything comes, the called CPU takes
//! it over, and calls the first one. So calls that brought nothing are counted, and after some in a row the
//! next one waits for a tick, until something is found that should have been collected earlier.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::lock::Mutex;
use machine::{Cpu, Machine, Slice};

use crate::thread::Thread;

mod summons;

use summons::Summons;

/// The run queue and the CPUs' states.
pub struct Scheduler {
    machine: Arc<dyn Machine>,
    queue: Mutex<VecDeque<Arc<Thread>>>,
    /// Length of `queue`, readable without its lock.
    waiting: AtomicUsize,
    /// How often in a row the first of the queue was passed over.
    passed: AtomicUsize,
    /// Bit per CPU that sleeps without collecting.
    asleep: AtomicU64,
    /// Bit of the CPU that sleeps collecting; 0 if none does.
    collecting: AtomicU64,
    collector: AtomicBool,
    /// What each CPU runs, so that signals find a running thread.
    running: Vec<Mutex<Option<Arc<Thread>>>>,
    /// Number of threads that wait for something outside (readiness, completion).
    outside: AtomicUsize,
    /// When the sleeping CPUs will look at the timers by themselves; `u64::MAX` for never.
    asleep_until_ns: AtomicU64,
    /// Number of CPUs that hand out events now and will look at the queue right after.
    serving: AtomicUsize,
    /// How many calls to collect in a row were in vain.
    vain: AtomicUsize,
    /// The same of calls for threads that were woken.
    summons: Summons,
}

/// So many calls in vain are enough.
const VAIN_MOST: usize = 8;
/// So many times in a row the first of the queue may be passed over.
const PASSED_MOST: usize = 16;

impl Scheduler {
    pub fn new(machine: Arc<dyn Machine>, cpus: u16) -> Self {
        Self {
            machine,
            queue: Mutex::new(VecDeque::new()),
            waiting: AtomicUsize::new(0),
            passed: AtomicUsize::new(0),
            asleep: AtomicU64::new(0),
            collecting: AtomicU64::new(0),
            collector: AtomicBool::new(false),
            running: (0..cpus).map(|_| Mutex::new(None)).collect(),
            outside: AtomicUsize::new(0),
            serving: AtomicUsize::new(0),
            vain: AtomicUsize::new(0),
            summons: Summons::new(),
            asleep_until_ns: AtomicU64::new(u64::MAX),
        }
    }

    /// Counts a CPU that starts among those that sleep: it may wait for a kick before it does anything.
    pub(crate) fn begin(&self, cpu: Cpu) {
        self.asleep.fetch_or(1 << cpu.0, Ordering::SeqCst);
    }

    /// Puts a thread at the end of the queue and sees that somebody comes for it: the calling CPU, if it may run the
    /// thread, looks at the queue after a tick at the latest.
    pub fn enqueue(&self, thread: Arc<Thread>) {
        let cpus = thread.cpus();
        let mut queue = self.queue.lock();
        queue.push_back(thread);
        self.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        if cpus & 1 << self.machine.current().0 == 0 {
            self.kick_one_of(cpus);
        } else if self.serving.load(Ordering::SeqCst) == 0 && !self.summons.are_vain() {
            self.summon(cpus);
        }
    }

    /// Runs `serve`, which may make threads runnable, on a CPU that takes the next one itself.
    pub(crate) fn serve(&self, serve: impl FnOnce()) {
        self.serving.fetch_add(1, Ordering::SeqCst);
        serve();
        self.serving.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes the next thread for a CPU.
    pub(crate) fn next(&self, cpu: Cpu) -> Option<Arc<Thread>> {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let mut queue = self.queue.lock();
        let position = self.choose(&queue, cpu)?;
        let thread = queue.remove(position)?;
        let more = !queue.is_empty();
        self.waiting.store(queue.len(), Ordering::SeqCst);
        drop(queue);
        *self.running[cpu.0 as usize].lock() = Some(thread.clone());
        self.summons.found(cpu);
        if more {
            self.summon(u64::MAX);
        }
        Some(thread)
    }

    /// Which of the queue a CPU runs next: the first that it ran last, whose memory is in its caches, or else the first; and
    /// the first in any case after it has been passed over some times in a row.
    fn choose(&self, queue: &VecDeque<Arc<Thread>>, cpu: Cpu) -> Option<usize> {
        let first = queue.iter().position(|thread| thread.may_run_on(cpu))?;
        let own = queue.iter().position(|thread| thread.may_run_on(cpu) && thread.cpu() == cpu);
        match own {
            Some(own) if own != first && self.passed.fetch_add(1, Ordering::Relaxed) < PASSED_MOST => {
                Some(own)
            }
            _ => {
                self.passed.store(0, Ordering::Relaxed);
                Some(first)
            }
        }
    }

    /// A CPU is about to run application code: if threads wait for something outside, and nobody collects
    /// what comes, an idle CPU has to, unless that was in vain lately. Not sooner: the thread that runs now
    /// waited itself until a moment ago, and where it is the only one, waking a second CPU for each of its
    /// waits costs more than a tick.
    pub(crate) fn leave_collecting(&self) {
        if self.lacks_collector() && !self.calls_in_vain() && self.kick_idle(u64::MAX).is_some() {
            self.vain.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Application code has run for a tick: whatever was in vain lately, an idle CPU has to collect, or take a thread
    /// that waits.
    pub(crate) fn end_tick(&self) {
        if self.contended() && self.summon(u64::MAX) {
            self.summons.was_wrong();
        } else if self.lacks_collector() {
            self.kick_idle(u64::MAX);
        }
    }

    fn lacks_collector(&self) -> bool {
        self.outside.load(Ordering::SeqCst) > 0 && self.collecting.load(Ordering::SeqCst) == 0
    }

    pub(crate) fn calls_in_vain(&self) -> bool {
        self.vain.load(Ordering::Relaxed) >= VAIN_MOST
    }

    /// A CPU that idles has handed out what it was woken for: where a thread can run now while another one
    /// runs elsewhere, it was good to have somebody collect.
    pub(crate) fn rate_call(&self) {
        let vain = self.vain.load(Ordering::Relaxed) > 0;
        if vain && self.contended() && self.running.iter().any(|running| running.lock().is_some()) {
            self.vain.store(0, Ordering::Relaxed);
        }
    }

    /// What came while a thread ran has been handed out: if another one can run now, it should not have
    /// waited for that.
    pub(crate) fn rate_delay(&self, ran: &Arc<Thread>) {
        let is_other = |thread: &Arc<Thread>| !Arc::ptr_eq(ran, thread);
        if self.contended() && self.queue.lock().iter().any(is_other) {
            self.vain.store(0, Ordering::Relaxed);
        }
    }

    /// The CPU runs nothing any more.
    pub(crate) fn release(&self, cpu: Cpu) {
        *self.running[cpu.0 as usize].lock() = None;
    }

    /// Calls one sleeping CPU of these for a thread that waits; whether there was one.
    fn summon(&self, cpus: u64) -> bool {
        let called = self.kick_idle(cpus);
        if let Some(cpu) = called {
            self.summons.call(cpu);
        }
        called.is_some()
    }

    /// Kicks one sleeping CPU of these, if there is one.
    fn kick_idle(&self, cpus: u64) -> Option<Cpu> {
        let collecting = self.collecting.load(Ordering::SeqCst) & cpus;
        let bit = match self.asleep.load(Ordering::SeqCst) & cpus | collecting {
            0 => return None,
            sleepers => {
                let preferred = sleepers & !collecting;
                let candidates = if preferred != 0 { preferred } else { sleepers };
                1_u64 << candidates.trailing_zeros()
            }
        };
        let was_asleep = self.asleep.fetch_and(!bit, Ordering::SeqCst) & bit != 0;
        let was_collecting = self.collecting.fetch_and(!bit, Ordering::SeqCst) & bit != 0;
        let cpu = Cpu(bit.trailing_zeros() as u16);
        (was_asleep || was_collecting).then(|| {
            self.machine.kick(cpu);
            cpu
        })
    }

    /// Makes one of these CPUs look at the queue: one that sleeps, or else one that gives way.
    pub(crate) fn kick_one_of(&self, cpus: u64) {
        let sleepers = self.asleep.load(Ordering::SeqCst) | self.collecting.load(Ordering::SeqCst);
        let chosen = if sleepers & cpus != 0 { sleepers & cpus } else { cpus };
        let bit = 1_u64 << chosen.trailing_zeros();
        self.asleep.fetch_and(!bit, Ordering::SeqCst);
        self.collecting.fetch_and(!bit, Ordering::SeqCst);
        self.machine.kick(Cpu(bit.trailing_zeros() as u16));
    }

    /// Makes the CPU that runs this thread, if any, look at it.
    pub(crate) fn interrupt(&self, thread: &Arc<Thread>) {
        for (number, running) in self.running.iter().enumerate() {
            if running.lock().as_ref().is_some_and(|running| Arc::ptr_eq(running, thread)) {
                self.machine.kick(Cpu(number as u16));
            }
        }
    }

    /// Whether others wait for a CPU.
    pub(crate) fn contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Whether somebody waits who may run on this CPU.
    pub(crate) fn has_work_for(&self, cpu: Cpu) -> bool {
        self.contended() && self.queue.lock().iter().any(|thread| thread.may_run_on(cpu))
    }

    /// How long application code may run, given the earliest timer.
    pub(crate) fn slice(&self, timer_ns: Option<u64>) -> Slice {
        // Signals come from outside, too: without a collector somebody has to look now and then.
        let tick = self.contended() || self.collecting.load(Ordering::Relaxed) == 0;
        match timer_ns {
            Some(time_ns) if time_ns < self.asleep_until_ns.load(Ordering::SeqCst) => Slice::Until(time_ns),
            _ if tick => Slice::Tick,
            _ => Slice::Unlimited,
        }
    }

    /// Announces that a CPU goes to sleep; says whether it collects. The caller looks at the queue once
    /// more afterwards.
    pub(crate) fn fall_asleep(&self, cpu: Cpu) -> bool {
        self.summons.sleeps(cpu);
        let collects = !self.collector.swap(true, Ordering::SeqCst);
        let set = if collects { &self.collecting } else { &self.asleep };
        set.fetch_or(1 << cpu.0, Ordering::SeqCst);
        collects
    }

    /// Whether this CPU has to wake up for the earliest timer, because no sleeping one will.
    pub(crate) fn keep_time(&self, time_ns: u64) -> bool {
        self.asleep_until_ns.fetch_min(time_ns, Ordering::SeqCst) > time_ns
    }

    /// The CPU that kept time until then is awake.
    pub(crate) fn end_keeping(&self, time_ns: u64) {
        let _ = self.asleep_until_ns.compare_exchange(time_ns, u64::MAX, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(crate) fn wake_up(&self, cpu: Cpu, collected: bool) {
        self.asleep.fetch_and(!(1 << cpu.0), Ordering::SeqCst);
        self.collecting.fetch_and(!(1 << cpu.0), Ordering::SeqCst);
        if collected {
            self.collector.store(false, Ordering::SeqCst);
        }
    }

    /// Takes the right to collect for a moment; `None` if somebody else has it.
    pub(crate) fn try_collect(&self) -> bool {
        !self.collector.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn end_collect(&self) {
        self.collector.store(false, Ordering::SeqCst);
    }

    /// Counts a thread that waits for something outside until the guard is dropped.
    pub fn wait_outside(&self) -> Outside<'_> {
        self.outside.fetch_add(1, Ordering::Relaxed);
        Outside(self)
    }
}

/// A thread that waits for something outside.
pub struct Outside<'a>(&'a Scheduler);

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        self.0.outside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
