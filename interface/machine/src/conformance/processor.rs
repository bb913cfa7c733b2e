//! Application code: entered, trapped, interrupted, switched.
//!
//! The code is three short pieces at fixed addresses. A real processor executes the bytes; the fake machine
//! runs steps of the same meaning there.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{CPU, READ_WRITE, SPACE, Verdict, address, map, pages, write};
use crate::{Context, Exception, Machine, Protection, Slice, Trap};

/// The last of the pages that are cleared after each check: code, and a stack.
const CODE_PAGE: u64 = 60;
const STACK_PAGE: u64 = 62;
/// `0: syscall; jmp 0b`.
pub const CALL: u64 = address(CODE_PAGE);
/// `0: jmp 0b`.
pub const SPIN: u64 = CALL + 64;
/// `ud2`.
const INVALID: u64 = CALL + 128;
const CODE: [(u64, &[u8]); 3] =
    [(CALL, &[0x0f, 0x05, 0xeb, 0xfc]), (SPIN, &[0xeb, 0xfe]), (INVALID, &[0x0f, 0x0b])];
/// Where the XSAVE area keeps xmm0–15.
const XMM: core::ops::Range<usize> = 160..416;
/// A tick is at most this long; a machine under load may take its time.
const TICK_MOST_NS: u64 = 2_000_000_000;

/// A context that starts at `rip` behind mapped code.
pub fn prepared(machine: &dyn Machine, rip: u64) -> Result<Context, String> {
    map(machine, pages(CODE_PAGE, 1), READ_WRITE)?;
    map(machine, pages(STACK_PAGE, 1), READ_WRITE)?;
    for (at, bytes) in CODE {
        write(machine, at, bytes)?;
    }
    let executable = Protection::READ.union(Protection::EXECUTE);
    let protected = machine.protect(SPACE, pages(CODE_PAGE, 1), executable);
    protected.map_err(|code| format!("protect: {code:?}"))?;
    Ok(Context::new(rip, address(STACK_PAGE + 1)))
}

/// Enters until something else than an interruption comes back.
fn enter(machine: &dyn Machine, context: &mut Context, call: &mut dyn FnMut(&mut Context) -> bool) -> Trap {
    loop {
        match machine.enter(CPU, context, Slice::Unlimited, call) {
            Trap::Interrupt => {}
            trap => return trap,
        }
    }
}

/// Enters until the next system call, and leaves.
pub fn call_once(machine: &dyn Machine, context: &mut Context) -> Verdict {
    let trap = enter(machine, context, &mut |_| false);
    machine.leave(CPU, context);
    ensure!(trap == Trap::Syscall, "a system call comes as {trap:?}");
    Ok(())
}

pub fn system_call(machine: &dyn Machine) -> Verdict {
    let mut context = prepared(machine, CALL)?;
    let registers = &mut context.registers;
    (registers.rax, registers.rdi, registers.rsi, registers.rdx) = (1000, 1, 2, 3);
    (registers.r10, registers.r8, registers.r9) = (4, 5, 6);
    (registers.rbx, registers.rbp, registers.r12) = (7, 8, 9);
    (registers.r13, registers.r14, registers.r15) = (10, 11, 12);
    let given = context.registers;
    call_once(machine, &mut context)?;
    let mut found = context.registers;
    ensure!(found.rip > CALL && found.rip < SPIN, "rip is {:#x} after a call at {CALL:#x}", found.rip);
    // The instruction itself replaces these; flags are the machine's to complete.
    (found.rip, found.rcx, found.r11, found.rflags) = (given.rip, given.rcx, given.r11, given.rflags);
    ensure!(found == given, "{found:x?} instead of {given:x?}");
    Ok(())
}

pub fn answered_calls(machine: &dyn Machine) -> Verdict {
    let mut context = prepared(machine, CALL)?;
    let mut calls = 0;
    let mut results = Vec::new();
    let trap = enter(machine, &mut context, &mut |context| {
        results.push(context.registers.rax);
        calls += 1;
        context.registers.rax = 100 + calls;
        calls < 4
    });
    machine.leave(CPU, &mut context);
    ensure!(trap == Trap::Syscall, "the call that is not answered comes as {trap:?}");
    ensure!(results == [0, 101, 102, 103], "the program finds {results:?}");
    Ok(())
}

