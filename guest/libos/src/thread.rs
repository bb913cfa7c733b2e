//! An application thread: its saved state, and how it is woken.
//!
//! A thread is `Queued` (in the run queue), `Running` (on one CPU, which alone owns its body),
//! `Notified` (running, and woken meanwhile) or `Blocked`. Its body (context and unfinished call) is in
//! the thread while it does not run and on the CPU's stack while it does, so no lock is held between.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::lock::{Mutex, MutexGuard};
use machine::{Context, Cpu};

use crate::file_system::FileSystemContext;
use crate::kernel::Kernel;
use crate::process::Process;
use crate::ptrace::Tracee;
use crate::signal::ThreadSignals;
use crate::syscall::Finish;
use crate::wait::WaitQueue;

/// An unfinished system call.
pub type Pending = Pin<Box<dyn Future<Output = Finish> + Send>>;

/// What a CPU needs to run a thread.
pub struct Body {
    pub context: Box<Context>,
    pub pending: Option<Pending>,
}

#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    Running,
    Notified,
    Blocked,
}

/// An application thread.
pub struct Thread {
    /// See [`Thread::number`].
    number: AtomicU32,
    pub process: Arc<Process>,
    state: AtomicU8,
    body: Mutex<Option<Body>>,
    /// Something is to be looked at before application code goes on: a signal, the end of the process.
    attention: AtomicBool,
    pub signals: ThreadSignals,
    file_system: Mutex<Arc<FileSystemContext>>,
    /// Cleared, and its futex woken, when the thread ends (set_tid_address(2)); 0 for none.
    pub clear_on_exit: AtomicU64,
    /// Head of the robust futex list (get_robust_list(2)); 0 for none.
    pub robust_list: AtomicU64,
    /// Name as prctl(PR_SET_NAME) sets it.
    pub name: Mutex<[u8; 16]>,
    /// The CPUs that the thread may run on (sched_setaffinity(2)).
    affinity: AtomicU64,
    /// By whom it is traced, if it is; and whether, to be read without a lock.
    pub(crate) tracee: Mutex<Option<Tracee>>,
    pub(crate) traced: AtomicBool,
    pub(crate) trace_changes: WaitQueue,
    /// The scheduling policy that it has asked for (sched(7)).
    pub policy: AtomicU32,
    /// The CPU that runs it now, or ran it last.
    cpu: AtomicU16,
    /// Time on a CPU in runs that are over.
    pub cpu_time_ns: AtomicU64,
    /// When the run under way began.
    running_since_ns: AtomicU64,
    /// Its last run has been counted.
    metered: AtomicBool,
    /// How many system calls it has begun.
    calls: AtomicU64,
}

impl Thread {
    pub fn new(
        number: u32,
        process: Arc<Process>,
        context: Box<Context>,
        signals: ThreadSignals,
        file_system: Arc<FileSystemContext>,
    ) -> Arc<Self> {
        Arc::new(Self {
            number: AtomicU32::new(number),
            process,
            state: AtomicU8::new(State::Blocked as u8),
            body: Mutex::new(Some(Body { context, pending: None })),
            attention: AtomicBool::new(false),
            signals,
            file_system: Mutex::new(file_system),
            clear_on_exit: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            name: Mutex::new([0; 16]),
            affinity: AtomicU64::new(u64::MAX),
            tracee: Mutex::new(None),
            traced: AtomicBool::new(false),
            trace_changes: WaitQueue::new(),
            policy: AtomicU32::new(0),
            cpu: AtomicU16::new(0),
            cpu_time_ns: AtomicU64::new(0),
            running_since_ns: AtomicU64::new(0),
            metered: AtomicBool::new(false),
            calls: AtomicU64::new(0),
        })
    }

