//! Processes: made, waited for, stopped, ended, with memory of their own or their parent's.

use machine::Trap;
use machine::fake::{DATA, ENTRY, Program, Step};

use crate::island::{arguments, exit, number, over_seeds, told_apart, well};

const CHILD: u64 = ENTRY + 0x800;
const GRANDCHILD: u64 = ENTRY + 0xc00;
const STATUS: u64 = DATA;
const WORD: u64 = DATA + 8;
const ENDS: u64 = DATA + 16;
const BUFFER: u64 = DATA + 32;
const ECHILD: i64 = 10;
const ESRCH: i64 = 3;
const SIGKILL: u64 = 9;
const SIGCONT: u64 = 18;
const SIGSTOP: u64 = 19;
const ANY: u64 = u64::MAX;
const NO_HANG: u64 = 1;
const STOPPED: u64 = 2;
const CONTINUED: u64 = 8;

/// A step in which the child of the call before goes elsewhere.
fn branch(step: &mut Step<'_>) -> Trap {
    match step.result() {
        0 => step.jump(CHILD),
        child => {
            assert!(child > 0, "no child: {child}");
            step.write(WORD, &(child as u64).to_le_bytes());
            step.go_on()
        }
    }
}

/// Makes a child by such a call; it goes on at [`CHILD`], its number is in [`WORD`].
fn forked(call: u64) -> Program {
    Program::new().call(call, [0; 6]).step(branch)
}

/// Waits for the child, which has ended or changed like this.
fn awaited(program: Program, options: u64, status: u32) -> Program {
    let program = program.call(number::WAIT4, [ANY, STATUS, options, 0, 0, 0]);
    program.step(move |step| {
        assert_eq!(step.result(), step.read_u64(WORD) as i64, "the child");
        assert_eq!(step.read_u32(STATUS), status, "its status");
        step.go_on()
    })
}

fn kill(program: Program, signal: u64) -> Program {
    let program =
        program.step(move |step| step.call(number::KILL, [step.read_u64(WORD), signal, 0, 0, 0, 0]));
    program.expect("kill", 0)
}

#[test]
fn children_are_waited_for_once() {
    let program = || {
        let program = awaited(forked(number::FORK), 0, 7 << 8);
        let program = program.call(number::WAIT4, [ANY, 0, NO_HANG, 0, 0, 0]).expect("no more", -ECHILD);
        let program = exit(program, 0).at(CHILD).call(number::GETPPID, [0; 6]).expect("getppid", 1);
        exit(program, 7)
    };
    over_seeds(program, well);
}

#[test]
fn memory_is_copied_by_fork() {
    let program = || {
        let program = Program::new().step(|step| {
            step.write(BUFFER, b"common");
            step.go_on()
        });
        let program = program.call(number::FORK, [0; 6]).step(branch).step(|step| {
            step.write(BUFFER, b"parent");
            step.go_on()
        });
        let program = awaited(program, 0, 0).step(|step| {
            assert_eq!(step.read(BUFFER, 6).unwrap(), b"parent");
            step.go_on()
        });
        let program = exit(program, 0).at(CHILD).step(|step| {
            assert_eq!(step.read(BUFFER, 6).unwrap(), b"common");
            step.write(BUFFER, b"child!");
            step.go_on()
        });
        exit(program, 0)
    };
    over_seeds(program, well);
}

#[test]
fn a_pipe_joins_parent_and_child() {
    let program = || {
        let program = Program::new().call(number::PIPE, [ENDS, 0, 0, 0, 0, 0]).expect("pipe", 0);
        let program = program.call(number::FORK, [0; 6]).step(branch);
        let read = |step: &mut Step<'_>| {
            step.call(number::READ, [u64::from(step.read_u32(ENDS)), BUFFER, 16, 0, 0, 0])
        };
        let program = program.step(read).expect("read", 5).step(|step| {
            assert_eq!(step.read(BUFFER, 5).unwrap(), b"hello");
            step.go_on()
        });
        let program = exit(awaited(program, 0, 0), 0).at(CHILD).step(|step| {
            step.write(BUFFER, b"hello");
            step.call(number::WRITE, [u64::from(step.read_u32(ENDS + 4)), BUFFER, 5, 0, 0, 0])
        });
        exit(program.expect("write", 5), 0)
    };
    over_seeds(program, well);
}

#[test]
fn vfork_lends_memory_until_the_child_ends() {
    let program = || {
        let program = forked(number::VFORK).step(|step| {
            assert_eq!(step.read(BUFFER, 5).unwrap(), b"child", "the parent waits");
            step.go_on()
        });
        let program = exit(awaited(program, 0, 3 << 8), 0).at(CHILD).step(|step| {
            step.write(BUFFER, b"child");
            step.go_on()
        });
        exit(program, 3)
    };
    over_seeds(program, well);
}

