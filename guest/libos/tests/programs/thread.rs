//! Threads of one process: clone(2) and futex(2).

use machine::fake::{DATA, ENTRY, Program};

use crate::island::{exit, number, over_seeds, well};

/// CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | CHILD_CLEARTID, as thread libraries have it.
const FLAGS: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000 | 0x20_0000;
const WAIT: u64 = 128;
const WAKE: u64 = 129;
const WORD: u64 = DATA;
const CLEARED: u64 = DATA + 8;
const STACK: u64 = DATA + 0x2000;
const CHILD: u64 = ENTRY + 0x400;
const PARENT: u64 = ENTRY + 0x200;
const JOIN: u64 = ENTRY + 0x300;

/// A parent that waits until its child has set a word, then until the child is gone.
fn rendezvous() -> Program {
    let program = Program::new().step(|step| {
        step.write(CLEARED, &1_u32.to_le_bytes());
        step.call(number::CLONE, [FLAGS, STACK, 0, CLEARED, 0, 0])
    });
    let program = program.step(|step| match step.result() {
        0 => {
            assert_eq!(step.context.registers.rsp, STACK);
            step.jump(CHILD)
        }
        child => {
            assert!(child > 1, "clone gives {child}");
            step.jump(PARENT)
        }
    });
    // EAGAIN is the answer if the child was faster.
    let program = program
        .at(PARENT)
        .call(number::FUTEX, [WORD, WAIT, 0, 0, 0, 0])
        .step(|step| {
            assert!([0, -11].contains(&step.result()), "wait gives {}", step.result());
            step.jump(if step.read_u32(WORD) == 1 { JOIN } else { PARENT })
        })
        .at(JOIN)
        // The kernel's wake-up is of the shared kind.
        .step(|step| match step.read_u32(CLEARED) {
            0 => step.jump(JOIN + 0x80),
            value => step.call(number::FUTEX, [CLEARED, 0, u64::from(value), 0, 0, 0]),
        })
        .step(|step| step.jump(JOIN));
    exit(program.at(JOIN + 0x80), 0)
        .at(CHILD)
        .step(|step| {
            step.write(WORD, &1_u32.to_le_bytes());
            step.call(number::FUTEX, [WORD, WAKE, 1, 0, 0, 0])
        })
        .step(|step| {
            assert!([0, 1].contains(&step.result()), "wake gives {}", step.result());
            step.go_on()
        })
        .call(number::EXIT, [0; 6])
}

#[test]
fn threads_meet_at_a_futex() {
    over_seeds(rendezvous, well);
}

#[test]
fn a_wait_that_nothing_ends_is_noticed() {
    let program = || Program::new().call(number::FUTEX, [WORD, WAIT, 0, 0, 0, 0]);
    over_seeds(program, |outcome| {
        assert!(matches!(outcome.exit, abi::exit::Exit::Broken { .. }), "{:?}", outcome.exit);
    });
}

#[test]
fn a_wait_times_out() {
    let program = Program::new;
    let program = move || {
        let program = program().step(|step| {
            step.write(DATA + 64, &0_u64.to_le_bytes());
            step.write(DATA + 72, &2_000_000_u64.to_le_bytes());
            step.call(number::FUTEX, [WORD, WAIT, 0, DATA + 64, 0, 0])
        });
        exit(program.expect("a wait with a timeout", -110), 0)
    };
    over_seeds(program, well);
}

