//! What a thread runs while it carries no CPU: a few instructions, on the stack in its seat.
//!
//! No Rust code: that would want a kernel stack, on which the CPU goes on elsewhere. The one `syscall` instruction is
//! called, so that a word of stack is all that is touched.

use core::arch::naked_asm;
use core::mem::offset_of;

use abi::address::{GATE_TABLE, GATE_TABLE_END, USER_END};
use abi::pico::descriptor;
use linux_raw_sys::general as linux;

use super::seat::{END, MAKE, RUN, STACK, Seat};
use crate::local::Local;

/// Sleeps as the CPU's thread of `own`, after waking that of `to`, which returns from this call instead.
#[unsafe(naked)]
pub unsafe extern "C" fn hand_over(_: *const Local, own: *const Seat, to: *const Seat) {
    naked_asm!(
        "push rbp", "push rbx", "push r12", "push r13", "push r14", "push r15",
        "mov [rdi + {BETWEEN}], rsp",
        // From here on the CPU is the other thread's as soon as that wakes: nothing of it is touched.
        "mov r14, rsi",
        "lea rsp, [r14 + {TOP}]",
        "mov eax, {RUN}",
        "lock or [rdx + {WORD}], eax",
        "lea rdi, [rdx + {WORD}]",
        "mov esi, {WAKE}",
        "mov edx, 1",
        "mov eax, {FUTEX}",
        "call pico_syscall",
        "jmp {sleep}",
        BETWEEN = const offset_of!(Local, between),
        TOP = const TOP, RUN = const RUN, WORD = const offset_of!(Seat, word),
        WAKE = const linux::FUTEX_WAKE, FUTEX = const linux::__NR_futex,
        sleep = sym sleep,
    )
}

/// Where a seat's stack begins to grow down.
const TOP: usize = offset_of!(Seat, stack) + STACK * 8;

/// A thread sleeps until the CPU is its, and meanwhile makes what it is ordered to; the seat is in r14, its stack is in
/// use.
#[unsafe(naked)]
unsafe extern "C" fn sleep() -> ! {
    naked_asm!(
        "2: xor r12d, r12d",
        "xchg r12d, [r14 + {WORD}]",
        "test r12b, {MAKE}",
        "jnz 3f",
        "5: test r12b, {END}",
        "jnz 8f",
        "test r12b, {RUN}",
        "jnz 6f",
        "lea rdi, [r14 + {WORD}]",
        "xor esi, esi",
        "xor edx, edx",
        "xor r10d, r10d",
        "mov eax, {FUTEX}",
        "call pico_syscall",
        "jmp 2b",
        // The new thread's first return leads to its entry; the new process's as well.
        "3: mov r15, [r14 + {ORDER}]",
        "4: mov rdi, [r14 + {FLAGS}]",
        "lea rsi, [r15 + {BOTTOM}]",
        "lea rdx, [r15 + {DESCRIPTOR}]",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "mov eax, {CLONE}",
        "call pico_syscall",
        // Where it failed, the seat is its owner's again with this.
        "mov [r15 + {THREAD}], eax",
        "lea rdi, [r15 + {THREAD}]",
        "mov esi, {WAKE}",
        "mov edx, 1",
        "mov eax, {FUTEX}",
        "call pico_syscall",
        "mov dword ptr [r14 + {BUSY}], 0",
        "lea rdi, [r14 + {BUSY}]",
        "mov esi, {WAKE}",
        "mov edx, 0x7fffffff",
        "mov eax, {FUTEX}",
        "call pico_syscall",
        "jmp 5b",
        "6: mov rsp, gs:[{BETWEEN}]",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
        "ret",
        "8: xor edi, edi",
        "mov eax, {EXIT}",
        "call pico_syscall",
        "jmp 8b",
        WORD = const offset_of!(Seat, word), RUN = const RUN, MAKE = const MAKE, END = const END,
        ORDER = const offset_of!(Seat, order), FLAGS = const offset_of!(Seat, flags),
        BOTTOM = const TOP - 16, DESCRIPTOR = const offset_of!(Seat, descriptor),
        THREAD = const offset_of!(Seat, thread), BUSY = const offset_of!(Seat, busy),
        BETWEEN = const offset_of!(Local, between),
        CLONE = const linux::__NR_clone, WAKE = const linux::FUTEX_WAKE, FUTEX = const linux::__NR_futex,
        EXIT = const linux::__NR_exit_group,
    )
}

/// A CPU's new thread, which may be its process's first; its seat is on the stack.
#[unsafe(naked)]
pub unsafe extern "C" fn cpu_entry() -> ! {
    naked_asm!(
        "pop r14",
        "mov rax, [r14 + {LOCAL}]",
        "wrgsbase rax",
        // The signal stack it begins with may be that of a thread it is a copy of.
        "lea rdi, [r14 + {SIGNALS}]",
        "xor esi, esi",
        "mov eax, {SIGALTSTACK}",
        "call pico_syscall",
        "test eax, eax",
        "jnz 9f",
        "cmp dword ptr [r14 + {EMPTIES}], 0",
        "je 2f",
        "xor edi, edi",
        "mov esi, {TABLE}",
        "mov eax, {MUNMAP}",
        "call pico_syscall",
        "test eax, eax",
        "jnz 9f",
        "mov edi, {TABLE_END}",
        "movabs rsi, {REST}",
        "mov eax, {MUNMAP}",
        "call pico_syscall",
        "test eax, eax",
        "jnz 9f",
        "2: mov dword ptr [r14 + {READY}], 1",
        "lea rdi, [r14 + {READY}]",
        "mov esi, {WAKE}",
        "mov edx, 1",
        "mov eax, {FUTEX}",
        "call pico_syscall",
        "jmp {sleep}",
        "9: mov edi, 125",
        "mov eax, {EXIT}",
        "call pico_syscall",
        "jmp 9b",
        LOCAL = const offset_of!(Seat, local), SIGNALS = const offset_of!(Seat, signals),
        SIGALTSTACK = const linux::__NR_sigaltstack, READY = const offset_of!(Seat, ready),
        EMPTIES = const offset_of!(Seat, empties), TABLE = const GATE_TABLE, TABLE_END = const GATE_TABLE_END,
        REST = const USER_END - GATE_TABLE_END, MUNMAP = const linux::__NR_munmap,
        WAKE = const linux::FUTEX_WAKE, FUTEX = const linux::__NR_futex, EXIT = const linux::__NR_exit_group,
        sleep = sym sleep,
    )
}

/// A thread that ends its process when the island's first one has ended; its seat is on the stack.
#[unsafe(naked)]
pub unsafe extern "C" fn sentry_entry() -> ! {
    naked_asm!(
        "pop r14",
        "2: mov edi, {FIRST}",
        "lea rsi, [r14 + {EVENT}]",
        "mov edx, 1",
        "xor r10d, r10d",
        "xor r8d, r8d",
        "xor r9d, r9d",
        "mov eax, {WAIT}",
        "call pico_syscall",
        "cmp eax, 1",
        "jne 2b",
        "mov edi, 1",
        "mov eax, {EXIT}",
        "call pico_syscall",
        "jmp 2b",
        FIRST = const descriptor::FIRST, EVENT = const offset_of!(Seat, event),
        WAIT = const linux::__NR_epoll_pwait2, EXIT = const linux::__NR_exit_group,
    )
}
