//! The stubs in ring 0, and the table that leads to them.
//!
//! A stub has a few instructions and goes on in ring 3 (`trap.rs`), natively, whatever the hypervisor makes
//! of ring 0. Interrupts stay enabled all the time: there is no way to change that from ring 3. Page faults,
//! interrupts and exceptions have stacks of their own in both rings.
//!
//! Some hypervisors, when disturbed, deliver the same trap again right before the first instruction in ring
//! 3. So a stub takes the frame off its stack at once, and ignores what comes while that is in use; but an
//! interrupt might be another one then, since acknowledgements of flushes may be repeated as well.
//!
//! `int3` from the library OS is the door to ring 0 (`ring.rs`); from elsewhere it is a breakpoint.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering::*;

use super::block::{Block, Upcall, ist};
use super::trap;

/// Interrupt vectors: the timer, kicks and devices are one priority class, so that none interrupts
/// another; flushes of translations are above, and are done in ring 0 alone.
pub mod vector {
    pub const FIRST: u8 = 0x50;
    pub const TIMER: u8 = 0x50;
    pub const KICK: u8 = 0x51;
    pub const DEVICE: u8 = 0x52;
    pub const SERIAL: u8 = 0x53;
    pub const LAST: u8 = 0x5f;
    pub const FLUSH: u8 = 0x60;
    pub const SPURIOUS: u8 = 0xff;
}

const GATES: usize = 256;
pub const TABLE_LIMIT: u16 = (GATES * 16 - 1) as u16;

/// The interrupt descriptor table of all CPUs.
#[repr(C, align(16))]
pub struct Table(core::cell::UnsafeCell<[[u64; 2]; GATES]>);

// SAFETY: written by `install` alone, before there is a second CPU.
unsafe impl Sync for Table {}

pub static TABLE: Table = Table(core::cell::UnsafeCell::new([[0; 2]; GATES]));

unsafe extern "C" {
    /// Where SYSCALL goes.
    pub fn vm_stub_call();
    fn vm_stub_page_fault();
    fn vm_stub_service();
    fn vm_stub_exceptions();
    fn vm_stub_interrupts();
    fn vm_stub_flush();
    fn vm_stub_return();
    fn vm_upcall_page_fault();
    fn vm_upcall_interrupt();
    fn vm_upcall_exception();
    fn vm_upcall_call();
    fn vm_upcall_leave();
    fn vm_upcall_left();
    fn vm_text_start();
    fn vm_text_end();
}

/// Bytes between stubs of a row.
const STRIDE: u64 = 32;

/// Fills the table.
pub fn install() {
    let set = |vector: u8, stub: u64, stack: u8, ring: u64| {
        let gate = [
            stub & 0xffff
                | 8 << 16
                | u64::from(stack) << 32
                | (0x8e | ring << 5) << 40
                | (stub >> 16 & 0xffff) << 48,
            stub >> 32,
        ];
        // SAFETY: the first CPU is alone, and no interrupt comes yet.
        unsafe { (*TABLE.0.get())[vector as usize] = gate }
    };
    for number in 0..32 {
        let stack = if matches!(number, 2 | 8 | 18) { ist::FATAL } else { ist::EXCEPTION };
        let ring = if number == 4 { 3 } else { 0 };
        set(number, vm_stub_exceptions as *const () as u64 + u64::from(number) * STRIDE, stack, ring);
    }
    // Non-maskable interrupts are none of ours.
    set(2, vm_stub_return as *const () as u64, ist::FATAL, 0);
    set(3, vm_stub_service as *const () as u64, ist::SERVICE, 3);
    set(14, vm_stub_page_fault as *const () as u64, ist::PAGE_FAULT, 0);
    for number in vector::FIRST..=vector::LAST {
        let offset = u64::from(number - vector::FIRST) * STRIDE;
        set(number, vm_stub_interrupts as *const () as u64 + offset, ist::INTERRUPT, 0);
    }
    set(vector::FLUSH, vm_stub_flush as *const () as u64, ist::FLUSH, 0);
    set(vector::SPURIOUS, vm_stub_return as *const () as u64, ist::FLUSH, 0);
}

/// Tells a CPU's stubs where to go on, on these stacks.
pub fn connect(block: &Block, stacks: [u64; super::block::UPCALLS]) {
    let entries = [vm_upcall_page_fault, vm_upcall_interrupt, vm_upcall_exception, vm_upcall_call];
    for (number, (entry, stack)) in entries.into_iter().zip(stacks).enumerate() {
        // SAFETY: the CPU's own cell, and no trap uses it before this is done.
        let frame = unsafe { &mut (*block.upcalls.get())[number] };
        frame.rip = entry as *const () as u64;
        frame.rsp = stack;
        block.upcall_frames[number].store(frame, Release);
    }
}

