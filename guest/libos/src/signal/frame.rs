//! The frame a handler runs on, and the way back from it: `struct rt_sigframe` of x86-64
//! (arch/x86/include/asm/sigframe.h, asm/sigcontext.h, uapi).
//!
//! From the stack pointer upwards: return address (the restorer), `ucontext` (304 bytes), `siginfo`
//! (128), then at a 64-byte boundary the XSAVE area with its two magic numbers. Everything read back is
//! a claim of the program: flags are masked, the vector state is cleaned.

use alloc::sync::Arc;
use alloc::vec;

use machine::{Context, EXTENDED_LENGTH, EXTENDED_MASK, Fault, Machine};

use super::{Action, AlternateStack, Information, SA_ONSTACK, UNBLOCKABLE};
use crate::thread::Thread;

const UCONTEXT: u64 = 304;
const FRAME: u64 = 8 + UCONTEXT + 128;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// Where the legacy area keeps `struct _fpx_sw_bytes`.
const SOFTWARE: usize = 464;
/// UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS.
const UCONTEXT_FLAGS: u64 = 7;
/// Addresses from here on no processor goes to in ring 3 (APM, canonical addresses). What a program can map ends
/// before, but the vDSO may lie behind that.
pub(crate) const LOWER_HALF: u64 = 1 << 47;

const SS_ONSTACK: u32 = 1;
const SS_DISABLE: u32 = 2;
const SS_AUTODISARM: u32 = 1 << 31;
/// Flags a program may set: CF PF AF ZF SF TF DF OF RF AC ID.
const USER_FLAGS: u64 = 0x25_0dd5;

/// Whether a stack pointer lies on the alternate stack.
fn on_stack(stack: &AlternateStack, pointer: u64) -> bool {
    stack.size != 0 && pointer > stack.address && pointer - stack.address <= stack.size
}

/// Pushes a frame and makes the context start the handler.
pub(super) fn push(
    thread: &Arc<Thread>,
    context: &mut Context,
    machine: &Arc<dyn Machine>,
    information: Information,
    action: Action,
    mask: u64,
) -> Result<(), Fault> {
    let space = thread.process.space();
    let registers = context.registers;
    let mut stack = thread.signals.stack.lock();
    let usable = action.flags & SA_ONSTACK != 0 && stack.size != 0;
    let top = if usable && !on_stack(&stack, registers.rsp) {
        stack.address + stack.size
    } else {
        registers.rsp.wrapping_sub(128)
    };
    let extended = top.wrapping_sub(EXTENDED_LENGTH as u64 + 4) & !63;
    let frame = (extended.wrapping_sub(FRAME) & !15).wrapping_sub(8);

    let mut area = vec![0; EXTENDED_LENGTH + 4];
    area[..EXTENDED_LENGTH].copy_from_slice(&context.extended.0);
    area[SOFTWARE..SOFTWARE + 4].copy_from_slice(&MAGIC1.to_le_bytes());
    area[SOFTWARE + 4..SOFTWARE + 8].copy_from_slice(&(EXTENDED_LENGTH as u32 + 4).to_le_bytes());
    area[SOFTWARE + 8..SOFTWARE + 16].copy_from_slice(&EXTENDED_MASK.to_le_bytes());
    area[SOFTWARE + 16..SOFTWARE + 20].copy_from_slice(&(EXTENDED_LENGTH as u32).to_le_bytes());
    area[EXTENDED_LENGTH..].copy_from_slice(&MAGIC2.to_le_bytes());
    machine.copy_out(space, &area, extended)?;

    let mut bytes = [0; FRAME as usize];
    let mut put = |offset: usize, value: u64| bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    let r = &registers;
    put(0, action.restorer);
    put(8, UCONTEXT_FLAGS);
    let on = on_stack(&stack, registers.rsp);
    let state = if stack.size == 0 {
        SS_DISABLE
    } else if on {
        SS_ONSTACK
    } else {
        0
    };
    put(24, stack.address);
    put(32, u64::from(state | stack.flags));
    put(40, stack.size);
    let saved = [
        r.r8,
        r.r9,
        r.r10,
        r.r11,
        r.r12,
        r.r13,
        r.r14,
        r.r15,
        r.rdi,
        r.rsi,
        r.rbp,
        r.rbx,
        r.rdx,
        r.rax,
        r.rcx,
        r.rsp,
        r.rip,
        r.rflags,
        0x002b_0000_0000_0033,
        information.trap.1,
        information.trap.0,
        mask,
        information.trap.2,
        extended,
    ];
    for (index, value) in saved.into_iter().enumerate() {
        put(48 + index * 8, value);
    }
    put(304, mask);
    bytes[8 + UCONTEXT as usize..].copy_from_slice(&information.encode());
    machine.copy_out(space, &bytes, frame)?;

    if stack.flags & SS_AUTODISARM != 0 {
        *stack = AlternateStack::default();
    }
    if action.handler >= LOWER_HALF {
        return Err(Fault);
    }
    context.registers.rsp = frame;
    context.registers.rip = action.handler;
    context.registers.rdi = u64::from(information.number);
    context.registers.rsi = frame + 8 + UCONTEXT;
    context.registers.rdx = frame + 8;
    context.registers.rax = 0;
    context.registers.rflags &= !(1 << 10 | 1 << 8 | 1 << 16);
    context.extended = machine::ExtendedState::initial();
    context.divert();
    Ok(())
}

