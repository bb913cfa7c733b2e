//! Traps: the stubs in ring 0, and what ring 3 makes of what they bring.
//!
//! A stub has a few instructions and goes on in ring 3, where the interrupted registers are saved and
//! [`judge`] decides, natively, whatever the hypervisor makes of ring 0. Interrupts stay enabled all the
//! time: there is no way to change that from ring 3. Page faults, interrupts and exceptions have stacks of
//! their own in both rings, and none of them nests in itself: the controller delivers no further interrupt
//! until the last is acknowledged, which happens when the library OS looks what there is
//! (`controller::acknowledge`), and handlers neither fault nor raise exceptions.
//!
//! Some hypervisors, when disturbed, deliver the same trap again right before the first instruction in ring
//! 3. So a stub takes the frame off its stack at once, and ignores what comes while that is in use.
//!
//! `int3` from the library OS is the door to ring 0 (`ring.rs`); from elsewhere it is a breakpoint.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering::*;

use entry::{Place, user_memory};
use machine::{Exception, Registers};

use super::block::{Block, Frame, Upcall, ist};
use super::ring;
use crate::vm;

/// Interrupt vectors: the timer, kicks and devices are one priority class, so that none interrupts
/// another; flushes of translations are above, and are done in ring 0 alone.
pub mod vector {
    pub const FIRST: u8 = 0x50;
    pub const TIMER: u8 = 0x50;
    pub const KICK: u8 = 0x51;
    pub const DEVICE: u8 = 0x52;
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

/// The image's code.
pub fn text() -> core::ops::Range<u64> {
    vm_text_start as *const () as u64..vm_text_end as *const () as u64
}

/// What an upcall has saved of the interrupted place, in the order of its stack.
#[repr(C)]
pub struct Saved {
    vectors: [[u64; 2]; 16],
    mxcsr: u64,
    upcall: u64,
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    /// Where the frame lies that ends the interruption.
    pub frame: *mut Frame,
}

const _: () = assert!(offset_of!(Saved, frame) == 392 && size_of::<Saved>() == 400);

const PAGE_FAULT: u64 = Upcall::PageFault as u64;
const INTERRUPT: u64 = Upcall::Interrupt as u64;
const EXCEPTION: u64 = Upcall::Exception as u64;
const CALL: u64 = Upcall::Call as u64;

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
    jne vm_stub_return
    mov byte ptr gs:[{INTERRUPTED}], vm_vector
    jmp vm_stub_interrupt
    .set vm_vector, vm_vector + 1
.endr
.p2align 4
vm_stub_interrupt:
    vm_take_frame {INTERRUPT_FRAME}
    mov rsp, gs:[{TO_INTERRUPT}]
    iretq
.p2align 4
vm_stub_flush:
    push rax
    mov rax, cr3
    mov cr3, rax
    lock inc dword ptr gs:[{FLUSHES}]
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
    ldmxcsr [rsp + 256]
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
    FLUSHES = const offset_of!(Block, flushes),
    CONTROLLER = const crate::memory::layout::CONTROLLER,
    FIRST_VECTOR = const vector::FIRST,
    INTERRUPTS = const vector::LAST - vector::FIRST + 1,
    PAGE_FAULT_FRAME = const offset_of!(Block, page_fault_frame),
    INTERRUPT_FRAME = const offset_of!(Block, interrupt_frame),
    EXCEPTION_FRAME = const offset_of!(Block, exception_frame),
    PAGE_FAULT = const PAGE_FAULT,
    INTERRUPT = const INTERRUPT,
    EXCEPTION = const EXCEPTION,
    CALL = const CALL,
    USER_DATA = const super::block::USER_DATA,
    USER_CODE = const super::block::USER_CODE,
    JUDGE = sym judge,
);

impl Saved {
    /// Copies the interrupted registers to the context that runs on this CPU. Its upper vector registers
    /// and its thread pointer stay in the processor.
    fn save(&self, block: &Block, rip: u64) {
        // SAFETY: application code was running, so the context is the machine's and this CPU's; the frame
        // is this interruption's.
        let (context, frame) = unsafe { (&mut *block.head.context(), &*self.frame) };
        context.registers = Registers {
            rax: self.rax,
            rbx: self.rbx,
            rdi: self.rdi,
            rbp: self.rbp,
            rsi: self.rsi,
            r12: self.r12,
            rdx: self.rdx,
            r13: self.r13,
            r10: self.r10,
            r14: self.r14,
            r8: self.r8,
            r15: self.r15,
            r9: self.r9,
            rcx: self.rcx,
            r11: self.r11,
            rip,
            rflags: frame.rflags,
            rsp: frame.rsp,
            fs_base: context.registers.fs_base,
        };
        context.resume = 0;
        let area = &mut context.extended.0;
        area[24..28].copy_from_slice(&(self.mxcsr as u32).to_le_bytes());
        for (to, from) in area[160..416].chunks_exact_mut(8).zip(self.vectors.as_flattened()) {
            to.copy_from_slice(&from.to_le_bytes());
        }
    }
}

impl Saved {
    /// Ends the application's run with this code.
    fn give_up(&self, block: &Block, rip: u64, code: u64) -> ! {
        self.save(block, rip);
        if code == entry::TRAPPED {
            // What SYSCALL leaves in these two, however it was reached.
            // SAFETY: as in `save`.
            let registers = unsafe { &mut (*block.head.context()).registers };
            (registers.rcx, registers.r11) = (rip, registers.rflags);
        }
        // SAFETY: application code was running, entered by this CPU; this stack may be abandoned.
        unsafe { entry::finish(code) }
    }
}

