//! Being traced by another process (ptrace(2)): who traces a thread, and where it stands for the tracer to look.
//!
//! A thread *stands* in a waiting call of its own, with its context complete, until its tracer resumes it: before and
//! after a system call, before a signal is delivered, and at events that the tracer asked for. The tracer learns of
//! it as of a child (wait4(2)). Threads of one process stand one by one. Absent: stops of a whole group beyond
//! the traced thread, and seccomp events.

pub mod register;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use crate::process::{Process, Report};
use crate::signal::{self, Information, SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP, Target};
use crate::syscall::Finish;
use crate::thread::{Pending, Thread};
use crate::wait;

/// Options (PTRACE_SETOPTIONS). Those of events are a bit for each event's number.
pub mod option {
    pub const MARKS_CALLS: u32 = 1;
    pub const KILLS: u32 = 1 << 20;
    /// All that are known; PTRACE_O_TRACEVFORKDONE and others are accepted and never come.
    pub const ALL: u32 = 0x30_00ff;
}

/// PTRACE_EVENT_*.
pub mod event {
    pub const FORK: u32 = 1;
    pub const VFORK: u32 = 2;
    pub const CLONE: u32 = 3;
    pub const EXECUTION: u32 = 4;
    pub const EXIT: u32 = 6;
    pub const STOP: u32 = 128;
}

/// How a thread goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Motion {
    #[default]
    Continue,
    /// To the next end of a system call, or its beginning.
    ToCall,
    /// One instruction.
    Step,
}

/// At which end of a system call a thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStop {
    Entry,
    /// What the call returns.
    Exit(i64),
}

/// Where and why a thread stands.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// The signal and the event, as WSTOPSIG and `status >> 16` say them.
    pub signal: u8,
    pub event: u32,
    pub message: u64,
    pub information: Information,
    pub call: Option<CallStop>,
    told: bool,
}

/// What is to be known of a standing thread besides its context.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub stop: Stop,
    pub last_call: u64,
}

impl Stop {
    fn at(signal: u8, event: u32, message: u64) -> Self {
        let code = event << 8 | u32::from(signal);
        let information = Information::traced(SIGTRAP, code as i32);
        Self { signal, event, message, information, call: None, told: false }
    }

    /// Of wait4(2).
    fn status(&self) -> u32 {
        self.event << 16 | u32::from(self.signal) << 8 | 0x7f
    }
}

/// A traced thread's state.
pub struct Tracee {
    /// The tracing process's number.
    pub tracer: u32,
    pub options: u32,
    pub seized: bool,
    pub motion: Motion,
    pub stop: Option<Stop>,
    /// What is delivered in the place of what it stood for.
    injected: Option<Information>,
    /// It is to stand at its next look around (PTRACE_INTERRUPT).
    interrupted: bool,
    /// The system call that is under way, if one is, and the last one that was.
    call: Option<u64>,
    pub last_call: u64,
}

impl Tracee {
    pub fn new(tracer: u32, options: u32, seized: bool) -> Self {
        Self {
            tracer,
            options,
            seized,
            motion: Motion::default(),
            stop: None,
            injected: None,
            interrupted: false,
            call: None,
            last_call: u64::MAX,
        }
    }
}

/// What a signal that is about to be delivered comes to.
pub enum Delivery {
    /// It is delivered, or none is.
    Go(Option<Information>),
    /// The thread stands first.
    Stand(Pending),
}

impl Thread {
    /// Makes a thread one that a process traces; false if somebody does already, or that
    /// process has ended.
    pub(crate) fn begin_tracing(self: &Arc<Self>, tracer: &Process, tracee: Tracee) -> bool {
        let mut tracees = tracer.tracees.lock();
        let Some(tracees) = tracees.as_mut() else { return false };
        let mut place = self.tracee.lock();
        if place.is_some() {
            return false;
        }
        *place = Some(tracee);
        self.traced.store(true, Ordering::SeqCst);
        tracees.insert(self.number(), Arc::downgrade(self));
        true
    }