/// Threads that count under a lock, as a C library's mutex works: 0 free, 1 taken.
fn counters() -> Program {
    const CALM: u64 = ENTRY + 0x100;
    const WORKER: u64 = ENTRY + 0x400;
    const TAKEN: u64 = ENTRY + 0x500;
    const DONE: u64 = ENTRY + 0x600;
    const COUNT: u64 = DATA + 16;
    const GONE: u64 = DATA + 32;
    const THREADS: u64 = 5;
    const ROUNDS: u64 = 6;
    // The main thread starts the others, each with a stack of its own, then waits for the last.
    let program = Program::new().step(|step| {
        let started = step.context.registers.rbx;
        if started == THREADS {
            return step.jump(CALM);
        }
        step.context.registers.rbx += 1;
        let flags = FLAGS & !0x20_0000;
        step.call(number::CLONE, [flags, STACK + started * 64, 0, 0, 0, 0])
    });
    let program = program.step(|step| {
        assert!(step.result() >= 0, "clone gives {}", step.result());
        let child = step.result() == 0;
        step.context.registers.r12 = 0;
        step.jump(if child { WORKER } else { ENTRY })
    });
    let program = program.at(CALM).step(|step| match step.read_u32(GONE) {
        gone if u64::from(gone) == THREADS => step.jump(DONE),
        gone => step.call(number::FUTEX, [GONE, WAIT, u64::from(gone), 0, 0, 0]),
    });
    let program = program.step(|step| step.jump(CALM));
    let program = program.at(DONE).step(|step| {
        assert_eq!(step.read_u64(COUNT), THREADS * ROUNDS);
        step.go_on()
    });
    let program = exit(program, 0).at(WORKER).step(|step| {
        if step.exchange(WORD, 0, 1) == 0 {
            return step.jump(TAKEN);
        }
        step.call(number::FUTEX, [WORD, WAIT, 1, 0, 0, 0])
    });
    let program = program.step(|step| step.jump(WORKER)).at(TAKEN);
    let program = program.step(|step| {
        step.context.registers.r13 = step.read_u64(COUNT);
        step.go_on()
    });
    let program = program.step(|step| {
        let count = step.context.registers.r13 + 1;
        step.write(COUNT, &count.to_le_bytes());
        assert_eq!(step.exchange(WORD, 1, 0), 1);
        step.call(number::FUTEX, [WORD, WAKE, 1, 0, 0, 0])
    });
    let program = program.step(|step| {
        step.context.registers.r12 += 1;
        if step.context.registers.r12 < ROUNDS {
            return step.jump(WORKER);
        }
        // Others may count at the same moment.
        let mut gone = step.read_u32(GONE);
        while step.exchange(GONE, gone, gone + 1) != gone {
            gone = step.read_u32(GONE);
        }
        step.call(number::FUTEX, [GONE, WAKE, 1, 0, 0, 0])
    });
    program.call(number::EXIT, [0; 6])
}

#[test]
fn a_lock_excludes() {
    over_seeds(counters, well);
}

/// A thread that waits for less time than the other needs to wake it, sometimes.
fn wakes_counted() -> Program {
    const WAITER: u64 = ENTRY + 0x400;
    const WAKER: u64 = ENTRY + 0x200;
    const TIME: u64 = DATA + 64;
    const ROUNDS: u64 = 10;
    const WOKEN: u64 = DATA + 16;
    const GONE: u64 = DATA + 24;
    let program = Program::new().step(|step| {
        step.write(TIME, &0_u64.to_le_bytes());
        step.write(TIME + 8, &12_000_u64.to_le_bytes());
        step.call(number::CLONE, [FLAGS & !0x20_0000, STACK, 0, 0, 0, 0])
    });
    let program = program.step(|step| {
        step.context.registers.r12 = 0;
        step.jump(if step.result() == 0 { WAITER } else { WAKER })
    });
    let program = program.at(WAKER).call(number::FUTEX, [WORD, WAKE, 1, 0, 0, 0]).step(|step| {
        step.context.registers.r12 += step.result() as u64;
        if step.read_u32(GONE) == 0 {
            return step.jump(WAKER);
        }
        assert_eq!(u64::from(step.read_u32(WOKEN)), step.context.registers.r12, "wake-ups that arrived");
        step.go_on()
    });
    let program = exit(program, 0).at(WAITER).call(number::FUTEX, [WORD, WAIT, 0, TIME, 0, 0]);
    let program = program.step(|step| {
        match step.result() {
            0 => step.write(WOKEN, &(step.read_u32(WOKEN) + 1).to_le_bytes()),
            error => assert_eq!(error, -110),
        }
        step.context.registers.r12 += 1;
        if step.context.registers.r12 < ROUNDS { step.jump(WAITER) } else { step.go_on() }
    });
    let program = program.step(|step| {
        step.write(GONE, &1_u32.to_le_bytes());
        step.go_on()
    });
    program.call(number::EXIT, [0; 6])
}

#[test]
fn a_wake_up_that_counts_arrives() {
    over_seeds(wakes_counted, well);
}
