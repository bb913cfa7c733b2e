//! The first instructions: from whatever a boot loader leaves to ring 3.
//!
//! Ways in: PVH (32-bit, `ebx`: start information), multiboot2 (32-bit, `eax`: its magic, `ebx`: its
//! information), and the ELF entry (64-bit, `rsi`: start information of PVH, or Linux's boot parameters).
//! A VMM of our own may also start a CPU in ring 3 right away, as the note `abi::vm::Direct` tells it.
//! Everything in ring 0 is done here once, without loops and without a call, because some hypervisors
//! emulate ring 0 slowly: tables are static, what they need computed is computed in ring 3.
//!
//! The tables of the start map the first 4 GiB at their physical addresses and where all memory is mapped
//! later, and the image at its own address, everything for everyone; `memory::map` replaces them. Other CPUs start with them as well.

use core::arch::global_asm;
use core::mem::offset_of;

use crate::cpu::block::{self, Block};
use crate::cpu::stub;

/// What `main` is told about the way in.
pub mod way {
    /// A pointer to PVH's start information or to Linux's boot parameters.
    pub const PVH_OR_LINUX: u64 = 0;
    /// A pointer to multiboot2's information.
    pub const MULTIBOOT: u64 = 1;
}

/// PAE, SSE and its exceptions; FSGSBASE and XSAVE may be added only where the processor has them.
const CR4_START: u32 = 0x620;
const CR4: u32 = CR4_START | 0x5_0000;
/// Paging, write protection in ring 0, no emulation of anything, protected mode.
const CR0: u32 = 0x8005_0033;
/// Pages that forbid execution, long mode, SYSCALL.
const EFER: u32 = 0x901;

