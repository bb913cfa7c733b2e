//! Memory of other processes, from a call that can wait.
//!
//! A CPU reaches one address space at a time. Before another one becomes active, the context of the thread that ran
//! last has to be complete, which it is whenever a waiting call is polled anew: so whoever wants another space waits
//! once, for nothing.

use alloc::sync::Arc;
use core::future::poll_fn;
use core::ops::Range;
use core::task::Poll;

use machine::{Machine, PAGE, Protection, Space, UserRange};

use crate::memory::Memory;
use crate::thread::Thread;

/// Comes back in a poll of its own.
pub(crate) async fn step_aside() {
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

/// Does something where another space is active; none if that space is nobody's any more.
async fn within<T>(
    thread: &Arc<Thread>,
    memory: &Memory,
    act: impl FnOnce(&dyn Machine, Space) -> T,
) -> Option<T> {
    let machine = &*thread.kernel().machine;
    if memory.space == thread.process.space() {
        return Some(act(machine, memory.space));
    }
    step_aside().await;
    if !memory.hold() {
        return None;
    }
    machine.activate(thread.cpu(), memory.space);
    let done = act(machine, memory.space);
    memory.leave(machine, thread.cpu());
    machine.activate(thread.cpu(), thread.process.space());
    Some(done)
}

/// Pieces that lie within a page each, of so many bytes from an address on: where each begins, and its part.
fn pieces(address: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut done = 0;
    core::iter::from_fn(move || {
        let at = address.wrapping_add(done as u64);
        let part = done..length.min(done + (PAGE - at % PAGE) as usize);
        done = part.end;
        (!part.is_empty()).then_some((at, part))
    })
}

/// How far pieces can be handled, from the first on.
fn reached(
    mut pieces: impl Iterator<Item = (u64, Range<usize>)>,
    mut act: impl FnMut(u64, Range<usize>) -> bool,
) -> usize {
    let mut done = 0;
    let _ = pieces.try_for_each(|(at, part)| {
        let end = part.end;
        act(at, part).then(|| done = end)
    });
    done
}

/// Reads memory of any process; how much of it could be reached, or none if it is nobody's any more.
pub async fn read(thread: &Arc<Thread>, memory: &Memory, address: u64, to: &mut [u8]) -> Option<usize> {
    let pieces = pieces(address, to.len());
    let read = within(thread, memory, |machine, space| {
        reached(pieces, |at, part| machine.copy_in(space, at, &mut to[part]).is_ok())
    });
    read.await
}

/// Writes memory of any process, as a debugger does; the same.
pub async fn write(thread: &Arc<Thread>, memory: &Memory, address: u64, from: &[u8]) -> Option<usize> {
    let pieces = pieces(address, from.len());
    let written = within(thread, memory, |machine, space| {
        reached(pieces, |at, part| force(machine, memory, space, at, &from[part]))
    });
    written.await
}

/// Writes bytes within a page of the space that is active, whatever its private mapping forbids.
pub fn force(machine: &dyn Machine, memory: &Memory, space: Space, address: u64, bytes: &[u8]) -> bool {
    if machine.copy_out(space, bytes, address).is_ok() {
        return true;
    }
    let page = UserRange::new(address & !(PAGE - 1), PAGE);
    let protection = {
        let map = memory.lock();
        let found = map.mappings.containing(address).filter(|(_, mapping)| !mapping.shared);
        let Some((_, mapping)) = found else { return false };
        mapping.protection
    };
    let opened = machine.protect(space, page, Protection::READ | Protection::WRITE);
    let written = opened.is_ok() && machine.copy_out(space, bytes, address).is_ok();
    machine.protect(space, page, protection).is_ok() && written
}