#[test]
fn a_program_is_executed_in_memory_of_its_own() {
    const PATH: u64 = BUFFER;
    // It starts at the same place, told apart by its arguments.
    let program = |call| {
        let program = told_apart(PATH, GRANDCHILD);
        let program = program.call(call, [0; 6]).step(branch);
        let program = awaited(program, 0, 9 << 8).step(|step| {
            assert_eq!(step.read(PATH, 4).unwrap(), b"/bin", "the parent's memory stays");
            step.go_on()
        });
        let program = exit(program, 0).at(CHILD);
        let program = program.call(number::EXECVE, [PATH, arguments(PATH), 0, 0, 0, 0]);
        exit(program.at(GRANDCHILD), 9)
    };
    for call in [number::FORK, number::VFORK] {
        over_seeds(|| program(call), well);
    }
}

#[test]
fn orphans_go_to_the_first_process() {
    let program = || {
        // The grandchild waits until its parent has gone.
        let program = awaited(forked(number::FORK), 0, 0);
        let program = program.call(number::WAIT4, [ANY, STATUS, 0, 0, 0, 0]).step(|step| {
            assert!(step.result() > step.read_u64(WORD) as i64, "a later one");
            assert_eq!(step.read_u32(STATUS), 5 << 8);
            step.go_on()
        });
        let program =
            exit(program, 0).at(CHILD).call(number::FORK, [0; 6]).step(|step| match step.result() {
                0 => step.jump(GRANDCHILD),
                _ => step.go_on(),
            });
        let program = exit(program, 0)
            .at(GRANDCHILD)
            .call(number::GETPPID, [0; 6])
            .step(|step| if step.result() == 1 { step.go_on() } else { step.jump(GRANDCHILD) });
        exit(program, 5)
    };
    over_seeds(program, well);
}

#[test]
fn a_child_stops_continues_and_is_killed() {
    let program = || {
        let program = kill(forked(number::FORK), SIGSTOP);
        let program = awaited(program, STOPPED, 0x137f);
        let program = awaited(kill(program, SIGCONT), CONTINUED, 0xffff);
        let program = kill(kill(program, SIGSTOP), SIGKILL);
        let program = awaited(program, 0, SIGKILL as u32);
        let gone = program.step(|step| step.call(number::KILL, [step.read_u64(WORD), 0, 0, 0, 0, 0]));
        exit(gone.expect("nobody there", -ESRCH), 0).at(CHILD).step(|step| step.jump(CHILD))
    };
    over_seeds(program, well);
}

#[test]
fn a_group_is_killed_together() {
    let program = || {
        let program = forked(number::FORK);
        let program = program.step(|step| step.call(number::SETPGID, [step.read_u64(WORD), 0, 0, 0, 0, 0]));
        let program = program.expect("setpgid", 0);
        let group = |step: &mut Step<'_>| {
            step.call(number::KILL, [step.read_u64(WORD).wrapping_neg(), SIGKILL, 0, 0, 0, 0])
        };
        let program = awaited(program.step(group).expect("kill", 0), 0, SIGKILL as u32);
        exit(program, 0).at(CHILD).call(number::PAUSE, [0; 6])
    };
    over_seeds(program, well);
}

#[test]
fn many_children_come_and_go() {
    const COUNT: u64 = BUFFER;
    let program = || {
        let again = ENTRY;
        let program = Program::new().call(number::FORK, [0; 6]).step(branch).step(move |step| {
            let count = step.read_u64(COUNT) + 1;
            step.write(COUNT, &count.to_le_bytes());
            if count < 30 { step.jump(again) } else { step.go_on() }
        });
        let wait = ENTRY + 3 * machine::fake::SPACING;
        let program = program.call(number::WAIT4, [ANY, STATUS, 0, 0, 0, 0]).step(move |step| {
            let count = step.read_u64(COUNT) - 1;
            step.write(COUNT, &count.to_le_bytes());
            assert!(step.result() > 1, "a child");
            if count > 0 { step.jump(wait) } else { step.go_on() }
        });
        let program = program.call(number::WAIT4, [ANY, 0, 0, 0, 0, 0]).expect("no more", -ECHILD);
        let program = exit(program, 0).at(CHILD);
        exit(program, 0)
    };
    over_seeds(program, well);
}

#[test]
fn parent_and_child_send_signals_to_each_other() {
    let program = || {
        let program = (0..5).fold(forked(number::FORK), |program, _| kill(program, 0));
        let program = exit(awaited(program, 0, 7 << 8), 0).at(CHILD);
        let program = (0..5).fold(program, |program, _| {
            let program = program.call(number::GETPPID, [0; 6]);
            let program = program.step(|step| step.call(number::KILL, [step.result() as u64, 0, 0, 0, 0, 0]));
            program.expect("kill", 0)
        });
        exit(program, 7)
    };
    over_seeds(program, well);
}