    /// Ends the tracing; the thread goes on.
    pub(crate) fn end_tracing(self: &Arc<Self>, tracer: &Process) {
        *self.tracee.lock() = None;
        self.traced.store(false, Ordering::SeqCst);
        forget(tracer, self);
        self.trace_changes.notify();
        self.call_attention();
    }

    #[inline]
    pub(crate) fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }

    /// Whether the tracer wants it to stand soon.
    pub(crate) fn is_interrupted_by_tracer(&self) -> bool {
        self.is_traced() && self.tracee.lock().as_ref().is_some_and(|tracee| tracee.interrupted)
    }

    /// Makes it stand at its next look around.
    pub(crate) fn interrupt_for_tracer(self: &Arc<Self>) {
        if let Some(tracee) = self.tracee.lock().as_mut() {
            tracee.interrupted = true;
        }
        self.call_attention();
    }

    /// Lets it go on from where it stands, with this signal.
    pub(crate) fn resume_tracee(self: &Arc<Self>, motion: Motion, number: u8) {
        let mut place = self.tracee.lock();
        let Some(tracee) = place.as_mut() else { return };
        let stop = tracee.stop.take();
        tracee.motion = motion;
        tracee.injected = match (number, stop) {
            (0, _) => None,
            (number, Some(stop))
                if stop.information.number == number && stop.call.is_none() && stop.event == 0 =>
            {
                Some(stop.information)
            }
            (number, _) => Some(Information::user(number, tracee.tracer, 0)),
        };
        drop(place);
        self.trace_changes.notify();
        self.call_attention();
    }

    /// What a tracer may know of a thread that stands; none if it does not.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let place = self.tracee.lock();
        let tracee = place.as_ref()?;
        tracee.stop.map(|stop| Seen { stop, last_call: tracee.last_call })
    }

    /// Whether a call of this number is told before it begins; what it is then is the call's beginning.
    pub(crate) fn stands_at_entry(&self, number: u64) -> bool {
        let mut place = self.tracee.lock();
        let Some(tracee) = place.as_mut() else { return false };
        tracee.call = Some(number);
        tracee.last_call = number;
        tracee.motion == Motion::ToCall
    }

    /// Whether the end of the call that was under way is told.
    pub(crate) fn stands_at_exit(&self) -> bool {
        let mut place = self.tracee.lock();
        let Some(tracee) = place.as_mut() else { return false };
        tracee.call.take().is_some() && tracee.motion == Motion::ToCall
    }

    /// The single step that the tracer wants next.
    pub(crate) fn steps(&self) -> bool {
        self.is_traced() && self.tracee.lock().as_ref().is_some_and(|tracee| tracee.motion == Motion::Step)
    }

    /// Judges the signal to be delivered next, which `take` takes off what is pending.
    pub(crate) fn trace_delivery(self: &Arc<Self>, take: impl FnOnce() -> Option<Information>) -> Delivery {
        let mut place = self.tracee.lock();
        let Some(tracee) = place.as_mut() else {
            drop(place);
            return Delivery::Go(take());
        };
        if let Some(injected) = tracee.injected.take() {
            return Delivery::Go(Some(injected));
        }
        if core::mem::take(&mut tracee.interrupted) {
            let (signal, event) = if tracee.seized { (SIGTRAP, event::STOP) } else { (SIGSTOP, 0) };
            drop(place);
            return Delivery::Stand(self.standing(Stop::at(signal, event, 0)));
        }
        drop(place);
        match take() {
            Some(information) if information.number != SIGKILL => {
                let stop = Stop { information, ..Stop::at(information.number, 0, 0) };
                Delivery::Stand(self.standing(stop))
            }
            other => Delivery::Go(other),
        }
    }

    /// A stop in the place of one of the whole process.
    pub(crate) fn stop_traced(self: &Arc<Self>, number: u8) -> Pending {
        let seized = self.tracee.lock().as_ref().is_some_and(|tracee| tracee.seized);
        self.standing(Stop::at(number, if seized { event::STOP } else { 0 }, 0))
    }

    fn standing(self: &Arc<Self>, stop: Stop) -> Pending {
        let thread = self.clone();
        Box::pin(async move {
            stand(&thread, stop).await;
            Finish::GoOn
        })
    }

    /// Standing at the beginning of a call, which is made afterwards as the registers are then.
    pub(crate) fn standing_at_entry(self: &Arc<Self>) -> Pending {
        let thread = self.clone();
        Box::pin(async move {
            stand(&thread, call_stop(&thread, CallStop::Entry)).await;
            Finish::Redo
        })
    }

    pub(crate) fn standing_at_exit(self: &Arc<Self>, result: i64) -> Pending {
        let stop = call_stop(self, CallStop::Exit(result));
        self.standing(stop)
    }

    /// Standing where a new program begins.
    pub(crate) fn standing_at_start(self: &Arc<Self>) -> Pending {
        let thread = self.clone();
        Box::pin(async move {
            let (told, seized) = {
                let place = thread.tracee.lock();
                let options = place.as_ref().map_or(0, |tracee| tracee.options);
                (options & 1 << event::EXECUTION != 0, place.as_ref().is_some_and(|tracee| tracee.seized))
            };
            if told {
                stand(&thread, Stop::at(SIGTRAP, event::EXECUTION, u64::from(thread.number()))).await;
            }
            if thread.stands_at_exit() {
                stand(&thread, call_stop(&thread, CallStop::Exit(0))).await;
            }
            if !told && !seized {
                signal::send(
                    &thread.process,
                    Target::Thread(thread.number()),
                    Information::user(SIGTRAP, 0, 0),
                );
            }
            Finish::GoOn
        })
    }
}