/// rt_sigreturn(2): takes the context and the mask back from the frame under the stack pointer. The
/// context has left the CPU's registers.
pub fn restore(thread: &Arc<Thread>, context: &mut Context, machine: &Arc<dyn Machine>) -> Result<(), Fault> {
    let space = thread.process.space();
    let mut bytes = [0; UCONTEXT as usize];
    machine.copy_in(space, context.registers.rsp, &mut bytes)?;
    let get = |offset: usize| {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("invariant: eight bytes"))
    };
    let extended = get(40 + 23 * 8);
    if extended == 0 {
        context.extended = machine::ExtendedState::initial();
    } else {
        let mut area = vec![0; EXTENDED_LENGTH];
        machine.copy_in(space, extended, &mut area[..512])?;
        let magic =
            u32::from_le_bytes(area[SOFTWARE..SOFTWARE + 4].try_into().expect("invariant: four bytes"));
        if magic == MAGIC1 {
            machine.copy_in(space, extended, &mut area)?;
            context.extended.replace(&area);
        } else {
            context.extended.replace(&area[..512]);
        }
    }
    let registers = &mut context.registers;
    let order: [&mut u64; 17] = [
        &mut registers.r8,
        &mut registers.r9,
        &mut registers.r10,
        &mut registers.r11,
        &mut registers.r12,
        &mut registers.r13,
        &mut registers.r14,
        &mut registers.r15,
        &mut registers.rdi,
        &mut registers.rsi,
        &mut registers.rbp,
        &mut registers.rbx,
        &mut registers.rdx,
        &mut registers.rax,
        &mut registers.rcx,
        &mut registers.rsp,
        &mut registers.rip,
    ];
    for (index, register) in order.into_iter().enumerate() {
        *register = get(40 + index * 8);
    }
    if registers.rip >= LOWER_HALF {
        return Err(Fault);
    }
    registers.rflags = registers.rflags & !USER_FLAGS | get(40 + 17 * 8) & USER_FLAGS | 0x202;
    let mask = get(296) & !UNBLOCKABLE;
    thread.signals.mask.store(mask, core::sync::atomic::Ordering::SeqCst);
    let flags = get(24) as u32;
    if flags & !SS_ONSTACK & !SS_AUTODISARM == 0 || flags & SS_DISABLE != 0 {
        let size = if flags & SS_DISABLE != 0 { 0 } else { get(32) };
        *thread.signals.stack.lock() =
            AlternateStack { address: get(16), flags: flags & SS_AUTODISARM, size };
    }
    context.divert();
    super::look_again(thread);
    Ok(())
}
