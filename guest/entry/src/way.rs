//! The way into application code and out of it.
//!
//! Exit: `gate_enter` pushes what the caller may want back, then loads the application's registers and
//! jumps. Entry: a patched call site comes through its stub to `gate_entry`, which saves the registers
//! and asks the library OS to answer the call; mostly it does, and the exit follows. A trap comes as a
//! signal, whose handler saves the registers from the frame and goes on at `gate_finish`. Nothing is ever
//! pushed on the application's stack: it has a red zone, and may not exist.
//!
//! A signal on any instruction of this file is safe: between `gate_exit_begin` and `gate_exit_end` the
//! context is still complete, so a kick there makes the exit start over at `gate_abort`; from `gate_entry`
//! on a kick only leaves its mark for the next exit.
//!
//! A context is `live` while the upper halves of its vector registers, its x87 state and its thread
//! pointer are in the processor; the lower halves, which the library OS uses, are saved each time.
//! MXCSR's exception flags stay in the processor as well: nearly every program that computes has some set,
//! LDMXCSR costs more than the rest of a call, and the library OS computes nothing that would set one.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;

use machine::{Context, Registers};

use crate::code::Code;
use crate::head::Head;

/// What [`enter`] returns.
pub(crate) const SYSCALL: u64 = 0;
pub const EXCEPTION: u64 = 1;
pub const INTERRUPT: u64 = 2;
/// A system call by a signal: its site may be patched.
pub const TRAPPED: u64 = 3;

unsafe extern "C" {
    fn gate_enter(context: *mut Context) -> u64;
    fn gate_leave(context: *mut Context);
    fn gate_finish(code: u64) -> !;
    fn gate_abort();
    fn gate_exit_begin();
    fn gate_exit_end();
    fn gate_entry();
}

/// Runs application code in a context until it traps.
///
/// # Safety
/// GS points to this CPU's [`Head`], the stack is the CPU's own, and context and `head.call` stay
/// where they are until this returns.
pub(crate) unsafe fn enter(context: &mut Context) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { gate_enter(context) }
}

/// Completes a live context.
///
/// # Safety
/// The context ran on this CPU last, so that its state is in the registers.
pub unsafe fn leave(context: &mut Context) {
    // SAFETY: the caller's promise.
    unsafe { gate_leave(context) }
}

/// Returns this code from [`enter`].
///
/// # Safety
/// [`enter`] is waiting on this CPU's kernel stack, its context is complete as far as it is not live, and
/// the current stack holds nothing that is still needed.
pub unsafe fn finish(code: u64) -> ! {
    // SAFETY: the caller's promise.
    unsafe { gate_finish(code) }
}

/// Where an exit that is not to happen goes on, from any instruction of [`exit`].
pub fn abort() -> u64 {
    gate_abort as *const () as u64
}

/// The instructions of the exit sequence.
pub(crate) fn exit() -> Range<u64> {
    gate_exit_begin as *const () as u64..gate_exit_end as *const () as u64
}

/// Where stubs go.
pub(crate) fn address() -> u64 {
    gate_entry as *const () as u64
}

/// From the gate: lets the library OS answer the system call in this context; false if it wants it to
/// be returned from [`enter`].
extern "C" fn answer(context: &mut Context) -> bool {
    let (call, code): (u64, u64);
    // SAFETY: GS points to this CPU's `Head`.
    unsafe {
        asm!(
            "mov {}, gs:[{}]", "mov {}, gs:[{}]",
            out(reg) call, const offset_of!(Head, call), out(reg) code, const offset_of!(Head, code),
            options(nostack, preserves_flags, readonly)
        )
    };
    // SAFETY: `lend` put both there, and they live as long as the application's code runs.
    let (call, code) =
        unsafe { (&mut *(call as *mut &mut dyn FnMut(&mut Context) -> bool), &*(code as *const Code)) };
    let answered = call(context);
    code.resume(context);
    answered
}

impl Head {
    /// Lends [`answer`] what the library OS answers with, and the code that runs; both borrows must last while
    /// [`enter`] is used.
    pub fn lend(&self, call: &mut &mut dyn FnMut(&mut Context) -> bool, code: &Code) {
        self.call.store(&raw mut *call as u64, Relaxed);
        self.code.store(&raw const *code as u64, Relaxed);
    }
}

/// Where the parts lie, for the test that kicks every instruction of them (host/monitor/tests/gate): it
/// finds this by its first word in the image, which has no symbols.
#[repr(C)]
struct Places {
    mark: [u8; 8],
    exit: unsafe extern "C" fn(*mut Context) -> u64,
    exit_end: unsafe extern "C" fn(),
    entry: unsafe extern "C" fn(),
    entry_end: unsafe extern "C" fn(*mut Context),
}