/// Judges an interruption; if it returns, the interrupted place goes on by its frame.
extern "C" fn judge(saved: &mut Saved) {
    let block = super::current();
    // SAFETY: the frame lies on this CPU's interrupt stack, or on this upcall's.
    let frame = unsafe { &mut *saved.frame };
    match saved.upcall {
        PAGE_FAULT => page_fault(block, saved, frame),
        INTERRUPT => interrupt(block, saved, frame),
        EXCEPTION => exception(block, saved, frame),
        _ => call(block, saved, frame),
    }
}

fn page_fault(block: &Block, saved: &Saved, frame: &mut Frame) {
    let (address, error) = (block.address.load(Relaxed), block.error.load(Relaxed));
    let place = entry::place(&block.head, text(), frame.rip);
    let resolved = match place {
        Place::Library | Place::Exit => broken(block, saved, frame),
        Place::Application(_) | Place::Copy => crate::memory::resolve(address, error),
    };
    block.faulting.store(false, Relaxed);
    let beyond_file = match (resolved, place) {
        (Ok(()), _) => return,
        (Err(_), Place::Copy) => {
            frame.rip = user_memory::fault();
            return;
        }
        (Err(beyond_file), _) => beyond_file,
    };
    let Place::Application(rip) = place else { return };
    if vm::is_virtual_call(address, rip) {
        block.patchable.store(false, Relaxed);
        saved.give_up(block, rip, entry::TRAPPED);
    }
    let exception = Exception { vector: 14, error: error as u32, address, beyond_file };
    // SAFETY: this CPU's own cell, and its library OS is not running.
    unsafe { *block.exception.get() = exception };
    saved.give_up(block, rip, entry::EXCEPTION)
}

fn interrupt(block: &Block, saved: &Saved, frame: &mut Frame) {
    if block.interrupted.load(Relaxed) == vector::TIMER {
        block.alarm_ns.store(0, Relaxed);
    }
    block.head.kicked.store(1, SeqCst);
    block.arrived.fetch_add(1, SeqCst);
    if frame.cs & 3 == 0 {
        // Ring 3 cannot return to ring 0. If it ended a halt, the caller of the halt goes on instead; if a
        // system call was just beginning, it will begin again.
        let call = vm_stub_call as *const () as u64;
        if (call..vm_stub_page_fault as *const () as u64).contains(&frame.rip) {
            let rsp = if frame.rip == call { frame.rsp } else { block.head.user_stack.load(Relaxed) };
            (frame.rsp, frame.rflags) = (rsp, saved.r11);
            saved.give_up(block, saved.rcx - 2, entry::INTERRUPT);
        }
        if !ring::is_halt(frame.rip) {
            broken(block, saved, frame);
        }
        // SAFETY: the frame by which that service would have returned.
        *frame = unsafe { *block.stacks.service.frame() };
        return;
    }
    match entry::place(&block.head, text(), frame.rip) {
        Place::Application(rip) => saved.give_up(block, rip, entry::INTERRUPT),
        Place::Exit => {
            block.steps_out.store(false, Relaxed);
            frame.rip = entry::abort();
        }
        Place::Copy | Place::Library => {}
    }
}

fn exception(block: &Block, saved: &Saved, frame: &mut Frame) {
    const DEBUG: u32 = 1;
    const INVALID_OPCODE: u32 = 6;
    let (vector, error) = (block.vector.load(Relaxed) as u32, block.error.load(Relaxed));
    block.excepted.store(false, Relaxed);
    let rip = match entry::place(&block.head, text(), frame.rip) {
        Place::Application(rip) => rip,
        // A program that steps itself: the trap flag was loaded, or not yet cleared. The step that ends at
        // its next instruction is ours as well.
        Place::Exit if vector == DEBUG => return block.steps_out.store(true, Relaxed),
        _ if vector == DEBUG => return,
        Place::Copy => {
            frame.rip = user_memory::fault();
            return;
        }
        _ => broken(block, saved, frame),
    };
    if vector == DEBUG && block.steps_out.swap(false, Relaxed) {
        return;
    }
    if vector == INVALID_OPCODE && entry::stub::is_patched_call(rip) {
        // A jump to the call in the middle of a patched site: what stood there does the same.
        block.patchable.store(false, Relaxed);
        saved.give_up(block, rip + 2, entry::TRAPPED);
    }
    let error = if has_error(vector) { error as u32 } else { 0 };
    let exception = Exception { vector: vector as u8, error, address: 0, beyond_file: false };
    // SAFETY: this CPU's own cell, and its library OS is not running.
    unsafe { *block.exception.get() = exception };
    saved.give_up(block, rip, entry::EXCEPTION)
}

const fn has_error(vector: u32) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

fn call(block: &Block, saved: &Saved, frame: &mut Frame) {
    if block.head.inside.load(Relaxed) == 0 {
        broken(block, saved, frame);
    }
    block.patchable.store(true, Relaxed);
    saved.give_up(block, frame.rip, entry::TRAPPED)
}

/// Our own fault.
fn broken(block: &Block, saved: &Saved, frame: &Frame) -> ! {
    vm::broken(format_args!(
        "trap {} (vector {}) at {:#x} (address {:#x}, stack {:#x}, rax {:#x})",
        saved.upcall,
        block.vector.load(Relaxed),
        frame.rip,
        block.address.load(Relaxed),
        frame.rsp,
        saved.rax,
    ))
}