/// Whether this is an address in the stub where SYSCALL goes, and whether it is its first.
pub fn in_call(rip: u64) -> Option<bool> {
    let (start, end) = (vm_stub_call as *const () as u64, vm_stub_page_fault as *const () as u64);
    (start..end).contains(&rip).then_some(rip == start)
}

/// Whether this is an address at which an upcall returns, past its last look at kicks.
pub fn is_leaving(rip: u64) -> bool {
    (vm_upcall_leave as *const () as u64..vm_upcall_left as *const () as u64).contains(&rip)
}

/// The image's code.
pub fn text() -> core::ops::Range<u64> {
    vm_text_start as *const () as u64..vm_text_end as *const () as u64
}

const fn upcall(which: Upcall) -> usize {
    offset_of!(Block, upcall_frames) + which as usize * 8
}

global_asm!(
    r#"
.pushsection .text.gate, "ax", @progbits
// ---- Ring 0. GS is the block: ring 3 does not change it.
.p2align 4
vm_stub_call:
    mov gs:[{USER_STACK}], rsp
    mov rsp, gs:[{TO_CALL}]
    iretq
.macro vm_take_frame at
    .irp offset, 0, 8, 16, 24, 32
    pop qword ptr gs:[\at + \offset]
    .endr
.endm
.p2align 4
vm_stub_page_fault:
    cmp byte ptr gs:[{FAULTING}], 0
    jne 2f
    mov byte ptr gs:[{FAULTING}], 1
    push rax
    mov rax, cr2
    mov gs:[{ADDRESS}], rax
    pop rax
    pop qword ptr gs:[{ERROR}]
    vm_take_frame {PAGE_FAULT_FRAME}
    mov rsp, gs:[{TO_PAGE_FAULT}]
    iretq
    // The same again, or a fault of the handler's.
2:  push rax
    mov rax, gs:[{TO_PAGE_FAULT}]
    mov rax, [rax]
    cmp rax, [rsp + 16]
    pop rax
    lea rsp, [rsp + 8]
    je vm_stub_return
    mov dword ptr gs:[{VECTOR}], 8
    vm_take_frame {EXCEPTION_FRAME}
    mov rsp, gs:[{TO_EXCEPTION}]
    iretq
.p2align 4
vm_stub_service:
    // The library OS's addresses begin with 7e00; anything else is a program's breakpoint.
    cmp dword ptr [rsp + 4], 0x7e00
    jne 2f
    jmp r11
2:  cmp byte ptr gs:[{EXCEPTED}], 0
    jne vm_stub_return
    mov byte ptr gs:[{EXCEPTED}], 1
    mov dword ptr gs:[{VECTOR}], 3
    vm_take_frame {EXCEPTION_FRAME}
    mov rsp, gs:[{TO_EXCEPTION}]
    iretq
.p2align 5
vm_stub_exceptions:
.set vm_vector, 0
.rept 32
    .p2align 5
    .if (vm_vector == 8) || ((vm_vector >= 10) && (vm_vector <= 14)) || (vm_vector == 17) || (vm_vector == 21) || (vm_vector == 29) || (vm_vector == 30)
    .else
    push 0
    .endif
    push vm_vector
    jmp vm_stub_exception
    .set vm_vector, vm_vector + 1
.endr
.p2align 4
vm_stub_exception:
    cmp byte ptr gs:[{EXCEPTED}], 0
    lea rsp, [rsp + 16]
    jne vm_stub_return
    lea rsp, [rsp - 16]
    mov byte ptr gs:[{EXCEPTED}], 1
    pop qword ptr gs:[{VECTOR}]
    pop qword ptr gs:[{ERROR}]
    vm_take_frame {EXCEPTION_FRAME}
    mov rsp, gs:[{TO_EXCEPTION}]
    iretq
.p2align 5
vm_stub_interrupts:
.set vm_vector, {FIRST_VECTOR}
.rept {INTERRUPTS}
    .p2align 5
    cmp byte ptr gs:[{INTERRUPTED}], 0
    jne vm_stub_missed
    mov byte ptr gs:[{INTERRUPTED}], vm_vector
    jmp vm_stub_interrupt
    .set vm_vector, vm_vector + 1
.endr
.p2align 4
vm_stub_interrupt:
    vm_take_frame {INTERRUPT_FRAME}
    mov rsp, gs:[{TO_INTERRUPT}]
    iretq
    // The same again, mostly. But it may be another, and this was all that is heard of it: so look around, and
    // let the timer be set anew.
.p2align 4
vm_stub_missed:
    mov byte ptr gs:[{MISSED}], 1
    mov dword ptr gs:[{KICKED}], 1
    mov qword ptr gs:[{ALARM}], 0
    iretq
.p2align 4
vm_stub_flush:
    // Counted first: whoever has seen the count before it changed tables waits for a reload that comes after.
    lock inc dword ptr gs:[{FLUSHES}]
    push rax
    mov rax, cr3
    mov cr3, rax
    movabs rax, {CONTROLLER} + 0xb0
    mov dword ptr [rax], 0
    pop rax
vm_stub_return:
    iretq

// ---- Ring 3: all registers but RSP are the interrupted place's.
.p2align 4
vm_upcall_page_fault:
    push rax
    rdgsbase rax
    lea rax, [rax + {PAGE_FAULT_FRAME}]
    xchg rax, [rsp]
    push rax
    push rbx
    mov ebx, {PAGE_FAULT}
    jmp vm_upcall
.p2align 4
vm_upcall_interrupt:
    push rax
    rdgsbase rax
    lea rax, [rax + {INTERRUPT_FRAME}]
    xchg rax, [rsp]
    push rax
    push rbx
    mov ebx, {INTERRUPT}
    jmp vm_upcall
.p2align 4
vm_upcall_exception:
    push rax
    rdgsbase rax
    lea rax, [rax + {EXCEPTION_FRAME}]
    xchg rax, [rsp]
    push rax
    push rbx
    mov ebx, {EXCEPTION}
    jmp vm_upcall
.p2align 4
vm_upcall_call:
    // RCX and R11 are where the program goes on, and its flags.
    push {USER_DATA}
    push qword ptr gs:[{USER_STACK}]
    push r11
    push {USER_CODE}
    push rcx
    push rsp
    push rax
    push rbx
    mov ebx, {CALL}
vm_upcall:
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    push rbx
    sub rsp, 264
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movups [rsp + 16 * \n], xmm\n
    .endr
    stmxcsr [rsp + 256]
    ldmxcsr gs:[{DEFAULT_MXCSR}]
    cld
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call {JUDGE}
    mov rsp, rbp
    // From here on an interrupt knows by the address that it has to look at what is returned to (`trap.rs`).
vm_upcall_leave:
    cmp dword ptr gs:[{KICKED}], 0
    jne 3f
2:  ldmxcsr [rsp + 256]
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movups xmm\n, [rsp + 16 * \n]
    .endr
    add rsp, 272
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    pop rsp
    iretq
vm_upcall_left:
3:  mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call {RECONSIDER}
    mov rsp, rbp
    jmp 2b
.popsection
"#,
    USER_STACK = const offset_of!(Block, head.user_stack),
    DEFAULT_MXCSR = const offset_of!(Block, head.default_mxcsr),
    TO_CALL = const upcall(Upcall::Call),
    TO_PAGE_FAULT = const upcall(Upcall::PageFault),
    TO_EXCEPTION = const upcall(Upcall::Exception),
    TO_INTERRUPT = const upcall(Upcall::Interrupt),
    ADDRESS = const offset_of!(Block, address),
    VECTOR = const offset_of!(Block, vector),
    ERROR = const offset_of!(Block, error),
    FAULTING = const offset_of!(Block, faulting),
    EXCEPTED = const offset_of!(Block, excepted),
    INTERRUPTED = const offset_of!(Block, interrupted),
    KICKED = const offset_of!(Block, head.kicked),
    ALARM = const offset_of!(Block, alarm_ns),
    MISSED = const offset_of!(Block, missed),
    FLUSHES = const offset_of!(Block, flushes),
    CONTROLLER = const crate::memory::layout::CONTROLLER,
    FIRST_VECTOR = const vector::FIRST,
    INTERRUPTS = const vector::LAST - vector::FIRST + 1,
    PAGE_FAULT_FRAME = const offset_of!(Block, page_fault_frame),
    INTERRUPT_FRAME = const offset_of!(Block, interrupt_frame),
    EXCEPTION_FRAME = const offset_of!(Block, exception_frame),
    PAGE_FAULT = const Upcall::PageFault as u64,
    INTERRUPT = const Upcall::Interrupt as u64,
    EXCEPTION = const Upcall::Exception as u64,
    CALL = const Upcall::Call as u64,
    USER_DATA = const super::block::USER_DATA,
    USER_CODE = const super::block::USER_CODE,
    JUDGE = sym trap::judge,
    RECONSIDER = sym trap::reconsider,
);