#[used]
#[unsafe(link_section = ".data.places")]
static PLACES: Places = Places {
    mark: *b"EYOTGATE",
    exit: gate_enter,
    exit_end: gate_exit_end,
    entry: gate_entry,
    entry_end: gate_leave,
};

const fn register(offset: usize) -> usize {
    offset_of!(Context, registers) + offset
}

/// A part of the extended state, by its offset in the XSAVE area.
const fn extended(offset: usize) -> usize {
    offset_of!(Context, extended) + offset
}

global_asm!(
    r#"
.macro gate_load_vectors base
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps xmm\n, [\base + {XMM} + 16 * \n]
    .endr
.endm
.macro gate_store_vectors base
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps [\base + {XMM} + 16 * \n], xmm\n
    .endr
.endm

.pushsection .text.gate, "ax", @progbits
.globl gate_enter, gate_leave, gate_finish, gate_abort
.globl gate_exit_begin, gate_exit_end, gate_entry

.p2align 6
gate_enter:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    sub rsp, 8
    mov gs:[{KERNEL_STACK}], rsp
    mov gs:[{CONTEXT}], rdi
gate_exit_begin:
    cmp dword ptr gs:[{KICKED}], 0
    jne gate_abort
    cmp qword ptr [rdi + {LIVE}], 0
    je 3f
    gate_load_vectors rdi
    mov eax, [rdi + {MXCSR}]
    and eax, {CONTROL}
    cmp eax, 0x1f80
    jne 4f
2:  mov dword ptr gs:[{INSIDE}], 1
    // The stub that continues after a patched site, or the address itself.
    mov rax, [rdi + {RESUME}]
    test rax, rax
    cmovz rax, [rdi + {RIP}]
    mov gs:[{TARGET}], rax
    // Arithmetic flags without POPF, which is slow; any other flag takes it.
    mov eax, [rdi + {RFLAGS}]
    test eax, 0xfffff528
    jnz 6f
    mov ecx, eax
    shr ecx, 11
    and ecx, 1
    add cl, 0x7f
    mov ah, al
    sahf
7:  mov r15, [rdi + {R15}]
    mov r14, [rdi + {R14}]
    mov r13, [rdi + {R13}]
    mov r12, [rdi + {R12}]
    mov r11, [rdi + {R11}]
    mov r10, [rdi + {R10}]
    mov r9, [rdi + {R9}]
    mov r8, [rdi + {R8}]
    mov rbp, [rdi + {RBP}]
    mov rsi, [rdi + {RSI}]
    mov rdx, [rdi + {RDX}]
    mov rcx, [rdi + {RCX}]
    mov rbx, [rdi + {RBX}]
    mov rax, [rdi + {RAX}]
    mov rsp, [rdi + {RSP}]
    mov rdi, [rdi + {RDI}]
    jmp qword ptr gs:[{TARGET}]
4:  ldmxcsr [rdi + {MXCSR}]
    jmp 2b
6:  push rax
    popfq
    jmp 7b
    // Nothing is in the processor: load all of it. A component this processor lacks would fault. The
    // lower halves must be in the area even where the header calls them initial, because from here on
    // the context is live and they alone are reloaded.
3:  test dword ptr [rdi + {HEADER}], 2
    jnz 5f
    pxor xmm0, xmm0
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps [rdi + {XMM} + 16 * \n], xmm0
    .endr
    or dword ptr [rdi + {HEADER}], 2
5:  mov rax, gs:[{COMPONENTS}]
    and [rdi + {HEADER}], rax
    xor edx, edx
    xrstor64 [rdi + {AREA}]
    mov rax, [rdi + {FS_BASE}]
    wrfsbase rax
    mov qword ptr [rdi + {LIVE}], 1
    jmp 2b
gate_exit_end:

gate_finish:
    mov rax, rdi
    jmp 2f
gate_abort:
    mov eax, {INTERRUPT}
2:  mov rsp, gs:[{KERNEL_STACK}]
    push 0x202
    popfq
    // The context may still be live: its exception flags stay.
    stmxcsr gs:[{SCRATCH}]
    and dword ptr gs:[{SCRATCH}], {FLAGS}
    or dword ptr gs:[{SCRATCH}], 0x1f80
    ldmxcsr gs:[{SCRATCH}]
    jmp 3f

    // From a stub: rcx points to the logical return address, at a fixed distance behind the stub's
    // continuation; rcx and r11 are the only registers that a system call may change.
.p2align 6
gate_entry:
    mov gs:[{USER_STACK}], rsp
    mov rsp, gs:[{KERNEL_STACK}]
    pushfq
    pop r11
    mov gs:[{SCRATCH}], rdi
    mov rdi, gs:[{CONTEXT}]
    mov [rdi + {RAX}], rax
    mov [rdi + {RBX}], rbx
    mov [rdi + {RDX}], rdx
    mov [rdi + {RSI}], rsi
    mov [rdi + {RBP}], rbp
    mov [rdi + {R8}], r8
    mov [rdi + {R9}], r9
    mov [rdi + {R10}], r10
    mov [rdi + {R11}], r11
    mov [rdi + {RFLAGS}], r11
    mov [rdi + {R12}], r12
    mov [rdi + {R13}], r13
    mov [rdi + {R14}], r14
    mov [rdi + {R15}], r15
    mov rax, [rcx]
    sub rcx, {DISTANCE}
    mov [rdi + {RIP}], rax
    mov [rdi + {RCX}], rax
    mov [rdi + {RESUME}], rcx
    mov rax, gs:[{SCRATCH}]
    mov rdx, gs:[{USER_STACK}]
    mov [rdi + {RDI}], rax
    mov [rdi + {RSP}], rdx
    gate_store_vectors rdi
    stmxcsr [rdi + {MXCSR}]
    mov eax, [rdi + {MXCSR}]
    and eax, {CONTROL}
    cmp eax, 0x1f80
    jne 4f
    // Trap, direction, nested-task and alignment flags are not for the library OS.
2:  test r11d, 0x44500
    jnz 5f
    // The stack is where `gate_enter` left it, aligned for a call.
6:  mov dword ptr gs:[{INSIDE}], 0
    call {ANSWER}
    mov rdi, gs:[{CONTEXT}]
    test al, al
    jnz gate_exit_begin
    xor eax, eax
3:  mov dword ptr gs:[{INSIDE}], 0
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
4:  ldmxcsr gs:[{DEFAULT_MXCSR}]
    jmp 2b
5:  push 0x202
    popfq
    jmp 6b

.p2align 4
gate_leave:
    gate_load_vectors rdi
    ldmxcsr [rdi + {MXCSR}]
    mov rax, gs:[{COMPONENTS}]
    xor edx, edx
    xsave64 [rdi + {AREA}]
    ldmxcsr gs:[{DEFAULT_MXCSR}]
    rdfsbase rax
    mov [rdi + {FS_BASE}], rax
    mov qword ptr [rdi + {LIVE}], 0
    ret
.popsection
"#,
    KERNEL_STACK = const offset_of!(Head, kernel_stack),
    CONTEXT = const offset_of!(Head, context),
    TARGET = const offset_of!(Head, target),
    USER_STACK = const offset_of!(Head, user_stack),
    SCRATCH = const offset_of!(Head, scratch),
    COMPONENTS = const offset_of!(Head, components),
    KICKED = const offset_of!(Head, kicked),
    INSIDE = const offset_of!(Head, inside),
    DEFAULT_MXCSR = const offset_of!(Head, default_mxcsr),
    AREA = const extended(0),
    MXCSR = const extended(24),
    XMM = const extended(160),
    HEADER = const extended(512),
    FLAGS = const 0x3f_u32,
    CONTROL = const !0x3f_u32,
    LIVE = const offset_of!(Context, live),
    RESUME = const offset_of!(Context, resume),
    R15 = const register(offset_of!(Registers, r15)),
    R14 = const register(offset_of!(Registers, r14)),
    R13 = const register(offset_of!(Registers, r13)),
    R12 = const register(offset_of!(Registers, r12)),
    R11 = const register(offset_of!(Registers, r11)),
    R10 = const register(offset_of!(Registers, r10)),
    R9 = const register(offset_of!(Registers, r9)),
    R8 = const register(offset_of!(Registers, r8)),
    RBP = const register(offset_of!(Registers, rbp)),
    RDI = const register(offset_of!(Registers, rdi)),
    RSI = const register(offset_of!(Registers, rsi)),
    RDX = const register(offset_of!(Registers, rdx)),
    RCX = const register(offset_of!(Registers, rcx)),
    RBX = const register(offset_of!(Registers, rbx)),
    RAX = const register(offset_of!(Registers, rax)),
    RIP = const register(offset_of!(Registers, rip)),
    RFLAGS = const register(offset_of!(Registers, rflags)),
    RSP = const register(offset_of!(Registers, rsp)),
    FS_BASE = const register(offset_of!(Registers, fs_base)),
    INTERRUPT = const INTERRUPT,
    ANSWER = sym answer,
    DISTANCE = const gate::LOGICAL - gate::CONTINUATION,
);
