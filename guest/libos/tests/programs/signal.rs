//! Signals to oneself and from outside: handlers, frames, the way back.

use abi::exit::Exit;
use machine::Event;
use machine::fake::{DATA, ENTRY, Program};

use crate::island::{exit, number, over_seeds, over_seeds_with, well};

const SIGUSR1: u64 = 10;
const SIGTERM: u64 = 15;
const SIGCHLD: u64 = 17;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_RESTART: u64 = 0x1000_0000;
const EINTR: i64 = 4;
const HANDLER: u64 = ENTRY + 0x400;
const RESTORER: u64 = ENTRY + 0x500;
const CHILD: u64 = ENTRY + 0x600;
const ACTION: u64 = DATA;
const COUNT: u64 = DATA + 64;
const BUFFER: u64 = DATA + 128;

/// Installs a handler that counts, and what brings it back.
fn handled(signal: u64, flags: u64) -> Program {
    let program = Program::new().at(HANDLER).step(move |step| {
        assert_eq!(step.context.registers.rdi, signal);
        let frame = step.context.registers.rsp;
        assert_eq!(frame % 16, 8);
        let back = step.read_u64(frame);
        assert_eq!(back, RESTORER);
        let count = step.read_u64(COUNT) + 1;
        step.write(COUNT, &count.to_le_bytes());
        // Whatever a handler does to registers must not be seen after it.
        step.context.registers.rbx = 1;
        step.context.registers.r12 = 2;
        step.context.extended.0[160] = 99;
        // As `ret` does.
        step.context.registers.rsp += 8;
        step.jump(back)
    });
    let program = program.at(RESTORER).call(number::RT_SIGRETURN, [0; 6]).at(ENTRY);
    let program = program.step(move |step| {
        let words = [HANDLER, flags | SA_RESTORER, RESTORER, 0];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
        step.write(ACTION, &bytes);
        step.context.registers.rbx = 0x1111;
        step.context.registers.r12 = 0x2222;
        // The first bytes of xmm0.
        step.context.extended.0[160..164].copy_from_slice(b"xmm0");
        step.call(number::RT_SIGACTION, [signal, ACTION, 0, 8, 0, 0])
    });
    program.expect("rt_sigaction", 0)
}

/// Checks that the handler ran once and left no trace.
fn undisturbed(program: Program) -> Program {
    program.step(|step| {
        assert_eq!(step.read_u64(COUNT), 1, "runs of the handler");
        assert_eq!(step.context.registers.rbx, 0x1111);
        assert_eq!(step.context.registers.r12, 0x2222);
        assert_eq!(&step.context.extended.0[160..164], b"xmm0");
        step.go_on()
    })
}

#[test]
fn a_handler_runs_and_returns() {
    let program = || {
        let program = handled(SIGUSR1, 0).call(number::KILL, [1, SIGUSR1, 0, 0, 0, 0]).expect("kill", 0);
        exit(undisturbed(program), 0)
    };
    over_seeds(program, well);
}

#[test]
fn a_signal_without_a_handler_ends_the_program() {
    let program = || Program::new().call(number::KILL, [1, SIGTERM, 0, 0, 0, 0]);
    over_seeds(program, |outcome| assert_eq!(outcome.exit, Exit::Signal(15)));
}

#[test]
fn a_signal_from_outside_interrupts_a_call() {
    let program = || {
        let program = handled(SIGTERM, 0).call(number::PAUSE, [0; 6]).expect("pause", -EINTR);
        exit(undisturbed(program), 0)
    };
    over_seeds_with(program, |island| island.machine.happen(200_000_000, Event::Signal(SIGTERM as u8)), well);
}

#[test]
fn a_restarted_read_gets_its_data() {
    let program = || {
        let program = handled(SIGTERM, SA_RESTART);
        let program = program.call(number::READ, [0, BUFFER, 5, 0, 0, 0]).expect("read", 5);
        exit(undisturbed(program), 0)
    };
    over_seeds_with(
        program,
        |island| {
            island.machine.happen(200_000_000, Event::Signal(SIGTERM as u8));
            island.machine.feed(island.input, 400_000_000, b"hello");
        },
        well,
    );
}

#[test]
fn sigsuspend_does_not_miss_the_end_of_a_child() {
    let program = || {
        let program = handled(SIGCHLD, 0).step(|step| {
            step.write(BUFFER, &(1_u64 << (SIGCHLD - 1)).to_le_bytes());
            step.write(BUFFER + 8, &0_u64.to_le_bytes());
            step.call(number::RT_SIGPROCMASK, [0, BUFFER, 0, 8, 0, 0])
        });
        let program = program.expect("rt_sigprocmask", 0).call(number::FORK, [0; 6]);
        let program = program.step(|step| if step.result() == 0 { step.jump(CHILD) } else { step.go_on() });
        let program = program.call(number::RT_SIGSUSPEND, [BUFFER + 8, 8, 0, 0, 0, 0]);
        let program = exit(undisturbed(program.expect("rt_sigsuspend", -EINTR)), 0);
        exit(program.at(CHILD), 0)
    };
    over_seeds(program, well);
}
