//! What ring 3 makes of the traps that stubs bring: their registers are saved, and [`judge`] decides.
//!
//! None of these nests in itself: the controller delivers no further interrupt until the last is
//! acknowledged, which happens when the library OS looks what there is (`controller::acknowledge`), and
//! handlers neither fault nor raise exceptions. An interrupt may come in a page fault's handler, and then the
//! application that faulted does not go on before the library OS has looked ([`reconsider`]).

use core::mem::offset_of;
use core::sync::atomic::Ordering::*;

use abi::address::USER_END;
use entry::{Place, user_memory};
use machine::{Exception, Registers};

use super::block::{Block, Frame, Upcall};
use super::stub::{self, text, vector};
use super::{ring, sleep};
use crate::memory::fault::Failure;
use crate::memory::shortage;
use crate::vm;

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

const DEBUG: u32 = 1;
const INVALID_OPCODE: u32 = 6;
const PROTECTION: u32 = 13;
/// The software interrupt of 32-bit Linux.
const LINUX_32: u8 = 0x80;

const PAGE_FAULT: u64 = Upcall::PageFault as u64;
const INTERRUPT: u64 = Upcall::Interrupt as u64;
const EXCEPTION: u64 = Upcall::Exception as u64;
const CALL: u64 = Upcall::Call as u64;

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
pub extern "C" fn judge(saved: &mut Saved) {
    let block = super::current();
    // SAFETY: the frame lies on this CPU's interrupt stack, or on this upcall's.
    let frame = unsafe { &mut *saved.frame };
    match saved.upcall {
        PAGE_FAULT => page_fault(block, saved, frame),
        INTERRUPT => interrupt(block, saved, frame),
        EXCEPTION => exception(block, saved, frame),
        CALL => call(block, saved, frame),
        _ => broken(block, saved, frame),
    }
}

/// A kick has come before an upcall returns. Where a page fault returns to an application, the kick has to be
/// heeded first: the application may go on for ever, and until then no other interrupt comes. Returns where there
/// is something else to go on with, which looks for kicks itself.
pub extern "C" fn reconsider(saved: &Saved) {
    if saved.upcall == PAGE_FAULT {
        interrupt_return(super::current(), saved);
    }
}

/// Ends the application's run, if a page fault's upcall was about to go on with it.
fn interrupt_return(block: &Block, saved: &Saved) {
    // SAFETY: the frame of this upcall, in the block.
    let rip = unsafe { (*saved.frame).rip };
    if let Place::Application(rip) = entry::place(&block.head, text(), rip) {
        saved.give_up(block, rip, entry::INTERRUPT);
    }
}

fn page_fault(block: &Block, saved: &Saved, frame: &mut Frame) {
    let (address, error) = (block.address.load(Relaxed), block.error.load(Relaxed));
    let place = entry::place(&block.head, text(), frame.rip);
    let resolved = match place {
        Place::Library | Place::Exit => broken(block, saved, frame),
        Place::Application(_) if shortage::is_there() => Err(Failure::NoMemory),
        Place::Application(_) => crate::memory::resolve(address, error),
        Place::Copy => {
            // It goes on, with what is kept back; but somebody should end before that is used up.
            if shortage::is_there() {
                shortage::note();
            }
            crate::memory::resolve(address, error)
        }
    };
    block.faulting.store(false, Relaxed);
    let beyond_file = match (resolved, place) {
        (Ok(missing), _) => return settled(block, address, frame.rip, missing),
        (Err(Failure::NoMemory), Place::Application(rip)) => {
            shortage::note();
            saved.give_up(block, rip, entry::INTERRUPT)
        }
        (Err(_), Place::Copy) => {
            frame.rip = user_memory::fault();
            return;
        }
        (Err(failure), _) => matches!(failure, Failure::Beyond),
    };
    let Place::Application(rip) = place else { return };
    if vm::is_virtual_call(address, rip) {
        block.head.patchable.store(false, Relaxed);
        saved.give_up(block, rip, entry::TRAPPED);
    }
    let exception = Exception { vector: 14, error: error as u32, address, beyond_file };
    // SAFETY: this CPU's own cell, and its library OS is not running.
    unsafe { block.head.keep(exception) };
    saved.give_up(block, rip, entry::EXCEPTION)
}

