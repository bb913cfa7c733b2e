//! Starting the other CPUs: from real mode to ring 3 (SDM vol. 3, 10.4).
//!
//! A few instructions below 1 MiB lead from real mode to long mode with the tables of the start, then to
//! the image, where the CPU takes its own block and the tables in use. A CPU is started by its first kick:
//! most services are over, or wait, before they have use for a second one, whose start costs more than
//! half a millisecond and 200 KiB.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::*};

use abi::Code;
use machine::Cpu;
use spin::Mutex;

use super::block::{Block, CPUS_MAX, FIRST, UPCALLS};
use super::{clock, controller, stub};
use crate::boot;
use crate::code::EINVAL;
use crate::memory::{self, frame, map, spaces};

/// What a virtual CPU runs.
type Body = Arc<dyn Fn(Cpu) + Send + Sync>;

/// Where the way from real mode lies: a page of conventional memory.
const PAGE: u64 = 0x8000;
/// A CPU that does not answer within this time is not there.
const PATIENCE_NS: u64 = 200_000_000;

const INIT: u32 = 5 << 8;
const STARTUP: u32 = 6 << 8;

/// Bytes of a CPU's stacks: the library OS's own, and those of upcalls.
const STACK: u64 = 128 << 10;
const UPCALL_STACKS: [u64; UPCALLS] = [32 << 10, 8 << 10, 8 << 10, 8 << 10];

static BLOCKS: [AtomicPtr<Block>; CPUS_MAX] = [const { AtomicPtr::new(core::ptr::null_mut()) }; CPUS_MAX];
static BODIES: [Mutex<Option<Body>>; CPUS_MAX] = [const { Mutex::new(None) }; CPUS_MAX];
static STARTED: AtomicU32 = AtomicU32::new(0);

/// One CPU is started at a time: the page below 1 MiB is for one.
static STARTING: Mutex<()> = Mutex::new(());

/// The CPUs that run.
pub fn blocks() -> impl Iterator<Item = &'static Block> {
    // SAFETY: a block that is entered there lives for ever.
    BLOCKS.iter().filter_map(|block| unsafe { block.load(SeqCst).as_ref() })
}

/// The CPU with this number, if it runs.
pub fn running(cpu: Cpu) -> Option<&'static Block> {
    // SAFETY: as in `blocks`.
    unsafe { BLOCKS[cpu.0 as usize].load(Acquire).as_ref() }
}

/// A CPU that runs.
pub fn block(cpu: Cpu) -> &'static Block {
    running(cpu).expect("rule: the CPU runs")
}

/// Numbers a CPU and gives it its stacks; the end of its main one.
fn prepare(block: &'static Block, number: usize) -> Result<u64, memory::table::NoMemory> {
    let mut stacks = [0; UPCALLS];
    for (stack, length) in stacks.iter_mut().zip(UPCALL_STACKS) {
        *stack = map::stack(length)?;
    }
    stub::connect(block, stacks);
    block.number.store(number as u32, Relaxed);
    map::stack(STACK)
}

/// From here on others count on the CPU: to answer their kicks, and to forget translations when they say so.
/// One that does not run yet would have them wait for ever.
fn enter(block: &'static Block) {
    let number = block.number.load(Relaxed) as usize;
    spaces::begin(block);
    // Whoever holds CPUs up looks for them after it has said so, and they look for that after this.
    BLOCKS[number].store(&raw const *block as *mut Block, SeqCst);
}

/// Makes the CPU that has booted the first one, and goes on in `then` on a stack of its own.
pub fn first(then: extern "C" fn() -> !) -> ! {
    let Ok(stack) = prepare(&FIRST, 0) else { boot::fatal("there is no memory for stacks") };
    enter(&FIRST);
    // SAFETY: the stack is mapped and nobody's; nothing of the old one is used again.
    unsafe {
        asm!("mov rsp, {}", "xor ebp, ebp", "call {}", "ud2", in(reg) stack, in(reg) then, options(noreturn))
    }
}

/// What every CPU does first on its own stack.
pub fn settle(block: &Block) {
    let low: u32;
    // SAFETY: XSAVE was asked for at the start; XGETBV reads what has been enabled.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _, options(nomem, nostack)) };
    block.head.components.store(u64::from(low) & machine::EXTENDED_MASK, Relaxed);
    controller::begin(block);
}

unsafe extern "C" {
    static vm_real_mode: u8;
    static vm_real_mode_end: u8;
    static vm_real_mode_mail: u8;
    fn vm_second();
}

