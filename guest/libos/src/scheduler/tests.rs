//! When an idle CPU is called, to collect or for a thread.

use alloc::boxed::Box;
use alloc::vec;

use abi::boot::{Boot, Stream};
use machine::Context;
use machine::fake::{Fake, Faults, Program};

use super::*;
use crate::HostClock;
use crate::file_system::FileSystemContext;
use crate::kernel::Kernel;
use crate::process::Process;
use crate::signal::ThreadSignals;

const RUNS: Cpu = Cpu(0);
const IDLES: Cpu = Cpu(1);

/// An island with two CPUs on which nothing runs, and two threads of one process.
fn island() -> (Arc<Kernel>, [Arc<Thread>; 2]) {
    let boot = Boot {
        program: vec![],
        arguments: vec![],
        environment: vec![],
        directory: b"/".to_vec(),
        hostname: vec![],
        user: 0,
        group: 0,
        groups: vec![],
        cpus: 2,
        memory: 1 << 30,
        scratch: 1 << 28,
        mounts: vec![],
        disks: vec![],
        streams: [Stream::Null, Stream::Null, Stream::Null],
        published: vec![],
        outgoing: false,
        trace: None,
        record: None,
        debugger: None,
        limits: vec![],
        init: false,
        seed: [7; 32],
    };
    let kernel = Kernel::new(Fake::new(0, Faults::default(), Program::new()), boot, HostClock::default());
    let process = Process::first(&kernel);
    let threads = [1, 2].map(|number| {
        let context = Box::new(Context::new(0, 0));
        let places = FileSystemContext::first(kernel.file_systems.root());
        Thread::new(number, process.clone(), context, ThreadSignals::default(), places)
    });
    (kernel, threads)
}

/// Whether the CPU that idles is called when another one is about to run a thread.
fn calls(scheduler: &Scheduler) -> bool {
    scheduler.begin(IDLES);
    scheduler.leave_collecting();
    scheduler.asleep.load(Ordering::SeqCst) == 0
}

fn call_in_vain(scheduler: &Scheduler) {
    assert!((0..VAIN_MOST).all(|_| calls(scheduler)));
    assert!(!calls(scheduler));
}

#[test]
fn nobody_is_called_where_nobody_waits_outside() {
    let (kernel, _) = island();
    assert!(!calls(&kernel.scheduler));
}

#[test]
fn calls_that_bring_nothing_give_way_to_ticks() {
    let (kernel, _) = island();
    let scheduler = &kernel.scheduler;
    let _outside = scheduler.wait_outside();
    call_in_vain(scheduler);
    // A thread that has run for a tick may run for ever.
    scheduler.end_tick();
    assert_eq!(scheduler.asleep.load(Ordering::SeqCst), 0);
    assert!(!calls(scheduler));
}

#[test]
fn a_call_is_worth_it_if_a_thread_can_run_beside_another() {
    let (kernel, [first, second]) = island();
    let scheduler = &kernel.scheduler;
    let _outside = scheduler.wait_outside();
    call_in_vain(scheduler);
    // Threads that take turns: nothing runs when something comes.
    scheduler.serve(|| scheduler.enqueue(first));
    scheduler.rate_call();
    assert!(!calls(scheduler));
    assert!(scheduler.next(RUNS).is_some());
    scheduler.rate_call();
    assert!(!calls(scheduler));
    scheduler.serve(|| scheduler.enqueue(second));
    scheduler.rate_call();
    assert!(calls(scheduler));
}

#[test]
fn who_has_waited_while_another_ran_is_called_for() {
    let (kernel, [first, second]) = island();
    let scheduler = &kernel.scheduler;
    let _outside = scheduler.wait_outside();
    call_in_vain(scheduler);
    // What came was for the thread that ran.
    scheduler.serve(|| scheduler.enqueue(first.clone()));
    scheduler.rate_delay(&first);
    assert!(!calls(scheduler));
    scheduler.serve(|| scheduler.enqueue(second));
    scheduler.rate_delay(&first);
    assert!(calls(scheduler));
}

/// Whether the CPU that idles is called for a thread that another one has woken; the other one takes it.
fn summons(scheduler: &Scheduler, thread: &Arc<Thread>) -> bool {
    scheduler.begin(IDLES);
    scheduler.enqueue(thread.clone());
    let called = scheduler.asleep.load(Ordering::SeqCst) == 0;
    assert!(scheduler.next(RUNS).is_some());
    if called {
        // It comes too late.
        assert!(scheduler.next(IDLES).is_none());
        scheduler.fall_asleep(IDLES);
        scheduler.wake_up(IDLES, true);
    }
    called
}

#[test]
fn threads_that_take_turns_stay_on_one_processor() {
    let (kernel, [first, second]) = island();
    let scheduler = &kernel.scheduler;
    let count = |most: usize| (0..most).filter(|_| summons(scheduler, &first)).count();
    assert_eq!(count(100), 8);
    // One that was left has waited for a tick.
    scheduler.begin(IDLES);
    scheduler.enqueue(first.clone());
    scheduler.end_tick();
    assert_eq!(scheduler.asleep.load(Ordering::SeqCst), 0);
    assert!(scheduler.next(IDLES).is_some());
    assert_eq!(count(100), 32);
    // A called processor that finds a thread was not called in vain.
    scheduler.end_tick();
    scheduler.begin(IDLES);
    scheduler.enqueue(first.clone());
    scheduler.enqueue(second);
    scheduler.end_tick();
    assert!(scheduler.next(IDLES).is_some() && scheduler.next(RUNS).is_some());
    assert!(summons(scheduler, &first));
}

/// The second thread ran last on the CPU that runs, the first one on the other.
fn with_homes() -> (Arc<Kernel>, [Arc<Thread>; 2]) {
    let (kernel, threads) = island();
    drop(threads[0].begin(IDLES));
    drop(threads[1].begin(RUNS));
    (kernel, threads)
}

#[test]
fn a_cpu_prefers_what_it_ran_last() {
    let (kernel, threads) = with_homes();
    threads.iter().for_each(|thread| kernel.scheduler.enqueue(thread.clone()));
    assert!(Arc::ptr_eq(&kernel.scheduler.next(RUNS).unwrap(), &threads[1]));
    assert!(Arc::ptr_eq(&kernel.scheduler.next(RUNS).unwrap(), &threads[0]));
}

#[test]
fn the_first_is_not_passed_over_for_ever() {
    let (kernel, threads) = with_homes();
    threads.iter().for_each(|thread| kernel.scheduler.enqueue(thread.clone()));
    for _ in 0..PASSED_MOST {
        let next = kernel.scheduler.next(RUNS).unwrap();
        assert!(Arc::ptr_eq(&next, &threads[1]));
        kernel.scheduler.enqueue(next);
    }
    assert!(Arc::ptr_eq(&kernel.scheduler.next(RUNS).unwrap(), &threads[0]));
}
