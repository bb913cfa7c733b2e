//! Threads and processes that change the same things at the same time: memory, children, signals, the program.

use machine::Trap;
use machine::fake::{DATA, ENTRY, Program, Step};

use crate::island::{arguments, exit, number, over_seeds, told_apart, well};

/// CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM.
const THREAD: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;
const STACK: u64 = DATA + 0x2000;
const CHILD: u64 = ENTRY + 0x400;
const MAPPER: u64 = ENTRY + 0x600;
const FORKER: u64 = ENTRY + 0x800;
const GRANDCHILD: u64 = ENTRY + 0xa00;
const SECOND: u64 = ENTRY + 0xb00;
const STATUS: u64 = DATA;
const PATH: u64 = DATA + 32;
const ANY: u64 = u64::MAX;
/// -ECHILD.
const CHILDLESS: i64 = -10;
const SIGKILL: u64 = 9;
const SIGCONT: u64 = 18;
const SIGSTOP: u64 = 19;
const STOPPED: u64 = 2;
const CONTINUED: u64 = 8;

/// Starts a thread that goes on at `place`.
fn started(program: Program, place: u64) -> Program {
    let program = program.call(number::CLONE, [THREAD, STACK, 0, 0, 0, 0]);
    program.step(move |step| match step.result() {
        0 => step.jump(place),
        thread => {
            assert!(thread > 0, "no thread: {thread}");
            step.go_on()
        }
    })
}

/// Adds a thread, at its place, that maps a page, writes to it and unmaps it, for ever.
fn with_mapper(program: Program) -> Program {
    let program = program.at(MAPPER).call(number::MMAP, [0, 4096, 3, 0x22, u64::MAX, 0]);
    let program = program.step(|step| {
        let page = step.result() as u64;
        step.write(page, b"mapped");
        step.call(number::MUNMAP, [page, 4096, 0, 0, 0, 0])
    });
    program.expect("munmap", 0).step(|step| step.jump(MAPPER))
}

/// A step in which the child of the call before goes elsewhere.
fn branch(step: &mut Step<'_>, place: u64) -> Trap {
    match step.result() {
        0 => step.jump(place),
        child => {
            assert!(child > 0, "no child: {child}");
            step.context.registers.rbx = child as u64;
            step.go_on()
        }
    }
}

/// Waits for a change of the child in rbx.
fn awaited(program: Program, options: u64, status: u32) -> Program {
    let wait = move |step: &mut Step<'_>| {
        let child = step.context.registers.rbx;
        step.call(number::WAIT4, [child, STATUS, options, 0, 0, 0])
    };
    program.step(wait).step(move |step| {
        assert_eq!(step.result(), step.context.registers.rbx as i64, "the child");
        assert_eq!(step.read_u32(STATUS), status, "its status");
        step.go_on()
    })
}

/// Waits, at `place`, until there are no children.
fn childless(program: Program, place: u64) -> Program {
    let program = program.at(place).call(number::WAIT4, [ANY, 0, 0, 0, 0, 0]);
    program.step(move |step| match step.result() {
        CHILDLESS => step.go_on(),
        child => {
            assert!(child > 1, "wait gives {child}");
            step.jump(place)
        }
    })
}

fn kill(program: Program, signal: u64) -> Program {
    let kill = move |step: &mut Step<'_>| {
        let child = step.context.registers.rbx;
        step.call(number::KILL, [child, signal, 0, 0, 0, 0])
    };
    program.step(kill).expect("kill", 0)
}

#[test]
fn a_thread_forks_while_another_maps() {
    let program = || {
        let program = (0..4).fold(started(Program::new(), MAPPER), |program, _| {
            let program = program.call(number::FORK, [0; 6]).step(|step| branch(step, CHILD));
            awaited(program, 0, 7 << 8)
        });
        with_mapper(exit(exit(program, 0).at(CHILD), 7))
    };
    over_seeds(program, well);
}

