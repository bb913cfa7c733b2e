//! What each CPU has of its own: what GS points to, and what the processor reads by itself.
//!
//! The first CPU's block is in the image, because it is needed before there is memory to take; the others'
//! are made when they start. A block never moves and never goes.
//!
//! Upcalls: a stub in ring 0 puts the frame of what was interrupted here, where ring 3 can read and change
//! it and return by it, then loads one of `upcalls` as the frame to return by itself, and is in ring 3.

use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64};

use entry::Head;
use runtime::cache::Cache;

use crate::cpu::stub;
use crate::memory::active::Active;

/// The most virtual CPUs a guest may have.
pub const CPUS_MAX: usize = 64;

/// What an interrupted place returns by: five words, as IRETQ pops them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Why a stub came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Upcall {
    PageFault,
    Interrupt,
    Exception,
    Call,
}

pub const UPCALLS: usize = 4;

/// Words of an interrupt stack: a stub pushes at most two on the processor's six.
const STACK: usize = 64;

/// A stack that the processor switches to (SDM vol. 3, 7.14.5).
#[repr(C, align(16))]
pub struct InterruptStack(UnsafeCell<[u64; STACK]>);

impl InterruptStack {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; STACK]))
    }

    /// The frame that the processor has pushed at the top.
    pub fn frame(&self) -> *mut Frame {
        // SAFETY: within the array.
        unsafe { self.0.get().cast::<u64>().add(STACK - 5).cast() }
    }
}

/// Interrupt stacks, by their number in the task segment.
#[repr(C)]
pub struct Stacks {
    pub page_fault: InterruptStack,
    pub interrupt: InterruptStack,
    pub exception: InterruptStack,
    pub service: InterruptStack,
    pub fatal: InterruptStack,
    pub flush: InterruptStack,
}

/// Numbers of [`Stacks`] as gates name them.
pub mod ist {
    pub const PAGE_FAULT: u8 = 1;
    pub const INTERRUPT: u8 = 2;
    pub const EXCEPTION: u8 = 3;
    pub const SERVICE: u8 = 4;
    pub const FATAL: u8 = 5;
    pub const FLUSH: u8 = 6;
}

/// A pseudo-descriptor of a table.
#[repr(C, packed)]
pub struct Pointer {
    limit: u16,
    base: *const u8,
}

/// The task segment. Its map of ports lies beyond it: none is open to ring 3, where applications are.
#[repr(C, packed)]
pub struct Task {
    reserved: u32,
    stacks: [*const u8; 3],
    reserved_1: u64,
    interrupt_stacks: [*const u8; 7],
    reserved_2: [u16; 5],
    ports: u16,
}

/// One virtual CPU.
#[repr(C, align(4096))]
pub struct Block {
    /// What the gate knows.
    pub head: Head,
    /// The frames that upcalls return by, and what points to them: stubs cannot compute addresses.
    pub upcall_frames: [AtomicPtr<Frame>; UPCALLS],
    pub upcalls: UnsafeCell<[Frame; UPCALLS]>,
    /// Where stubs put the frames of what was interrupted.
    pub page_fault_frame: UnsafeCell<Frame>,
    pub interrupt_frame: UnsafeCell<Frame>,
    pub exception_frame: UnsafeCell<Frame>,
    /// Vector of the last exception, and its error code or a page fault's.
    pub vector: AtomicU64,
    pub error: AtomicU64,
    /// The vector of a delivered interrupt that waits to be acknowledged; zero: there is none.
    pub interrupted: AtomicU8,
    /// Another may have come meanwhile, whichever it was.
    pub missed: AtomicBool,
    /// An exception's frame is in use.
    pub excepted: AtomicBool,
    /// The address of the last page fault.
    pub address: AtomicU64,
    pub number: AtomicU32,
    /// The local interrupt controller's number for it.
    pub controller: AtomicU32,
    /// How it idles, and what its timer is set to: see `idle.rs` and `timer.rs`.
    pub idle: AtomicU32,
    pub alarm_ns: AtomicU64,
    pub deadline_ns: AtomicU64,
    /// Counts flushes of others' translations it has done, and the kicks that have arrived.
    pub flushes: AtomicU32,
    pub arrived: AtomicU32,
    pub started: AtomicU32,
    /// A page fault is being handled.
    pub faulting: AtomicBool,
    /// The last page fault for which nothing was missing, and how often it came again.
    pub vain_fault: AtomicU64,
    pub vain_faults: AtomicU64,
    /// The address space that is active.
    pub active: Active,
    /// Free memory of its own.
    pub cache: Cache,

