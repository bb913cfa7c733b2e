//! Running application code until it traps, as every machine does it.

use core::sync::atomic::Ordering::Relaxed;

use machine::{Context, Exception, Trap};

use crate::code::Code;
use crate::head::Head;
use crate::way;

/// What a machine does on the way.
pub trait Ground {
    /// The code of the space that is active while application code runs.
    fn code(&self) -> &Code;

    /// Waits while application code must not run.
    fn pass(&self);

    /// A system call has trapped; what the machine makes of it before it is answered.
    fn trapped(&self, context: &mut Context) -> Result<(), Exception>;

    /// The CPU was called back.
    fn interrupted(&self);
}

/// Runs application code in a context; `call` answers system calls (`Machine::enter`).
///
/// # Safety
/// GS points to this head, which is the calling CPU's, and the stack is the CPU's own.
pub unsafe fn run(
    head: &Head,
    ground: &impl Ground,
    context: &mut Context,
    mut call: &mut dyn FnMut(&mut Context) -> bool,
) -> Trap {
    let code = ground.code();
    head.lend(&mut call, code);
    loop {
        ground.pass();
        code.resume(context);
        // SAFETY: the caller's promise; context and `call` are borrowed until this returns.
        match unsafe { way::enter(context) } {
            way::SYSCALL => return Trap::Syscall,
            way::TRAPPED => {
                if let Err(exception) = ground.trapped(context) {
                    return Trap::Exception(exception);
                }
                if !call(context) {
                    return Trap::Syscall;
                }
            }
            // SAFETY: this CPU's own cell; its handler has finished.
            way::EXCEPTION => return Trap::Exception(unsafe { *head.exception.get() }),
            _ => {
                ground.interrupted();
                return Trap::Interrupt;
            }
        }
    }
}

impl Head {
    /// Keeps what an exception was, for [`run`] to return.
    ///
    /// # Safety
    /// The head is the calling CPU's, whose library OS is not running.
    pub unsafe fn keep(&self, exception: Exception) {
        // SAFETY: the caller's promise.
        unsafe { *self.exception.get() = exception }
    }

    /// Whether the trapped call's site may be patched.
    pub fn is_patchable(&self) -> bool {
        self.patchable.load(Relaxed)
    }
}
