//! The program on the island: it fills every register, makes a system call, and compares.
//!
//! It runs in this very test binary, before `main`, when the environment says so. It announces itself
//! with `int3` once its sites have been patched, then loops for ever; a register that a call changed
//! ends in `ud2` with the number of the check in edi.

use std::arch::{asm, global_asm};

/// Environment variable whose presence makes this binary the program, and its two forms.
pub const VARIABLE: &str = "EYOT_GATE_PROGRAM";

/// The loops: over `mov $number,%eax; syscall`, and over `syscall; cmp`.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    Load,
    Forward,
}

unsafe extern "C" {
    static mut gate_pattern: u8;
    static gate_load_loop: u8;
    static gate_load_site: u8;
    static gate_load_end: u8;
    static gate_forward_loop: u8;
    static gate_forward_site: u8;
    static gate_forward_end: u8;
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = become_program;

extern "C" fn become_program() {
    match std::env::var(VARIABLE).as_deref() {
        // SAFETY: the loops use no memory but their own statics and their own stack, and never return.
        Ok("Load") => unsafe {
            start(&raw const gate_load_loop, &raw const gate_load_site, &raw const gate_load_end)
        },
        // SAFETY: as above.
        Ok("Forward") => unsafe {
            start(&raw const gate_forward_loop, &raw const gate_forward_site, &raw const gate_forward_end)
        },
        _ => {}
    }
}

/// Loops; the tracer is told in time where the loop is (rdi, rsi, rdx).
unsafe fn start(from: *const u8, site: *const u8, end: *const u8) -> ! {
    // SAFETY: only this thread exists, and the statics are the loop's own. The loop leaves by no way.
    unsafe {
        let pattern = (&raw mut gate_pattern).cast::<u64>();
        for index in 0..64 {
            pattern.add(index).write(0x1234_5678_90ab_cdef_u64.wrapping_mul(index as u64 * 2 + 1));
        }
        asm!(
            "lea rax, [rip + gate_from]",
            "mov [rax], rdi",
            "mov [rax + 8], rsi",
            "mov [rax + 16], rdx",
            "jmp rdi",
            in("rdi") from,
            in("rsi") site,
            in("rdx") end,
            options(noreturn)
        )
    }
}

global_asm!(
    r#"
.pushsection .data
.p2align 6
gate_from: .quad 0, 0, 0
gate_rounds: .quad 0
gate_result: .quad 0
gate_flags: .quad 0
gate_stack: .quad 0
gate_mxcsr: .long 0x7f80
gate_control: .word 0x27f
.word 0
.p2align 6
gate_pattern: .fill 512
.p2align 6
gate_found: .fill 512
.popsection

.macro gate_fill
    // A few rounds to have the site patched, then the tracer is told.
    inc qword ptr [rip + gate_rounds]
    cmp qword ptr [rip + gate_rounds], 20
    jne 1f
    mov rdi, [rip + gate_from]
    mov rsi, [rip + gate_from + 8]
    mov rdx, [rip + gate_from + 16]
    int3
1:  mov [rip + gate_stack], rsp
    lea rax, [rip + gate_pattern]
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu ymm\n, [rax + 32 * \n]
    .endr
    fldcw [rip + gate_control]
    ldmxcsr [rip + gate_mxcsr]
    movabs rax, 0x0123456789abcdef
    mov [rsp - 8], rax
    mov [rsp - 128], rax
    movabs rbx, 0x1111111111111111
    movabs rdx, 0x2222222222222222
    movabs rsi, 0x3333333333333333
    movabs rdi, 0x4444444444444444
    movabs rbp, 0x5555555555555555
    movabs r8, 0x6666666666666666
    movabs r9, 0x7777777777777777
    movabs r10, 0x8888888888888888
    movabs r12, 0x9999999999999999
    movabs r13, 0xaaaaaaaaaaaaaaaa
    movabs r14, 0xbbbbbbbbbbbbbbbb
    movabs r15, 0xcccccccccccccccc
    // Flags: carry, parity, adjust, zero, sign, overflow. Restored below the red zone.
    lea rsp, [rsp - 256]
    push 0xad7
    popfq
    lea rsp, [rsp + 256]
.endm

.macro gate_expect code, register, value
    movabs rax, \value
    cmp \register, rax
    mov eax, \code
    jne 9f
.endm

.macro gate_compare after, flags
    mov [rip + gate_result], rax
    lea rsp, [rsp - 256]
    pushfq
    pop rax
    lea rsp, [rsp + 256]
    mov [rip + gate_flags], rax
    gate_expect 1, rbx, 0x1111111111111111
    gate_expect 2, rdx, 0x2222222222222222
    gate_expect 3, rsi, 0x3333333333333333
    gate_expect 4, rdi, 0x4444444444444444
    gate_expect 5, rbp, 0x5555555555555555
    gate_expect 6, r8, 0x6666666666666666
    gate_expect 7, r9, 0x7777777777777777
    gate_expect 8, r10, 0x8888888888888888
    gate_expect 9, r12, 0x9999999999999999
    gate_expect 10, r13, 0xaaaaaaaaaaaaaaaa
    gate_expect 11, r14, 0xbbbbbbbbbbbbbbbb
    gate_expect 12, r15, 0xcccccccccccccccc
    gate_expect 13, "qword ptr [rsp - 8]", 0x0123456789abcdef
    gate_expect 14, "qword ptr [rsp - 128]", 0x0123456789abcdef
    lea rbx, [rip + \after]
    cmp rcx, rbx
    mov eax, 15
    jne 9f
    and r11d, 0xcd5
    cmp r11d, 0x8d5
    mov eax, 16
    jne 9f
    mov rbx, [rip + gate_flags]
    and ebx, 0xcd5
    cmp ebx, \flags
    mov eax, 17
    jne 9f
    cmp rsp, [rip + gate_stack]
    mov eax, 18
    jne 9f
    cmp dword ptr [rip + gate_result + 4], 0
    mov eax, 19
    jne 9f
    lea rax, [rip + gate_found]
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    vmovdqu [rax + 32 * \n], ymm\n
    .endr
    lea rsi, [rip + gate_pattern]
    mov rdi, rax
    mov ecx, 64
    repe cmpsq
    mov eax, 20
    jne 9f
    stmxcsr [rip + gate_found]
    cmp dword ptr [rip + gate_found], 0x7f80
    mov eax, 21
    jne 9f
    fnstcw [rip + gate_found]
    cmp word ptr [rip + gate_found], 0x27f
    mov eax, 22
    jne 9f
    jmp 8f
9:  mov edi, eax
    ud2
8:
.endm

.pushsection .text.gate_program, "ax", @progbits
.globl gate_pattern, gate_load_loop, gate_load_site, gate_load_end
.globl gate_forward_loop, gate_forward_site, gate_forward_end
gate_load_loop:
    gate_fill
gate_load_site:
    mov eax, 110
    syscall
gate_load_after:
    gate_compare gate_load_after, 0x8d5
    jmp gate_load_loop
gate_load_end:

gate_forward_loop:
    gate_fill
    mov eax, 110
    nop
gate_forward_site:
    syscall
gate_forward_after:
    cmp rax, -4095
    jae 7f
    // 0 - (-4095): carry, and no other flag but what 4095 itself sets.
    gate_compare gate_forward_after, 0x15
    jmp gate_forward_loop
7:  mov edi, 23
    ud2
gate_forward_end:
.popsection
"#
);