pub fn exceptions(machine: &dyn Machine) -> Verdict {
    let mut context = prepared(machine, INVALID)?;
    let trap = enter(machine, &mut context, &mut |_| false);
    machine.leave(CPU, &mut context);
    let invalid = matches!(trap, Trap::Exception(Exception { vector: 6, .. }));
    ensure!(invalid && context.registers.rip == INVALID, "ud2 is {trap:?} at {:#x}", context.registers.rip);
    // Nothing there, and nothing that may be executed.
    for at in [address(50), address(STACK_PAGE)] {
        let mut context = prepared(machine, at)?;
        let trap = enter(machine, &mut context, &mut |_| false);
        machine.leave(CPU, &mut context);
        let Trap::Exception(exception) = trap else {
            return Err(format!("execution at {at:#x} gives {trap:?}"));
        };
        let fetch = exception.vector == 14 && exception.error & 0x10 != 0 && exception.address == at;
        ensure!(fetch && context.registers.rip == at, "execution at {at:#x} gives {exception:?}");
    }
    Ok(())
}

pub fn slices(machine: &dyn Machine) -> Verdict {
    let mut context = prepared(machine, SPIN)?;
    let start_ns = machine.now().monotonic_ns;
    for slice in [Slice::Tick, Slice::Until(start_ns), Slice::Until(start_ns + 1_000_000), Slice::Tick] {
        let trap = machine.enter(CPU, &mut context, slice, &mut |_| false);
        ensure!(trap == Trap::Interrupt, "{slice:?} ends in {trap:?}");
        ensure!(context.registers.rip == SPIN, "a loop is left to {:#x}", context.registers.rip);
    }
    machine.leave(CPU, &mut context);
    let spent_ns = machine.now().monotonic_ns - start_ns;
    ensure!(spent_ns < TICK_MOST_NS, "four slices last {spent_ns} ns");
    Ok(())
}

pub fn kick(machine: &dyn Machine) -> Verdict {
    let mut context = prepared(machine, SPIN)?;
    machine.kick(CPU);
    let trap = machine.enter(CPU, &mut context, Slice::Unlimited, &mut |_| false);
    machine.leave(CPU, &mut context);
    ensure!(trap == Trap::Interrupt, "a kick ends in {trap:?}");
    Ok(())
}

pub fn switch(machine: &dyn Machine) -> Verdict {
    let mut contexts = [prepared(machine, CALL)?, prepared(machine, CALL)?];
    let pattern = |of: usize, round: usize| XMM.map(move |at| (at * 5 + of * 17 + round) as u8);
    for (of, context) in contexts.iter_mut().enumerate() {
        context.registers.fs_base = address(STACK_PAGE) + 64 * of as u64;
    }
    for round in 0..3 {
        for (of, context) in contexts.iter_mut().enumerate() {
            context.extended.0[XMM]
                .iter_mut()
                .zip(pattern(of, round))
                .for_each(|(byte, value)| *byte = value);
            // XSTATE_BV: both legacy components are to be loaded.
            context.extended.0[512] |= 3;
        }
        for (of, context) in contexts.iter_mut().enumerate() {
            call_once(machine, context)?;
            let kept = context.extended.0[XMM].iter().copied().eq(pattern(of, round));
            ensure!(kept, "vector registers of context {of} change in round {round}");
            let base = address(STACK_PAGE) + 64 * of as u64;
            ensure!(context.registers.fs_base == base, "fs is {:#x}", context.registers.fs_base);
        }
    }
    Ok(())
}

pub fn diversion(machine: &dyn Machine) -> Verdict {
    let mut context = prepared(machine, CALL)?;
    call_once(machine, &mut context)?;
    context.registers.rip = INVALID;
    context.divert();
    let trap = enter(machine, &mut context, &mut |_| false);
    machine.leave(CPU, &mut context);
    ensure!(matches!(trap, Trap::Exception(_)), "a diverted context ends in {trap:?}");
    Ok(())
}