#[test]
fn of_two_threads_that_execute_one_does() {
    const OTHER: u64 = ENTRY + 0xc00;
    const AGAIN: i64 = -11;
    let execute = |program: Program, place| {
        let program = program.at(place).call(number::EXECVE, [PATH, arguments(PATH), 0, 0, 0, 0]);
        program.expect("execve beside another", AGAIN).step(move |step| step.jump(place))
    };
    let program = || {
        let program = started(told_apart(PATH, SECOND), OTHER).step(|step| step.jump(CHILD));
        exit(execute(execute(program, CHILD), OTHER).at(SECOND), 0)
    };
    over_seeds(program, well);
}

#[test]
fn a_thread_executes_while_others_map_and_fork() {
    let program = || {
        let program = told_apart(PATH, SECOND);
        let program = started(started(program, MAPPER), FORKER);
        let program = program.call(number::EXECVE, [PATH, arguments(PATH), 0, 0, 0, 0]);
        // The forker may have left a child.
        let program = exit(childless(program, SECOND), 0);
        with_forker(with_mapper(program))
    };
    over_seeds(program, well);
}

/// Adds a thread, at its place, that makes a child and waits for it, for ever.
fn with_forker(program: Program) -> Program {
    let program = program.at(FORKER).call(number::FORK, [0; 6]).step(|step| branch(step, GRANDCHILD));
    let program = program.step(|step| {
        let child = step.context.registers.rbx;
        step.call(number::WAIT4, [child, 0, 0, 0, 0, 0])
    });
    let program = program.step(|step| {
        assert_eq!(step.result(), step.context.registers.rbx as i64, "its own child");
        step.jump(FORKER)
    });
    exit(program.at(GRANDCHILD), 0)
}

/// A child whose two threads fork and map, and what happens to it meanwhile.
fn with_busy_child(happens: impl Fn(Program) -> Program) -> Program {
    let program = Program::new().call(number::FORK, [0; 6]).step(|step| branch(step, CHILD));
    let program = happens(program);
    // Those of the child, which it cannot wait for any more.
    let wait = CHILD + 0x100;
    let program = exit(childless(program.step(move |step| step.jump(wait)), wait), 0);
    let program = started(started(program.at(CHILD), MAPPER), FORKER);
    with_forker(with_mapper(program.step(|step| step.jump(FORKER))))
}

#[test]
fn a_process_is_killed_while_its_threads_fork_and_map() {
    over_seeds(|| with_busy_child(|program| awaited(kill(program, SIGKILL), 0, SIGKILL as u32)), well);
}

#[test]
fn a_process_stops_and_continues_while_its_threads_fork_and_map() {
    let happens = |program| {
        let program = (0..3).fold(program, |program, _| {
            let program = awaited(kill(program, SIGSTOP), STOPPED, 0x137f);
            awaited(kill(program, SIGCONT), CONTINUED, 0xffff)
        });
        awaited(kill(program, SIGKILL), 0, SIGKILL as u32)
    };
    over_seeds(|| with_busy_child(happens), well);
}

/// Whoever is made while a signal goes to its group gets it as well: nobody is left that would wait for ever.
#[test]
fn a_member_forks_while_its_group_is_killed() {
    const AGAIN: u64 = ENTRY + 0x200;
    const NOBODY: i64 = -3;
    let program = || {
        let program = Program::new().call(number::FORK, [0; 6]).step(|step| branch(step, CHILD));
        let program = program.step(|step| step.jump(AGAIN)).at(AGAIN).step(|step| {
            let group = step.context.registers.rbx.wrapping_neg();
            step.call(number::KILL, [group, SIGKILL, 0, 0, 0, 0])
        });
        let program = program.step(|step| match step.result() {
            0 => step.jump(SECOND),
            nobody => {
                assert_eq!(nobody, NOBODY, "kill");
                step.jump(AGAIN)
            }
        });
        let program = exit(childless(program, SECOND), 0);
        let program = program.at(CHILD).call(number::SETPGID, [0; 6]).expect("setpgid", 0);
        let program = (0..4).fold(program, |program, _| {
            program.call(number::FORK, [0; 6]).step(|step| branch(step, GRANDCHILD))
        });
        program.step(|step| step.jump(GRANDCHILD)).at(GRANDCHILD).call(number::PAUSE, [0; 6])
    };
    over_seeds(program, well);
}