global_asm!(
    r#"
.pushsection .rodata, "a", @progbits
.code16
.balign 16
vm_real_mode:
    cli
    cld
    mov ax, cs
    mov ds, ax
    // LGDT with 32 bits of address, from the offset in this segment.
    .byte 0x66, 0x0f, 0x01, 0x16
    .short vm_real_mode_table - vm_real_mode
    vm_long_mode
    .byte 0x66, 0xea
    .long {PAGE} + vm_real_mode_long - vm_real_mode
    .short 8
.code64
vm_real_mode_long:
    // EBX: the mail, where the page is.
    .byte 0xbb
    .long {PAGE} + vm_real_mode_mail - vm_real_mode
    mov r15, [rbx]
    mov rsi, [rbx + 8]
    mov rdi, [rbx + 16]
    jmp qword ptr [rbx + 24]
.balign 8
vm_real_mode_table:
    .short 23
    .long vm_boot_gdt
.balign 8
vm_real_mode_mail:
    .quad 0, 0, 0, 0
vm_real_mode_end:
.popsection

.pushsection .text.gate, "ax", @progbits
vm_second:
    mov cr3, rsi
    vm_load_cpu
    xor ebp, ebp
    lea rax, [rdi - 8]
    push 0x2b
    push rax
    push 0x202
    push 0x33
    movabs rax, offset {BODY}
    push rax
    iretq
.popsection
"#,
    PAGE = const PAGE,
    BODY = sym body,
);

/// Has a CPU run `body` for ever, from its first kick on.
pub fn start(cpu: Cpu, body: Body) -> Result<(), Code> {
    let number = cpu.0 as usize;
    boot::processors().get(number).ok_or(EINVAL)?;
    *BODIES[number].lock() = Some(body);
    Ok(())
}

/// Starts a CPU that does not run yet. One that does not answer is not there, and is not asked again; nor is
/// one without memory for its stacks: others do its work.
pub fn awaken(cpu: Cpu) {
    let number = cpu.0 as usize;
    let _one = STARTING.lock();
    if running(cpu).is_some() || BODIES[number].lock().is_none() {
        return;
    }
    let Some(controller) = boot::processors().get(number).copied() else { return };
    // SAFETY: the page is conventional memory that nobody was given, and the code fits.
    let mail = unsafe {
        let (code, end) = (&raw const vm_real_mode, &raw const vm_real_mode_end);
        frame::direct(PAGE).copy_from_nonoverlapping(code, end.offset_from_unsigned(code));
        frame::direct(PAGE).add((&raw const vm_real_mode_mail).offset_from_unsigned(code)).cast::<u64>()
    };
    let block = Block::another();
    let Ok(stack) = prepare(block, number) else {
        drop(BODIES[number].lock().take());
        return;
    };
    let seen = STARTED.load(Acquire);
    // SAFETY: the mail is in the page, four words; nobody reads it before the CPU starts.
    unsafe {
        mail.write_volatile(&raw const *block as u64);
        mail.add(1).write_volatile(memory::root());
        mail.add(2).write_volatile(stack);
        mail.add(3).write_volatile(vm_second as *const () as u64);
    }
    controller::command(controller, INIT);
    controller::command(controller, STARTUP | (PAGE >> 12) as u32);
    let deadline_ns = clock::monotonic() + PATIENCE_NS;
    while STARTED.load(Acquire) == seen {
        if clock::monotonic() > deadline_ns {
            // If it comes late, it finds nothing to do.
            drop(BODIES[number].lock().take());
            return;
        }
        core::hint::spin_loop();
    }
}

extern "C" fn body() -> ! {
    let block = super::current();
    settle(block);
    let number = block.number.load(Relaxed) as usize;
    let Some(body) = BODIES[number].lock().take() else {
        loop {
            super::ring::halt();
        }
    };
    enter(block);
    // What was said to be forgotten before others knew of this CPU.
    // SAFETY: the tables that are in use.
    unsafe { super::ring::load_tables(block.active.root()) };
    STARTED.fetch_add(1, Release);
    body(Cpu(number as u16));
    crate::vm::broken(format_args!("virtual CPU {number} returned"))
}

impl Block {
    /// A block for another CPU, with its task segment entered.
    fn another() -> &'static Self {
        let mut block = Box::<Self>::new_uninit();
        let at = block.as_mut_ptr();
        // SAFETY: the block stays where it is; it is written whole, then its table's entry with the
        // computed address.
        unsafe {
            at.write(Self::new(at));
            let task = at as u64 + offset_of!(Self, task) as u64;
            (*at).gdt[8] |= (task & 0xff_ffff) << 16 | (task >> 24 & 0xff) << 56;
            (*at).gdt[9] = task >> 32;
            Box::leak(block.assume_init())
        }
    }
}
