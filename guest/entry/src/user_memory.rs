//! Copies to and from user memory that survive a fault.
//!
//! Each routine answers 0, or 1 after a fault: the machine's handler recognises an instruction of
//! [`copies`] and goes on at [`fault`]. The routines push nothing and change no register that the C
//! convention preserves.

use core::arch::global_asm;
use core::ops::Range;

use machine::Fault;

unsafe extern "C" {
    fn entry_user_copy(to: u64, from: u64, length: u64) -> u64;
    fn entry_user_exchange(address: u64, old: u32, new: u32, was: *mut u32) -> u64;
    fn entry_user_begin();
    fn entry_user_end();
    fn entry_user_fault();
}

global_asm!(
    r#"
.pushsection .text.gate, "ax", @progbits
.globl entry_user_begin, entry_user_end, entry_user_fault, entry_user_copy, entry_user_exchange
entry_user_begin:
.p2align 4
entry_user_copy:
    cmp rdx, 8
    jb 3f
    cmp rdx, 256
    jae 6f
2:  mov rax, [rsi]
    mov [rdi], rax
    add rsi, 8
    add rdi, 8
    sub rdx, 8
    cmp rdx, 8
    jae 2b
3:  test edx, edx
    jz 4f
    cmp edx, 4
    jb 5f
    mov eax, [rsi]
    mov [rdi], eax
    add rsi, 4
    add rdi, 4
    sub edx, 4
    jmp 3b
5:  mov rcx, rdx
    rep movsb
4:  xor eax, eax
    ret
6:  mov rcx, rdx
    shr rcx, 3
    rep movsq
    and edx, 7
    jmp 3b
entry_user_exchange:
    mov eax, esi
    mov r8, rcx
    lock cmpxchg [rdi], edx
    mov [r8], eax
    xor eax, eax
    ret
entry_user_end:
entry_user_fault:
    mov eax, 1
    ret
.popsection
"#
);

/// The instructions that may fault.
pub fn copies() -> Range<u64> {
    entry_user_begin as *const () as u64..entry_user_end as *const () as u64
}

/// Where a faulted copy goes on.
pub fn fault() -> u64 {
    entry_user_fault as *const () as u64
}

/// Copies from user memory that ends below `end`.
pub fn copy_in(end: u64, from: u64, to: &mut [u8]) -> Result<(), Fault> {
    check(end, from, to.len())?;
    // SAFETY: the target is a Rust slice; the source lies below every address of ours, and a fault on
    // it is an answer.
    outcome(unsafe { entry_user_copy(to.as_mut_ptr() as u64, from, to.len() as u64) })
}

/// Copies to user memory that ends below `end`.
pub fn copy_out(end: u64, from: &[u8], to: u64) -> Result<(), Fault> {
    check(end, to, from.len())?;
    // SAFETY: the source is a Rust slice; the target lies below every address of ours.
    outcome(unsafe { entry_user_copy(to, from.as_ptr() as u64, from.len() as u64) })
}

/// Copies between user memory and memory that others may change meanwhile.
///
/// # Safety
/// Each address is an application's, or names as many bytes that may be read or written.
pub unsafe fn transfer(to: u64, from: u64, length: u64) -> Result<(), Fault> {
    // SAFETY: the caller's promise; a fault is an answer.
    outcome(unsafe { entry_user_copy(to, from, length) })
}

/// Compare-and-exchange on an aligned user word.
pub fn exchange(end: u64, address: u64, old: u32, new: u32) -> Result<u32, Fault> {
    check(end, address, 4)?;
    if !address.is_multiple_of(4) {
        return Err(Fault);
    }
    let mut was = 0;
    // SAFETY: the word lies below every address of ours; `was` is a local.
    outcome(unsafe { entry_user_exchange(address, old, new, &mut was) })?;
    Ok(was)
}

fn check(end: u64, address: u64, length: usize) -> Result<(), Fault> {
    let fits = address.checked_add(length as u64).is_some_and(|last| last <= end);
    if fits { Ok(()) } else { Err(Fault) }
}

fn outcome(code: u64) -> Result<(), Fault> {
    if code == 0 { Ok(()) } else { Err(Fault) }
}