fn call_stop(thread: &Thread, call: CallStop) -> Stop {
    let marks = thread.tracee.lock().as_ref().is_some_and(|tracee| tracee.options & option::MARKS_CALLS != 0);
    let signal = if marks { SIGTRAP | 0x80 } else { SIGTRAP };
    let information = Information::traced(SIGTRAP, i32::from(signal));
    Stop { call: Some(call), information, ..Stop::at(signal, 0, 0) }
}

/// Stands until the tracer resumes the thread, or is gone.
async fn stand(thread: &Arc<Thread>, stop: Stop) {
    let tracer = {
        let mut place = thread.tracee.lock();
        let Some(tracee) = place.as_mut() else { return };
        tracee.stop = Some(stop);
        tracee.tracer
    };
    let tracer = thread.kernel().processes.lock().get(&tracer).cloned();
    if let Some(tracer) = tracer {
        tell(&tracer, thread, 4, u32::from(stop.signal & 0x7f));
    }
    let goes_on = || thread.tracee.lock().as_ref().is_none_or(|tracee| tracee.stop.is_none()).then_some(());
    wait::while_alive(thread, &thread.trace_changes, goes_on).await;
}

/// Tells a tracer that there is news; `code` is one of CLD_*.
fn tell(tracer: &Arc<Process>, thread: &Thread, code: i32, status: u32) {
    let user = thread.process.identity.lock().real_user;
    let information = Information::child(SIGCHLD, code, thread.number(), user, status);
    signal::send(tracer, Target::Process, information);
    tracer.child_news.notify();
}

/// Stands at an event in a call that makes a process or thread, if the tracer wants that.
pub(crate) async fn tell_made(thread: &Arc<Thread>, event: u32, number: u32) {
    let wanted = thread.tracee.lock().as_ref().is_some_and(|tracee| tracee.options & 1 << event != 0);
    if wanted {
        stand(thread, Stop::at(SIGTRAP, event, u64::from(number))).await;
    }
}

/// Stands before the end of a thread, which is this (wait4(2)), if the tracer wants that.
pub(crate) async fn tell_end(thread: &Arc<Thread>, status: u32) {
    let wanted = thread.tracee.lock().as_ref().is_some_and(|tracee| tracee.options & 1 << event::EXIT != 0);
    if wanted {
        stand(thread, Stop::at(SIGTRAP, event::EXIT, u64::from(status))).await;
    }
}

