//! Loading, the first stack, and the end of a program.

use abi::exit::{Exit, NotStarted};
use machine::fake::{CODE, ENTRY, Faults, Program, Step};

use crate::island::{Island, exit, number, over_seeds, well};

const ENOSYS: i64 = 38;

#[test]
fn exit_status_is_the_programs() {
    for status in [0, 1, 7, 255] {
        over_seeds(
            || exit(Program::new(), status),
            |outcome| assert_eq!(outcome.exit, Exit::Status(status as u8)),
        );
    }
}

#[test]
fn calls_return_results_and_errors() {
    let program = || {
        let program = Program::new().call(number::GETPID, [0; 6]).expect("getpid", 1);
        let program = program.call(9999, [1; 6]).expect("an unknown call", -ENOSYS);
        exit(program.call(u64::MAX, [0; 6]).expect("a wild number", -ENOSYS), 0)
    };
    over_seeds(program, well);
}

/// A NUL-ended string.
fn text(step: &Step<'_>, address: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.last() != Some(&0) {
        bytes.extend(step.read(address + bytes.len() as u64, 1).expect("a readable string"));
    }
    bytes.pop();
    bytes
}

#[test]
fn first_stack_is_what_the_abi_says() {
    let look = |step: &mut Step<'_>| {
        let stack = step.context.registers.rsp;
        assert_eq!(stack % 16, 0);
        assert_eq!(step.read_u64(stack), 2);
        assert_eq!(text(step, step.read_u64(stack + 8)), b"program");
        assert_eq!(text(step, step.read_u64(stack + 16)), b"argument");
        assert_eq!(step.read_u64(stack + 24), 0);
        assert_eq!(text(step, step.read_u64(stack + 32)), b"NAME=value");
        assert_eq!(step.read_u64(stack + 40), 0);
        let mut at = stack + 48;
        let mut found = 0;
        loop {
            let (key, value) = (step.read_u64(at), step.read_u64(at + 8));
            match key {
                0 => break,
                3 => assert_eq!(value, CODE + 64, "AT_PHDR"),
                5 => assert_eq!(value, 2, "AT_PHNUM"),
                6 => assert_eq!(value, 4096, "AT_PAGESZ"),
                9 => assert_eq!(value, ENTRY, "AT_ENTRY"),
                23 => assert_eq!(value, 0, "AT_SECURE"),
                25 => assert_eq!(step.read(value, 16).expect("AT_RANDOM").len(), 16),
                31 => assert_eq!(text(step, value), b"/bin/program", "AT_EXECFN"),
                33 => assert_eq!(step.read(value, 4).expect("AT_SYSINFO_EHDR"), b"\x7fELF"),
                _ => {}
            }
            found += 1;
            at += 16;
        }
        assert!(found >= 20, "only {found} entries");
        step.go_on()
    };
    over_seeds(move || exit(Program::new().step(look), 0), well);
}

#[test]
fn a_program_that_is_not_there_is_not_started() {
    let island = Island::new(Program::new(), 1, Faults::default());
    let mut boot = island.boot();
    boot.program = b"/bin/other".to_vec();
    let outcome = island.run(boot);
    assert!(
        matches!(outcome.exit, Exit::NotStarted { reason: NotStarted::NotFound, .. }),
        "{:?}",
        outcome.exit
    );
}

#[test]
fn a_failing_disk_never_breaks_the_island() {
    for seed in 0..300 {
        let faults = Faults { error: 200, ..Faults::HARMLESS };
        let island = Island::new(exit(Program::new(), 3), seed, faults);
        let outcome = island.run(island.boot());
        assert!(
            matches!(outcome.exit, Exit::Status(3) | Exit::NotStarted { .. }),
            "seed {seed}: {:?}",
            outcome.exit
        );
    }
}

#[test]
fn a_wild_jump_ends_by_a_signal() {
    let program = || Program::new().step(|step| step.jump(0x1234_5000));
    over_seeds(program, |outcome| assert_eq!(outcome.exit, Exit::Signal(11)));
    let program = || Program::new().step(|step| step.jump(ENTRY + 8));
    over_seeds(program, |outcome| assert_eq!(outcome.exit, Exit::Signal(4)));
}
