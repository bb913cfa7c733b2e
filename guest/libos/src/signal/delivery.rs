//! What comes of a signal: taken before application code goes on, it is handled, stops the process or ends it.

use alloc::sync::Arc;
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

use abi::exit::Exit;
use machine::{Cpu, Machine};

use super::{
    Action, SA_NODEFER, SA_RESETHAND, SA_RESTART, SIGSEGV, SIGSTOP, STOPS, TRAP_FLAG, UNBLOCKABLE, frame,
    set_of, take,
};
use crate::core_dump;
use crate::errno::Errno;
use crate::ptrace::Delivery;
use crate::thread::{Body, Thread};

/// Why a thread does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    Ended,
    /// The debugger holds it, or its process is stopped.
    Held,
    /// It stands for its tracer, in a call of its own.
    Stands,
}

/// Delivers what is pending, before application code goes on, unless the thread is not to.
pub(crate) fn deliver(
    thread: &Arc<Thread>,
    body: &mut Body,
    machine: &Arc<dyn Machine>,
    cpu: Cpu,
) -> ControlFlow<Halt> {
    let debugger = thread.kernel().debugger_of(thread);
    loop {
        if thread.process.must_end(thread) {
            machine.leave(cpu, &mut body.context);
            crate::syscall_end(thread, cpu, 0);
            return ControlFlow::Break(Halt::Ended);
        }
        if thread.process.is_held(thread) {
            machine.leave(cpu, &mut body.context);
            thread.keep_attention();
            return ControlFlow::Break(Halt::Held);
        }
        let mask = thread.signals.mask.load(Ordering::SeqCst);
        let continued = thread.process.continued();
        let next = match debugger {
            None if thread.is_traced() => match thread.trace_delivery(|| take(thread, !mask)) {
                Delivery::Go(next) => next,
                Delivery::Stand(pending) => {
                    machine.leave(cpu, &mut body.context);
                    body.pending = Some(pending);
                    thread.keep_attention();
                    return ControlFlow::Break(Halt::Stands);
                }
            },
            None => take(thread, !mask),
            Some(debugger) => match debugger.next_signal(thread, body, mask) {
                ControlFlow::Continue(next) => next,
                ControlFlow::Break(()) => {
                    machine.leave(cpu, &mut body.context);
                    return ControlFlow::Break(Halt::Held);
                }
            },
        };
        let Some(information) = next else { break };
        let number = information.number;
        let action = thread.process.signals.action(number);
        match action.handler {
            0 if thread.process.signals.ignores(number) => {}
            0 if STOPS & set_of(number) != 0 && thread.is_traced() => {
                machine.leave(cpu, &mut body.context);
                body.pending = Some(thread.stop_traced(number));
                thread.keep_attention();
                return ControlFlow::Break(Halt::Stands);
            }
            0 if number == SIGSTOP => thread.process.stop(number, continued),
            0 if STOPS & set_of(number) != 0 => {
                if !crate::job::is_orphaned(&thread.process) {
                    thread.process.stop(number, continued);
                }
            }
            0 if thread.is_traced() || core_dump::is_wanted(&thread.process, number) => {
                machine.leave(cpu, &mut body.context);
                body.pending = Some(core_dump::end_by(thread, information, &body.context));
                thread.keep_attention();
                return ControlFlow::Break(Halt::Stands);
            }
            0 => thread.process.end(Exit::Signal(number)),
            1 => {}
            _ => {
                machine.leave(cpu, &mut body.context);
                settle_restart(thread, body, Some(action));
                let saved = thread.signals.saved_mask.lock().take().unwrap_or(mask);
                if action.flags & SA_RESETHAND != 0 {
                    thread.process.signals.set_action(number, Action { handler: 0, ..action });
                }
                if frame::push(thread, &mut body.context, machine, information, action, saved).is_err() {
                    thread.process.end(Exit::Signal(SIGSEGV));
                }
                let own = if action.flags & SA_NODEFER == 0 { set_of(number) } else { 0 };
                let during = (mask | action.mask | own) & !UNBLOCKABLE;
                thread.signals.mask.store(during, Ordering::SeqCst);
                super::hand_on(&thread.process, during & !mask);
                if let Some(debugger) = debugger {
                    debugger.handling(thread);
                }
            }
        }
    }
    settle_restart(thread, body, None);
    if thread.steps() {
        body.context.registers.rflags |= TRAP_FLAG;
    }
    if unmask_after_call(thread) && thread.signals.deliverable(&thread.process.signals) {
        // The call's mask held it back.
        return deliver(thread, body, machine, cpu);
    }
    if let Some(debugger) = debugger {
        debugger.enters(thread, &mut body.context);
    }
    ControlFlow::Continue(())
}

/// A call is over that had a mask of its own; whether it had.
pub fn unmask_after_call(thread: &Arc<Thread>) -> bool {
    let closed = thread.signals.unmask();
    closed.inspect(|closed| super::hand_on(&thread.process, *closed)).is_some()
}

/// Decides what becomes of an interrupted call: restarted, or ended with EINTR.
fn settle_restart(thread: &Arc<Thread>, body: &mut Body, handler: Option<Action>) {
    let how = thread.signals.take_restart();
    let restart = match (how, handler) {
        (Errno(0), _) => return,
        (_, None) | (Errno::ERESTARTNOINTR, _) => true,
        (Errno::ERESTARTSYS, Some(action)) => action.flags & SA_RESTART != 0,
        _ => false,
    };
    if !restart || how != Errno::ERESTART_RESTARTBLOCK {
        thread.signals.resumed();
    }
    let registers = &mut body.context.registers;
    if restart {
        registers.rip -= 2;
    } else {
        registers.rax = (-i64::from(Errno::EINTR.0)) as u64;
    }
    body.context.divert();
}

/// Looks at pending signals again, after the mask has changed.
pub fn look_again(thread: &Arc<Thread>) {
    if thread.signals.deliverable(&thread.process.signals) {
        thread.keep_attention();
    }
}
