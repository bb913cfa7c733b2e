//! Host signals: how traps of application code arrive, and how faults of our own are judged.
//!
//! Handlers run on the virtual CPU's signal stack with nothing masked. A trap of the application never
//! returns from its signal: the handler copies the frame into the context and lets `entry::enter` return
//! on the kernel stack, which abandons the signal stack; the next signal finds it empty. What
//! interrupted the library OS itself is either a kick (which has left its mark already), a fault of a
//! copy routine (which has a fix-up), or our bug.

use core::arch::{asm, naked_asm};
use core::sync::atomic::Ordering::*;

use entry::{Place, stub, user_memory};
use linux_raw_sys::general as linux;
use machine::Exception;

use crate::frame::{Frame, Information};
use crate::local::{LOCALS, Local};
use crate::{hold, host, layout};

/// The signal that takes a virtual CPU back from application code (SIGURG). Nothing else on the host
/// sends it to a process that asked for no out-of-band data.
pub const KICK: u32 = abi::pico::KICK;

/// Sets the handlers up, for the whole process.
pub fn install() {
    for signal in
        [linux::SIGSYS, linux::SIGSEGV, linux::SIGBUS, linux::SIGILL, linux::SIGFPE, linux::SIGTRAP, KICK]
    {
        action(signal, entered as *const () as u64);
    }
    // The monitor forwards what the terminal sends; nobody here dies of it, nor of a broken pipe.
    for signal in [
        linux::SIGPIPE,
        linux::SIGINT,
        linux::SIGQUIT,
        linux::SIGHUP,
        linux::SIGTSTP,
        linux::SIGTTIN,
        linux::SIGTTOU,
        linux::SIGWINCH,
        // Whoever ends leaves nothing to be waited for.
        linux::SIGCHLD,
    ] {
        action(signal, 1);
    }
    let none = 0u64;
    // SAFETY: the kernel reads eight bytes of the local.
    let _ = unsafe {
        host::call(linux::__NR_rt_sigprocmask, [linux::SIG_SETMASK as u64, &raw const none as u64, 0, 8])
    };
}

fn action(signal: u32, handler: u64) {
    let flags = linux::SA_SIGINFO | linux::SA_ONSTACK | linux::SA_NODEFER | linux::SA_RESTORER;
    let action = [handler, flags as u64, host::restorer as *const () as u64, 0];
    // SAFETY: the kernel reads `struct sigaction` (handler, flags, restorer, mask) from the local; the
    // handler and the restorer live as long as the process.
    let result =
        unsafe { host::call(linux::__NR_rt_sigaction, [signal as u64, action.as_ptr() as u64, 0, 8]) };
    if result.is_err() {
        crate::fatal("a signal handler was refused");
    }
}

/// Gives the calling thread its signal stack.
pub fn set_stack(cpu: usize) {
    let stack = layout::signal_stack(cpu);
    // SAFETY: the kernel reads `stack_t`; the range is mapped by `start.rs` and used for nothing else.
    let result = unsafe { host::call(linux::__NR_sigaltstack, [stack.as_ptr() as u64, 0]) };
    if result.is_err() {
        crate::fatal("a signal stack was refused");
    }
}

/// The virtual CPU whose signal stack this frame lies on, if it is one.
fn owner(frame: *const Frame) -> Option<&'static Local> {
    let offset = (frame as u64).checked_sub(layout::SIGNAL_STACKS)?;
    LOCALS.get((offset / layout::SIGNAL_STACK) as usize)
}

/// The image's code.
fn text() -> core::ops::Range<u64> {
    crate::start::pico_text_start as *const () as u64..crate::start::pico_text_end as *const () as u64
}

/// Where the kernel begins a handler. It leaves the application's alignment check on (RFLAGS.AC), under which our code
/// would trap without end.
#[unsafe(naked)]
unsafe extern "C" fn entered(signal: u32, information: *const Information, frame: *mut Frame) {
    naked_asm!("pushfq", "and dword ptr [rsp], {others}", "popfq", "jmp {on_signal}",
        others = const !ALIGNMENT_CHECK, on_signal = sym on_signal)
}

/// RFLAGS.AC.
const ALIGNMENT_CHECK: i32 = 1 << 18;