/// A page fault is over. One for which nothing was missing is over as well, as a rule: another CPU was faster, or
/// this one remembered what does not hold any more. But not if it comes again and again.
fn settled(block: &Block, address: u64, rip: u64, missing: bool) {
    const MOST: u64 = 10_000;
    let place = if missing { 0 } else { address ^ rip.rotate_left(32) };
    let again = block.vain_fault.swap(place, Relaxed) == place && !missing;
    let count = if again { block.vain_faults.load(Relaxed) + 1 } else { 0 };
    block.vain_faults.store(count, Relaxed);
    if again {
        ring::forget_page(address & !(machine::PAGE - 1));
    }
    if count == MOST {
        vm::broken(format_args!("the processor faults at {rip:#x} for ever, though {address:#x} is there"));
    }
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
        if let Some(first) = stub::in_call(frame.rip) {
            let rsp = if first { frame.rsp } else { block.head.user_stack.load(Relaxed) };
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
            block.head.steps_out.store(false, Relaxed);
            frame.rip = entry::abort();
        }
        Place::Library if stub::is_leaving(frame.rip) => {
            // What it has saved is there until it is used for another fault, wherever in its return it is.
            let end = block.upcall_stack(Upcall::PageFault);
            let start = end - size_of::<Saved>() as u64;
            // SAFETY: the upcall's own stack, whose first words are these; they are plain numbers.
            let returning = unsafe { &*(start as *const Saved) };
            if (start..end).contains(&frame.rsp) || frame.rsp == returning.frame as u64 {
                interrupt_return(block, returning);
            }
        }
        Place::Library => frame.rip = sleep::skip(frame.rip).unwrap_or(frame.rip),
        Place::Copy => {}
    }
}

fn exception(block: &Block, saved: &mut Saved, frame: &mut Frame) {
    let (vector, error) = (block.vector.load(Relaxed) as u32, block.error.load(Relaxed));
    block.excepted.store(false, Relaxed);
    let rip = match entry::place(&block.head, text(), frame.rip) {
        Place::Application(rip) => rip,
        // A program that steps itself: the trap flag was loaded, or not yet cleared. The step that ends at
        // its next instruction is ours as well.
        Place::Exit if vector == DEBUG => return block.head.steps_out.store(true, Relaxed),
        _ if vector == DEBUG => return,
        Place::Copy => {
            frame.rip = user_memory::fault();
            return;
        }
        _ => broken(block, saved, frame),
    };
    if vector == DEBUG && block.head.steps_out.swap(false, Relaxed) {
        return;
    }
    let (vector, error) = match software_interrupt(vector, rip) {
        Some(LINUX_32) => {
            // It has other numbers and arguments: no call at all.
            saved.rax = u64::MAX;
            block.head.patchable.store(false, Relaxed);
            saved.give_up(block, rip + 2, entry::TRAPPED);
        }
        Some(number) => (PROTECTION, u64::from(number) << 3 | 2),
        None => (vector, error),
    };
    if vector == INVALID_OPCODE && entry::stub::is_patched_call(rip) {
        // A jump to the call in the middle of a patched site: what stood there does the same.
        block.head.patchable.store(false, Relaxed);
        saved.give_up(block, rip + 2, entry::TRAPPED);
    }
    let error = if has_error(vector) { error as u32 } else { 0 };
    let exception = Exception { vector: vector as u8, error, address: 0, beyond_file: false };
    // SAFETY: this CPU's own cell, and its library OS is not running.
    unsafe { block.head.keep(exception) };
    saved.give_up(block, rip, entry::EXCEPTION)
}

/// The number in an `int` instruction at this address, if that is what the exception is about: the table has no
/// such gates, and emulators of ring 0 do not know the instruction.
fn software_interrupt(vector: u32, rip: u64) -> Option<u8> {
    if !matches!(vector, INVALID_OPCODE | PROTECTION) {
        return None;
    }
    let mut bytes = [0; 2];
    user_memory::copy_in(USER_END, rip, &mut bytes).ok()?;
    (bytes[0] == 0xcd).then_some(bytes[1])
}

const fn has_error(vector: u32) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30)
}

fn call(block: &Block, saved: &Saved, frame: &mut Frame) {
    if block.head.inside.load(Relaxed) == 0 {
        broken(block, saved, frame);
    }
    block.head.patchable.store(true, Relaxed);
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
