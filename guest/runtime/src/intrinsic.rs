//! memcpy and its kin, which the compiler calls and no C library supplies here.
//!
//! Never AVX: the upper halves of the vector registers belong to the application while the library OS
//! runs. Also the two symbols of unwinding that the prebuilt `alloc` names and nobody here calls.
//! Short runs are moved by 16 bytes, long ones by the processor's string instructions, by eight bytes: an
//! emulator takes as long for a step of one.

use core::arch::naked_asm;

/// # Safety
/// As C's memcpy.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "jb 3f",
        "cmp rdx, 512",
        "jae 5f",
        // The last 16 bytes are read first and written last, the rest goes in steps of 16.
        "movups xmm1, [rsi + rdx - 16]",
        "lea rcx, [rdi + rdx - 16]",
        "2: movups xmm0, [rsi]",
        "movups [rdi], xmm0",
        "add rsi, 16",
        "add rdi, 16",
        "cmp rdi, rcx",
        "jb 2b",
        "movups [rcx], xmm1",
        "ret",
        "3: cmp edx, 8",
        "jb 4f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "4: cmp edx, 4",
        "jb 6f",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        // At most three bytes: the first, the last, and the middle one, which may be either.
        "6: test edx, edx",
        "jz 7f",
        "movzx ecx, byte ptr [rsi]",
        "movzx r8d, byte ptr [rsi + rdx - 1]",
        "mov r10d, edx",
        "shr r10d, 1",
        "movzx r9d, byte ptr [rsi + r10]",
        "mov [rdi + r10], r9b",
        "mov [rdi + rdx - 1], r8b",
        "mov [rdi], cl",
        "7: ret",
        // Whole words, and the last eight bytes, which were read first.
        "5: mov r8, [rsi + rdx - 8]",
        "lea r9, [rdi + rdx - 8]",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "mov [r9], r8",
        "ret",
    )
}

/// # Safety
/// As C's memmove.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdi",
        "sub rcx, rsi",
        // Forwards unless the target starts inside the source.
        "cmp rcx, rdx",
        "jae 4f",
        "2: cmp rdx, 8",
        "jb 3f",
        "mov rcx, [rsi + rdx - 8]",
        "mov [rdi + rdx - 8], rcx",
        "sub rdx, 8",
        "jmp 2b",
        "3: test rdx, rdx",
        "je 5f",
        "movzx ecx, byte ptr [rsi + rdx - 1]",
        "mov [rdi + rdx - 1], cl",
        "dec rdx",
        "jmp 3b",
        // Forwards in steps of 8: each is read whole before anything behind it is overwritten.
        "4: cmp rdx, 512",
        "jae 7f",
        "6: cmp rdx, 8",
        "jb 8f",
        "mov rcx, [rsi]",
        "mov [rdi], rcx",
        "add rsi, 8",
        "add rdi, 8",
        "sub rdx, 8",
        "jmp 6b",
        "8: test rdx, rdx",
        "je 5f",
        "movzx ecx, byte ptr [rsi]",
        "mov [rdi], cl",
        "inc rsi",
        "inc rdi",
        "dec rdx",
        "jmp 8b",
        "7: mov r8, [rsi + rdx - 8]",
        "lea r9, [rdi + rdx - 8]",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep movsq",
        "mov [r9], r8",
        "5: ret",
    )
}

/// # Safety
/// As C's memset.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    naked_asm!(
        "mov r8, rdi",
        "cmp rdx, 16",
        "jb 4f",
        "cmp rdx, 512",
        "jae 3f",
        "movzx eax, sil",
        "imul eax, eax, 0x01010101",
        "movd xmm0, eax",
        "pshufd xmm0, xmm0, 0",
        "lea rcx, [rdi + rdx - 16]",
        "2: movups [rdi], xmm0",
        "add rdi, 16",
        "cmp rdi, rcx",
        "jb 2b",
        "movups [rcx], xmm0",
        "mov rax, r8",
        "ret",
        "3: movzx eax, sil",
        "movabs rcx, 0x0101010101010101",
        "imul rax, rcx",
        "lea r9, [rdi + rdx - 8]",
        "mov rcx, rdx",
        "shr rcx, 3",
        "rep stosq",
        "mov [r9], rax",
        "mov rax, r8",
        "ret",
        "4: test edx, edx",
        "jz 5f",
        "mov [rdi], sil",
        "inc rdi",
        "dec edx",
        "jmp 4b",
        "5: mov rax, r8",
        "ret",
    )
}

/// # Safety
/// As C's memcmp.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    naked_asm!(
        "2: cmp rdx, 8",
        "jb 3f",
        "mov rax, [rdi]",
        "cmp rax, [rsi]",
        "jne 3f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "jmp 2b",
        "3: test rdx, rdx",
        "je 4f",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "inc rdi",
        "inc rsi",
        "dec rdx",
        "sub eax, ecx",
        "je 3b",
        "ret",
        "4: xor eax, eax",
        "ret",
    )
}

/// # Safety
/// As C's bcmp.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

/// # Safety
/// As C's strlen.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn strlen(text: *const u8) -> usize {
    naked_asm!("xor eax, eax", "2: cmp byte ptr [rdi + rax], 0", "je 3f", "inc rax", "jmp 2b", "3: ret")
}

/// Never called: panics abort.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    panic!("unwound")
}

/// Never called: there are no unwind tables.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