    /// Thread number (gettid(2)); the first thread's is the process's.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Takes the number of the process's first thread, which is no more.
    pub(crate) fn set_number(&self, number: u32) {
        self.number.store(number, Ordering::Relaxed);
    }

    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.process.kernel
    }

    /// Where its paths lead from.
    pub fn file_system(&self) -> Arc<FileSystemContext> {
        self.file_system.lock().clone()
    }

    /// Makes that its own, if others have it, too (unshare(2)).
    pub fn part_file_system(&self) {
        let mut own = self.file_system.lock();
        *own = own.copied();
    }

    /// The CPU that runs the thread, for calls of its own.
    pub fn cpu(&self) -> Cpu {
        Cpu(self.cpu.load(Ordering::Relaxed))
    }

    /// The thread begins a system call. Only its own CPU counts.
    pub(crate) fn count_call(&self) {
        self.calls.store(self.calls() + 1, Ordering::Relaxed);
    }

    /// How many system calls the thread has begun, the one under way included.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether a wait of this thread has to end: a signal is deliverable, or the process is ending.
    pub fn interrupted(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
            && (self.must_look() || self.process.is_stopped() || self.is_interrupted_by_tracer())
    }

    /// Whether a signal or its end is to come before anything that others would have to undo.
    pub fn must_look(&self) -> bool {
        self.process.must_end(self) || self.signals.deliverable(&self.process.signals)
    }

    /// Makes the thread look around before it runs application code again.
    pub fn call_attention(self: &Arc<Self>) {
        self.attention.store(true, Ordering::SeqCst);
        self.make_runnable();
        self.kernel().scheduler.interrupt(self);
    }

    /// Whether there is something to look at; forgets it.
    pub(crate) fn has_attention(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    pub(crate) fn take_attention(&self) -> bool {
        self.attention.load(Ordering::SeqCst) && self.attention.swap(false, Ordering::SeqCst)
    }

    /// Keeps something to be looked at again.
    pub(crate) fn keep_attention(&self) {
        self.attention.store(true, Ordering::SeqCst);
    }

    /// Starts a new thread with a call under way (loading its program).
    pub fn begin_with(self: &Arc<Self>, pending: Pending) {
        self.put_before(pending);
        self.make_runnable();
    }

    /// Has a new thread, of which nobody else knows yet, begin with a call under way.
    pub(crate) fn put_before(&self, pending: Pending) {
        if let Some(body) = self.body.lock().as_mut() {
            body.pending = Some(pending);
        }
    }

    /// Takes the body to run it. Only the CPU that took the thread from the run queue may.
    pub(crate) fn begin(&self, cpu: Cpu) -> Body {
        self.cpu.store(cpu.0, Ordering::Relaxed);
        self.state.store(State::Running as u8, Ordering::SeqCst);
        self.body.lock().take().expect("invariant: a queued thread has its body")
    }

    /// Ends a wake-up that came while running, before the reason for it is looked for.
    pub(crate) fn accept_wake(&self) {
        self.state.store(State::Running as u8, Ordering::SeqCst);
    }

    /// Gives the body back and blocks; `Some` gives it back to the caller if a wake-up has come
    /// meanwhile.
    pub(crate) fn block(&self, body: Body) -> Option<Body> {
        *self.body.lock() = Some(body);
        let blocked = self.state.compare_exchange(
            State::Running as u8,
            State::Blocked as u8,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        match blocked {
            Ok(_) => None,
            Err(_) => self.body.lock().take(),
        }
    }

    /// The body, while the thread does not run; only the debugger looks at somebody else's.
    pub(crate) fn body(&self) -> MutexGuard<'_, Option<Body>> {
        self.body.lock()
    }

    /// Gives the body back and queues the thread behind the others.
    pub(crate) fn give_way(self: &Arc<Self>, body: Body) {
        *self.body.lock() = Some(body);
        self.state.store(State::Queued as u8, Ordering::SeqCst);
        self.kernel().scheduler.enqueue(self.clone());
    }

    /// Queues the thread if it is blocked; notes the wake-up if it runs.
    pub fn make_runnable(self: &Arc<Self>) {
        let before = self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| {
            if state == State::Blocked as u8 {
                Some(State::Queued as u8)
            } else if state == State::Running as u8 {
                Some(State::Notified as u8)
            } else {
                None
            }
        });
        if before == Ok(State::Blocked as u8) {
            self.kernel().scheduler.enqueue(self.clone());
        }
    }

    /// Whether the thread may run on a CPU.
    pub(crate) fn may_run_on(&self, cpu: Cpu) -> bool {
        self.affinity.load(Ordering::Relaxed) & 1 << cpu.0 != 0
    }

    /// The CPUs it may run on; all bits, if it is not restricted.
    pub(crate) fn cpus(&self) -> u64 {
        self.affinity.load(Ordering::Relaxed)
    }

    /// Restricts the thread to these CPUs, of all there are.
    pub fn restrict(&self, cpus: u64, all: u64) {
        self.affinity.store(if cpus & all == all { u64::MAX } else { cpus & all }, Ordering::Relaxed);
    }

    /// The CPUs the thread may run on, of all there are.
    pub fn affinity(&self, all: u64) -> u64 {
        self.affinity.load(Ordering::Relaxed) & all
    }

    /// A CPU is about to run the thread.
    pub(crate) fn begin_metering(&self, now_ns: u64) {
        self.running_since_ns.store(now_ns, Ordering::Relaxed);
    }

    /// A run is over; it took this long. That of a thread that has ended was counted then.
    pub(crate) fn meter(&self, time_ns: u64) {
        if !self.metered.load(Ordering::Relaxed) {
            self.count(time_ns);
        }
    }

    /// The thread's last run is as good as over: what it took counts before anybody learns of the end.
    pub(crate) fn meter_last(&self) {
        let now_ns = self.kernel().machine.now().monotonic_ns;
        let time_ns = self.current_run_ns(now_ns);
        self.metered.store(true, Ordering::Relaxed);
        self.count(time_ns);
    }

    fn count(&self, time_ns: u64) {
        self.cpu_time_ns.fetch_add(time_ns, Ordering::Relaxed);
        self.process.cpu_time_ns.fetch_add(time_ns, Ordering::Relaxed);
    }

    /// How long the run under way lasts already; 0 if there is none.
    pub fn current_run_ns(&self, now_ns: u64) -> u64 {
        match self.state.load(Ordering::Relaxed) {
            _ if self.metered.load(Ordering::Relaxed) => 0,
            state if state == State::Running as u8 || state == State::Notified as u8 => {
                now_ns.saturating_sub(self.running_since_ns.load(Ordering::Relaxed))
            }
            _ => 0,
        }
    }

    /// Time on a CPU so far (clock_gettime(2), CLOCK_THREAD_CPUTIME_ID).
    pub fn processor_time_ns(&self) -> u64 {
        let now_ns = self.kernel().machine.now().monotonic_ns;
        self.cpu_time_ns.load(Ordering::Relaxed) + self.current_run_ns(now_ns)
    }

    /// Whether the thread waits for something, for /proc.
    pub fn is_blocked(&self) -> bool {
        self.state.load(Ordering::Relaxed) == State::Blocked as u8
    }
}

impl Wake for Thread {
    fn wake(self: Arc<Self>) {
        self.make_runnable();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.make_runnable();
    }
}