global_asm!(
    r#"
// Multiboot2 (specification 3.1): the header, with an entry address of its own.
.pushsection .boot.head, "a", @progbits
.balign 8
vm_multiboot:
    .long 0xe85250d6, 0, vm_multiboot_end - vm_multiboot
    .long 0x100000000 - (0xe85250d6 + (vm_multiboot_end - vm_multiboot))
    // The kernel is loaded where it says, pages are 4 KiB: nothing else is asked for.
    .balign 8
    .short 3, 0
    .long 12, vm_entry_multiboot
    .balign 8
    .short 0, 0
    .long 8
vm_multiboot_end:
    // Where a service is loaded that was joined with the kernel (abi::vm::SERVICE_MARK).
    .balign 8
.globl vm_service
vm_service:
    .ascii "EYOTSERV"
    .quad 0, 0
.popsection

.pushsection .note.pvh, "a", @note
.balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad vm_entry_pvh
.popsection

// For our own VMM, which starts a CPU in ring 3 by itself: abi::vm::Direct.
.pushsection .note.direct, "a", @note
.balign 4
    .long 5, 64, {NOTE}
    .asciz "Eyot"
    .balign 4
    .quad vm_boot_tables
    .quad {FIRST}
    .quad {FIRST} + {GDT}
    .quad {TABLE}
    .quad {FIRST} + {TASK}
    .quad {CALL}
    .quad {MAIN}
    .quad {STACK} + {STACK_LENGTH} - 8
.popsection

// From protected or real mode, with the tables of the start.
.macro vm_long_mode
    mov eax, {CR4_START}
    mov cr4, eax
    mov eax, offset vm_boot_tables
    mov cr3, eax
    mov ecx, 0xc0000080
    xor edx, edx
    mov eax, {EFER}
    wrmsr
    mov eax, {CR0}
    mov cr0, eax
.endm

.pushsection .boot.text, "ax", @progbits
.code32
vm_entry_multiboot:
    mov edi, {MULTIBOOT}
    jmp 2f
vm_entry_pvh:
    mov edi, {PVH}
2:  cli
    cld
    mov esi, ebx
    // Long mode or nothing: processors without it do not get here under any of these protocols.
    vm_long_mode
    lgdt [vm_boot_descriptors]
    .byte 0xea
    .long vm_entry_long
    .short 8

.code64
.globl vm_entry64
vm_entry64:
    cli
    cld
    mov edi, {PVH}
    mov ecx, 0xc0000080
    xor edx, edx
    mov eax, {EFER}
    wrmsr
    mov eax, {CR4_START}
    mov cr4, rax
    mov eax, offset vm_boot_tables
    mov cr3, rax
    mov eax, {CR0}
    mov cr0, rax
vm_entry_long:
    mov ebp, esi
    mov r12d, edi
    movabs r15, offset {FIRST}
    movabs rax, offset vm_first
    jmp rax
.popsection

.pushsection .text.gate, "ax", @progbits
// r15: the CPU's block. Loads everything that ring 0 alone can.
.macro vm_load_cpu
    lgdt [r15 + {GDTR}]
    lidt [r15 + {IDTR}]
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    lea rsp, [r15 + {LOCAL}]
    push 8
    lea rax, [rip + 7f]
    push rax
    retfq
7:  mov eax, 0x40
    ltr ax
    mov eax, {CR4}
    mov cr4, rax
    wrgsbase r15
    mov ecx, 0xc0000081
    xor eax, eax
    mov edx, 0x00230008
    wrmsr
    movabs rax, offset {CALL}
    mov rdx, rax
    shr rdx, 32
    mov ecx, 0xc0000082
    wrmsr
    mov ecx, 0xc0000084
    // Flags that a system call clears: not that of interrupts, because there are hypervisors on which the
    // call lands in ring 3, where nothing could set it again.
    mov eax, 0x47500
    xor edx, edx
    wrmsr
    mov eax, 13
    xor ecx, ecx
    cpuid
    and eax, {EXTENDED}
    xor edx, edx
    xor ecx, ecx
    xsetbv
.endm

vm_first:
    // FSGSBASE and XSAVE are what the library OS cannot do without.
    mov eax, 7
    xor ecx, ecx
    cpuid
    test ebx, 1
    jz vm_lacking
    mov eax, 1
    cpuid
    bt ecx, 26
    jnc vm_lacking
    // The only table entry with a computed address: this CPU's task segment.
    lea rax, [r15 + {TASK}]
    mov [r15 + {GDT} + 0x42], ax
    shr rax, 16
    mov [r15 + {GDT} + 0x44], al
    shr rax, 8
    mov [r15 + {GDT} + 0x47], al
    shr rax, 8
    mov [r15 + {GDT} + 0x48], eax
    vm_load_cpu
    // No interrupt controller of old: it would use vectors of exceptions.
    mov al, 0xff
    out 0x21, al
    out 0xa1, al
    mov rdi, r12
    mov rsi, rbp
    xor ebp, ebp
    movabs rax, offset {STACK}
    add rax, {STACK_LENGTH} - 8
    push 0x2b
    push rax
    push 0x202
    push 0x33
    movabs rax, offset {MAIN}
    push rax
    iretq

vm_lacking:
    lea rsi, [rip + vm_lacking_text]
2:  lodsb
    test al, al
    jz 4f
    mov ah, al
    mov dx, 0x3fd
3:  in al, dx
    test al, 0x20
    jz 3b
    mov al, ah
    mov dx, 0x3f8
    out dx, al
    jmp 2b
4:  mov al, 0xfe
    out 0x64, al
    hlt
    jmp 4b
.popsection
.pushsection .rodata, "a", @progbits
vm_lacking_text:
    .asciz "eyot: this processor lacks FSGSBASE or XSAVE; in QEMU, -cpu max has both\r\n"
.popsection

.pushsection .boot.data, "aw", @progbits
.balign 8
vm_boot_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
.globl vm_boot_descriptors
vm_boot_descriptors:
    .short 23
    .quad vm_boot_gdt
.balign 4096
.globl vm_boot_tables
vm_boot_tables:
    .quad 2f + 7
    .fill 251, 8, 0
    .quad 3f + 7
    .fill 259, 8, 0
2:  .quad 4f + 7, 4f + 0x1007, 4f + 0x2007, 4f + 0x3007
    .fill 508, 8, 0
3:  .quad 5f + 7
    .fill 255, 8, 0
    .quad 4f + 7, 4f + 0x1007, 4f + 0x2007, 4f + 0x3007
    .fill 252, 8, 0
4:  .set vm_at, 0
    .rept 2048
    .quad vm_at + 0xe7
    .set vm_at, vm_at + 0x200000
    .endr
5:  .set vm_at, {LOAD}
    .rept 16
    .quad vm_at + 0xe7
    .set vm_at, vm_at + 0x200000
    .endr
    .fill 496, 8, 0
.popsection
"#,
    MULTIBOOT = const way::MULTIBOOT,
    PVH = const way::PVH_OR_LINUX,
    CR4_START = const CR4_START,
    CR4 = const CR4,
    CR0 = const CR0,
    EFER = const EFER,
    EXTENDED = const machine::EXTENDED_MASK,
    NOTE = const abi::vm::NOTE,
    TABLE = sym stub::TABLE,
    LOAD = const crate::memory::layout::IMAGE_LOAD,
    FIRST = sym block::FIRST,
    GDTR = const offset_of!(Block, gdtr),
    IDTR = const offset_of!(Block, idtr),
    GDT = const offset_of!(Block, gdt),
    TASK = const offset_of!(Block, task),
    LOCAL = const offset_of!(Block, scratch_end),
    CALL = sym stub::vm_stub_call,
    STACK = sym crate::boot::STACK,
    STACK_LENGTH = const crate::boot::STACK_LENGTH,
    MAIN = sym crate::boot::main,
);