unsafe extern "C" fn on_signal(signal: u32, information: *const Information, frame: *mut Frame) {
    // SAFETY: the kernel has just put both on this stack, and nobody else knows of them.
    let (information, frame) = unsafe { (&*information, &mut *frame) };
    let Some(local) = owner(frame) else {
        // A helper thread: it runs no application.
        return match signal {
            linux::SIGSYS if is_clock(information) => clock(frame),
            KICK => {}
            _ => broken(signal, frame),
        };
    };
    // SAFETY: GS is ours; the application may have changed it, which costs it only its own fast path.
    unsafe { asm!("wrgsbase {}", in(reg) local, options(nostack, preserves_flags)) };
    if signal == KICK {
        hold::arrived(local);
    }
    match entry::place(&local.head, text(), frame.rip) {
        Place::Application(rip) => application(signal, information, frame, rip, local),
        Place::Exit if signal == KICK => {
            if local.head.kicked.load(Acquire) != 0 {
                local.head.steps_out.store(false, Relaxed);
                frame.rip = entry::abort();
            }
        }
        Place::Copy if signal == linux::SIGSEGV || signal == linux::SIGBUS => {
            frame.rip = user_memory::fault();
        }
        _ if signal == KICK => {}
        // A program that steps itself: the trap flag was loaded, or not yet cleared. The step that ends
        // at its next instruction is ours as well.
        Place::Exit if signal == linux::SIGTRAP => local.head.steps_out.store(true, Relaxed),
        _ if signal == linux::SIGTRAP => {}
        Place::Library if signal == linux::SIGSYS && is_clock(information) => clock(frame),
        _ => broken(signal, frame),
    }
}

/// A trap of application code, at this logical address.
fn application(signal: u32, information: &Information, frame: &mut Frame, rip: u64, local: &Local) {
    match signal {
        // Nobody wants this CPU any more: a kick that was noticed otherwise. It goes on where it is: at the logical
        // address there may be no instruction any more.
        KICK if local.head.kicked.load(Acquire) == 0 => return,
        linux::SIGTRAP if local.head.steps_out.swap(false, Relaxed) => return,
        _ => frame.rip = rip,
    }
    let code = match signal {
        KICK => entry::INTERRUPT,
        linux::SIGSYS => system_call(information, frame, local),
        linux::SIGILL if stub::is_patched_call(frame.rip) => {
            // A jump to the call in the middle of a patched site: what stood there does the same.
            frame.rip += 2;
            frame.rcx = frame.rip;
            frame.r11 = frame.rflags;
            local.head.patchable.store(false, Relaxed);
            entry::TRAPPED
        }
        _ => {
            // A call that the kernel keeps from every filter (uretprobe) answers SIGILL without a trap, and
            // the frame tells of the last one there was.
            const INVALID_OPCODE: u8 = 6;
            let vector = if signal == linux::SIGILL { INVALID_OPCODE } else { frame.vector as u8 };
            let exception = Exception {
                vector,
                error: frame.error as u32,
                address: frame.address,
                beyond_file: signal == linux::SIGBUS && frame.vector == 14,
            };
            // SAFETY: this CPU's own cell, and its library OS is not running.
            unsafe { local.head.keep(exception) };
            entry::EXCEPTION
        }
    };
    // SAFETY: application code runs, so the context is the machine's (`Machine::enter`) and this CPU's.
    let context = unsafe { &mut *local.head.context() };
    frame.save(context);
    // SAFETY: reads a register; start-up has checked that the instruction exists.
    unsafe {
        asm!("rdfsbase {}", out(reg) context.registers.fs_base, options(nomem, nostack, preserves_flags))
    };
    context.live = 0;
    context.resume = 0;
    // SAFETY: `enter` is waiting on this CPU's kernel stack, and the signal stack may be abandoned.
    unsafe { entry::finish(code) }
}

/// `AUDIT_ARCH_X86_64`.
const NATIVE: u32 = 0xc000_003e;

/// A system call that the filter has turned back.
fn system_call(information: &Information, frame: &mut Frame, local: &Local) -> u64 {
    let native = information.architecture == NATIVE;
    if !native {
        // `int 0x80` has other numbers and arguments: no call at all.
        frame.rax = u64::MAX;
    }
    // From the vsyscall page the kernel has returned to the caller already.
    let instruction = native && information.call_address == frame.rip;
    local.head.patchable.store(instruction, Relaxed);
    entry::TRAPPED
}

/// Whether the host's vDSO, called by us, fell back to the system call.
fn is_clock(information: &Information) -> bool {
    information.call_number as u32 == linux::__NR_clock_gettime && information.architecture == NATIVE
}

/// Makes that call, from where it is allowed.
fn clock(frame: &mut Frame) {
    // SAFETY: the vDSO passes on the caller's own pointer.
    let result = unsafe { host::raw(frame.rax, frame.rdi, frame.rsi, 0, 0, 0, 0) };
    frame.rax = result as u64;
}

/// Our own fault; or a page of our memory files that the host could not give us.
fn broken(signal: u32, frame: &Frame) -> ! {
    if signal == linux::SIGBUS {
        crate::pico::halt(abi::exit::Exit::OutOfMemory);
    }
    crate::pico::broken(format_args!(
        "signal {signal} at {:#x} (address {:#x}, stack {:#x})",
        frame.rip, frame.address, frame.rsp
    ))
}