    pub gdtr: Pointer,
    pub idtr: Pointer,
    pub gdt: [u64; 10],
    pub stacks: Stacks,
    /// For the few pushes before there is a stack.
    scratch: [u64; 16],
    pub scratch_end: u64,
    pub task: Task,
}

// SAFETY: the cells are accessed only by the CPU itself, with nothing interrupting that touches them; the
// processor's own structures are written before the CPU starts. The rest is atomic.
unsafe impl Sync for Block {}
// SAFETY: as above; the pointers are to the block itself and to static tables.
unsafe impl Send for Block {}

/// The first CPU's block.
pub static FIRST: Block = Block::new(&raw const FIRST);

/// Selectors: kernel code 0x08, kernel data 0x10, user data 0x2b, user code 0x33, task 0x40 (whose address
/// is filled in by whoever makes the block).
const GDT: [u64; 10] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0,
    0,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0,
    0x0000_8900_0000_0000 | TASK_LIMIT,
    0,
];
const TASK_LIMIT: u64 = size_of::<Task>() as u64 - 1;

pub const USER_CODE: u64 = 0x33;
pub const USER_DATA: u64 = 0x2b;
const ENABLED: u64 = 0x202;

impl Block {
    /// Where an upcall's stack ends.
    pub fn upcall_stack(&self, which: Upcall) -> u64 {
        // SAFETY: written before the CPU takes traps, and read by itself.
        unsafe { (*self.upcalls.get())[which as usize].rsp }
    }

    /// A block that will be at this address.
    pub const fn new(at: *const Self) -> Self {
        const fn part(at: *const Block, offset: usize) -> *const u8 {
            at.cast::<u8>().wrapping_add(offset)
        }
        const fn end(at: *const Block, number: u8) -> *const u8 {
            part(at, offset_of!(Block, stacks) + number as usize * size_of::<InterruptStack>())
        }
        const NONE: Frame = Frame { rip: 0, cs: USER_CODE, rflags: ENABLED, rsp: 0, ss: USER_DATA };
        Self {
            head: Head::new(),
            upcall_frames: [const { AtomicPtr::new(core::ptr::null_mut()) }; UPCALLS],
            upcalls: UnsafeCell::new([NONE; UPCALLS]),
            page_fault_frame: UnsafeCell::new(NONE),
            interrupt_frame: UnsafeCell::new(NONE),
            exception_frame: UnsafeCell::new(NONE),
            vector: AtomicU64::new(0),
            error: AtomicU64::new(0),
            interrupted: AtomicU8::new(0),
            missed: AtomicBool::new(false),
            excepted: AtomicBool::new(false),
            address: AtomicU64::new(0),
            number: AtomicU32::new(0),
            controller: AtomicU32::new(0),
            idle: AtomicU32::new(0),
            alarm_ns: AtomicU64::new(0),
            deadline_ns: AtomicU64::new(0),
            flushes: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            started: AtomicU32::new(0),
            faulting: AtomicBool::new(false),
            vain_fault: AtomicU64::new(0),
            vain_faults: AtomicU64::new(0),
            active: Active::new(),
            cache: Cache::new(),
            gdtr: Pointer { limit: 79, base: part(at, offset_of!(Block, gdt)) },
            idtr: Pointer { limit: stub::TABLE_LIMIT, base: (&raw const stub::TABLE).cast() },
            gdt: GDT,
            stacks: Stacks {
                page_fault: InterruptStack::new(),
                interrupt: InterruptStack::new(),
                exception: InterruptStack::new(),
                service: InterruptStack::new(),
                fatal: InterruptStack::new(),
                flush: InterruptStack::new(),
            },
            scratch: [0; 16],
            scratch_end: 0,
            task: Task {
                reserved: 0,
                stacks: [end(at, ist::FATAL); 3],
                reserved_1: 0,
                interrupt_stacks: [
                    end(at, ist::PAGE_FAULT),
                    end(at, ist::INTERRUPT),
                    end(at, ist::EXCEPTION),
                    end(at, ist::SERVICE),
                    end(at, ist::FATAL),
                    end(at, ist::FLUSH),
                    core::ptr::null(),
                ],
                reserved_2: [0; 5],
                ports: size_of::<Task>() as u16,
            },
        }
    }
}
