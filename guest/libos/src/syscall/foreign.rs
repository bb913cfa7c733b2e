//! Memory of other processes: process_vm_readv(2), process_vm_writev(2).
//!
//! A CPU reaches one address space at a time, so data goes through a buffer, piece by piece.

use alloc::vec;

use machine::UserRange;

use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::process::Process;
use crate::user;

/// Bytes that go through the buffer at once, at most.
const PIECE: usize = 64 << 10;

/// Whether a process may look into another one (ptrace(2), "Ptrace access mode checking").
pub fn may_inspect(own: &Process, other: &Process) -> Result<()> {
    // One after the other: they may be the same.
    let own = own.who();
    let other = other.who();
    let users = [other.real_user, other.user, other.saved_user];
    let groups = [other.real_group, other.group, other.saved_group];
    let same = users.iter().all(|user| *user == own.real_user)
        && groups.iter().all(|group| *group == own.real_group);
    if own.privileged() || same { Ok(()) } else { Err(Errno::EPERM) }
}

/// Copies from another process's memory, or to it; how much could be reached before the first fault. The
/// caller's context is complete, and its own space is active before and after.
pub fn copy_in(call: &Call<'_>, process: &Process, from: u64, to: &mut [u8]) -> bool {
    within(call, process, |machine, space| machine.copy_in(space, from, to).is_ok())
}

pub fn copy_out(call: &Call<'_>, process: &Process, from: &[u8], to: u64) -> bool {
    within(call, process, |machine, space| machine.copy_out(space, from, to).is_ok())
}

pub(super) fn within(
    call: &Call<'_>,
    process: &Process,
    act: impl FnOnce(&dyn machine::Machine, machine::Space) -> bool,
) -> bool {
    let machine = &*call.kernel().machine;
    let memory = process.memory();
    // The process may end meanwhile.
    if !memory.hold() {
        return false;
    }
    machine.activate(call.cpu, memory.space);
    let done = act(machine, memory.space);
    memory.leave(machine, call.cpu);
    machine.activate(call.cpu, call.space());
    done
}

pub fn process_vm_readv(call: &mut Call<'_>) -> Outcome {
    transfer(call, false).into()
}

pub fn process_vm_writev(call: &mut Call<'_>) -> Outcome {
    transfer(call, true).into()
}

fn transfer(call: &mut Call<'_>, writes: bool) -> Result<u64> {
    let [_, local, locals, remote, remotes, flags] = call.arguments;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let thread = super::process::thread(call, call.word(0))?;
    may_inspect(call.process(), &thread.process)?;
    let mut local = user::read_ranges(call.thread, local, locals)?;
    let mut remote = user::read_ranges(call.thread, remote, remotes)?;
    call.kernel().machine.clone().leave(call.cpu, call.context);
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    loop {
        local.retain(|range| range.length != 0);
        remote.retain(|range| range.length != 0);
        let (Some(here), Some(there)) = (local.first(), remote.first()) else { return Ok(done) };
        let (here, there) = (*here, *there);
        // Within a page of the other process, so that what can be reached is.
        let page = machine::PAGE - there.address % machine::PAGE;
        let whole = (here.length.min(there.length) as usize).min(PIECE);
        let copied = copy(call, &thread.process, &mut buffer[..whole], here, there, writes);
        let length = match copied {
            Ok(()) => whole,
            Err(_) => {
                let part = whole.min(page as usize);
                match copy(call, &thread.process, &mut buffer[..part], here, there, writes) {
                    Ok(()) => part,
                    Err(errno) if done == 0 => return Err(errno),
                    Err(_) => return Ok(done),
                }
            }
        };
        done += length as u64;
        user::advance(&mut local, length as u64);
        user::advance(&mut remote, length as u64);
    }
}

fn copy(
    call: &Call<'_>,
    process: &Process,
    buffer: &mut [u8],
    here: UserRange,
    there: UserRange,
    writes: bool,
) -> Result<()> {
    let reached = if writes {
        call.kernel().machine.copy_in(call.space(), here.address, buffer)?;
        copy_out(call, process, buffer, there.address)
    } else {
        copy_in(call, process, there.address, buffer)
    };
    if !reached {
        return Err(Errno::EFAULT);
    }
    if !writes {
        call.kernel().machine.copy_out(call.space(), buffer, here.address)?;
    }
    Ok(())
}
