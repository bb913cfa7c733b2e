//! Memory of other processes, from a call that can wait.
//!
//! A CPU reaches one address space at a time. Before another one becomes active, the context of the thread that ran
//! last has to be complete, which it is whenever a waiting call is polled anew: so whoever wants another space waits
//! once, for nothing.

use alloc::sync::Arc;
use core::future::poll_fn;
use core::task::Poll;

use machine::PAGE;

use crate::process::Process;
use crate::thread::Thread;

/// Comes back in a poll of its own.
async fn step_aside() {
    let mut been = false;
    poll_fn(|cx| {
        if core::mem::replace(&mut been, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Reads memory of any process; how much of it could be reached.
pub async fn read(thread: &Arc<Thread>, process: &Process, address: u64, to: &mut [u8]) -> usize {
    if process.space() == thread.process.space() {
        return crate::user::read_reachable(thread, address, to);
    }
    step_aside().await;
    let machine = &*thread.kernel().machine;
    let memory = process.memory();
    if !memory.hold() {
        return 0;
    }
    machine.activate(thread.cpu(), memory.space);
    let mut done = 0;
    while done < to.len() {
        let at = address.wrapping_add(done as u64);
        let end = to.len().min(done + (PAGE - at % PAGE) as usize);
        if machine.copy_in(memory.space, at, &mut to[done..end]).is_err() {
            break;
        }
        done = end;
    }
    memory.leave(machine, thread.cpu());
    machine.activate(thread.cpu(), thread.process.space());
    done
}