/// Has a new thread traced as the one that made it is, if its tracer wants that.
pub(crate) fn inherit(maker: &Arc<Thread>, made: &Arc<Thread>, event: u32) {
    let place = maker.tracee.lock();
    let Some(tracee) = place.as_ref().filter(|tracee| tracee.options & 1 << event != 0) else { return };
    let (number, options, seized) = (tracee.tracer, tracee.options, tracee.seized);
    drop(place);
    let Some(tracer) = maker.kernel().processes.lock().get(&number).cloned() else { return };
    let traces = made.begin_tracing(&tracer, Tracee::new(number, options, seized));
    if !traces && options & option::KILLS != 0 && !made.is_traced() {
        // It came just as its maker was told.
        return signal::send(&made.process, Target::Process, Information::user(SIGKILL, 0, 0));
    }
    if let Some(tracee) = made.tracee.lock().as_mut() {
        tracee.interrupted = true;
    }
    made.keep_attention();
}

/// A thread ends: its tracer learns how, unless it does as the parent.
pub(crate) fn ended(thread: &Arc<Thread>, status: u32, is_process: bool) {
    let Some(tracee) = thread.tracee.lock().take() else { return };
    thread.traced.store(false, Ordering::SeqCst);
    let Some(tracer) = thread.kernel().processes.lock().get(&tracee.tracer).cloned() else { return };
    forget(&tracer, thread);
    let process = &thread.process;
    if is_process && process.parent.load(Ordering::SeqCst) == tracer.number {
        return;
    }
    let (code, value) = crate::process::particulars(status);
    let user = process.identity.lock().real_user;
    let report = Report { process: thread.number(), user, status, code, value, time_ns: 0 };
    tracer.ended_tracees.lock().push(report);
    tell(&tracer, thread, code, value);
}

fn forget(tracer: &Process, thread: &Thread) {
    if let Some(tracees) = tracer.tracees.lock().as_mut() {
        tracees.remove(&thread.number());
    }
}

/// A tracer ends: its tracees go on, or end with it, and nobody becomes one any more.
pub(crate) fn abandon(tracer: &Process) {
    let tracees = tracer.tracees.lock().take().unwrap_or_default();
    for thread in tracees.values().filter_map(alloc::sync::Weak::upgrade) {
        let kills = thread.tracee.lock().as_ref().is_some_and(|tracee| tracee.options & option::KILLS != 0);
        thread.end_tracing(tracer);
        if kills {
            signal::send(&thread.process, Target::Process, Information::user(SIGKILL, 0, 0));
        }
    }
}

/// What a tracer can learn of its tracees, of those that are asked for; none yet, or none at all.
pub(crate) fn learn(
    tracer: &Process,
    admits: impl Fn(u32, Option<u32>) -> bool,
    keeps: bool,
) -> (bool, Option<Report>) {
    let mut ended = tracer.ended_tracees.lock();
    if let Some(at) = ended.iter().position(|report| admits(report.process, None)) {
        let report = if keeps { ended[at] } else { ended.remove(at) };
        return (true, Some(report));
    }
    drop(ended);
    let tracees: Vec<Arc<Thread>> =
        tracer.tracees.lock().iter().flatten().filter_map(|(_, thread)| thread.upgrade()).collect();
    let mut any = false;
    for thread in tracees {
        let group = thread.process.group.load(Ordering::Relaxed);
        if !admits(thread.number(), Some(group)) {
            continue;
        }
        any = true;
        let mut place = thread.tracee.lock();
        let Some(stop) = place.as_mut().and_then(|tracee| tracee.stop.as_mut()).filter(|stop| !stop.told)
        else {
            continue;
        };
        stop.told = !keeps;
        let (status, value) = (stop.status(), u32::from(stop.signal));
        drop(place);
        let user = thread.process.identity.lock().real_user;
        let report = Report { process: thread.number(), user, status, code: 4, value, time_ns: 0 };
        return (true, Some(report));
    }
    (any, None)
}
