//! A thread's registers as tracers see them: `struct user_regs_struct`, `struct user_fpregs_struct` and the XSAVE
//! area (sys/user.h, elf(5): NT_PRSTATUS, NT_PRFPREG, NT_X86_XSTATE).

use machine::{Context, ExtendedState, Registers};

use super::{CallStop, Seen};
use crate::signal::LOWER_HALF;

/// Words of `struct user_regs_struct`.
pub const COUNT: usize = 27;
/// Bytes of `struct user_fpregs_struct`.
pub const FLOATING: usize = 512;

const ORIGINAL_RAX: usize = 15;
const RIP: usize = 16;
const CS: usize = 17;
const FLAGS: usize = 18;
const RSP: usize = 19;
const SS: usize = 20;
const FS_BASE: usize = 21;
const RAX: usize = 10;

/// What a program may change itself (POPF), and the trap flag.
const CHANGEABLE: u64 = 0x24_0dd5;

/// Those that are words of the context's, in order, up to what the call was.
fn plain(registers: &mut Registers) -> [&mut u64; ORIGINAL_RAX] {
    [
        &mut registers.r15,
        &mut registers.r14,
        &mut registers.r13,
        &mut registers.r12,
        &mut registers.rbp,
        &mut registers.rbx,
        &mut registers.r11,
        &mut registers.r10,
        &mut registers.r9,
        &mut registers.r8,
        &mut registers.rax,
        &mut registers.rcx,
        &mut registers.rdx,
        &mut registers.rsi,
        &mut registers.rdi,
    ]
}

/// All of a thread's that is in no call.
pub fn words(context: &Context) -> [u64; COUNT] {
    let mut registers = context.registers;
    let mut words = [0; COUNT];
    for (word, register) in words.iter_mut().zip(plain(&mut registers)) {
        *word = *register;
    }
    words[ORIGINAL_RAX] = u64::MAX;
    words[RIP] = registers.rip;
    words[CS] = 0x33;
    words[FLAGS] = registers.rflags;
    words[RSP] = registers.rsp;
    words[SS] = 0x2b;
    words[FS_BASE] = registers.fs_base;
    words
}

/// All of a standing thread's. A call at its beginning has ENOSYS for a result, as on Linux.
pub fn encode(context: &Context, seen: &Seen) -> [u64; COUNT] {
    const ENOSYS: i64 = 38;
    let mut words = words(context);
    match seen.stop.call {
        Some(CallStop::Entry) => {
            words[ORIGINAL_RAX] = context.registers.rax;
            words[RAX] = -ENOSYS as u64;
        }
        Some(CallStop::Exit(result)) => {
            words[ORIGINAL_RAX] = seen.last_call;
            words[RAX] = result as u64;
        }
        None => {}
    }
    words
}

/// Changes a standing thread's registers to these; addresses beyond `end` no program can have.
pub fn decode(context: &mut Context, seen: &Seen, words: &[u64; COUNT], end: u64) -> bool {
    if words[FS_BASE] >= end || words[RIP] >= LOWER_HALF {
        return false;
    }
    let call = seen.stop.call;
    let registers = &mut context.registers;
    let rax = registers.rax;
    for (register, word) in plain(registers).into_iter().zip(words) {
        *register = *word;
    }
    match call {
        // At the beginning of a call its number is the original one's.
        Some(CallStop::Entry) => registers.rax = words[ORIGINAL_RAX],
        Some(CallStop::Exit(result)) if words[RAX] == result as u64 => registers.rax = rax,
        _ => {}
    }
    registers.rip = words[RIP];
    registers.rflags = registers.rflags & !CHANGEABLE | words[FLAGS] & CHANGEABLE;
    registers.rsp = words[RSP];
    registers.fs_base = words[FS_BASE];
    context.divert();
    true
}

/// The floating-point registers: the legacy region.
pub fn floating(context: &Context) -> [u8; FLOATING] {
    let mut bytes = [0; FLOATING];
    bytes.copy_from_slice(&context.extended.0[..FLOATING]);
    bytes
}

/// Changes them; what is beyond the legacy region stays.
pub fn set_floating(context: &mut Context, bytes: &[u8]) {
    let mut area = context.extended.0;
    let length = bytes.len().min(FLOATING);
    area[..length].copy_from_slice(&bytes[..length]);
    area[FLOATING] |= 3;
    ExtendedState::replace(&mut context.extended, &area);
}
