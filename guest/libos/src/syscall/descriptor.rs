//! Calls on descriptors themselves: close(2), dup(2), fcntl(2).

use alloc::sync::Arc;

use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Description, Owner, Slot, flag};
use crate::ipc::named::NamedQueue;
use crate::process::Process;
use crate::user;

use super::file::attempt;

/// Closes a descriptor that was taken out of the table: a process's locks on the file end with it, and its wish to hear
/// of a message queue.
pub fn let_go(process: &Arc<Process>, slot: Slot) {
    process.kernel.file_systems.locks.closing(process.number, &slot.description);
    if let Ok(queue) = NamedQueue::of(&slot.description) {
        let _ = queue.notify(process, None);
    }
}

pub fn close(call: &mut Call<'_>) -> Outcome {
    call.process().files.remove(call.arguments[0]).map(|slot| let_go(call.process(), slot)).into()
}

pub fn close_range(call: &mut Call<'_>) -> Outcome {
    let [first, last, flags] = [0, 1, 2].map(|index| u64::from(call.word(index)));
    if first > last {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let files = &call.process().files;
    for number in files.numbers().into_iter().filter(|number| (first..=last).contains(number)) {
        if flags & 4 != 0 {
            let _ = files.set_close_on_exec(number, true);
        } else if let Ok(slot) = files.remove(number) {
            let_go(call.process(), slot);
        }
    }
    Ok(0).into()
}

/// dup2(2) and dup3(2).
fn duplicate_to(call: &Call<'_>, flags: u32, same_is_error: bool) -> Result<u64> {
    let [from, to, ..] = call.arguments;
    let (from, to) = (u64::from(from as u32), u64::from(to as u32));
    let files = &call.process().files;
    let description = files.any(from)?;
    if from == to {
        return if same_is_error { Err(Errno::EINVAL) } else { Ok(to) };
    }
    let slot = Slot { description, close_on_exec: flags & flag::CLOSE_ON_EXEC != 0 };
    if let Some(replaced) = files.replace(to, slot, call.process().limit(7))? {
        let_go(call.process(), replaced);
    }
    Ok(to)
}

pub fn dup(call: &mut Call<'_>) -> Outcome {
    let files = &call.process().files;
    let description = attempt!(files.any(call.arguments[0]));
    files.add(Slot { description, close_on_exec: false }, 0, call.process().limit(7)).into()
}
pub fn dup2(call: &mut Call<'_>) -> Outcome {
    duplicate_to(call, 0, false).into()
}
pub fn dup3(call: &mut Call<'_>) -> Outcome {
    let flags = call.word(2);
    if flags & !flag::CLOSE_ON_EXEC != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    duplicate_to(call, flags, true).into()
}

/// `struct f_owner_ex`.
fn owner(call: &Call<'_>, description: &Arc<Description>, sets: bool, address: u64) -> Result<u64> {
    const GROUP: u32 = 2;
    let owner = Owner::of(description, call.kernel());
    if sets {
        let kind = user::read_u32(call.thread, address)?;
        let number = user::read_u32(call.thread, address.wrapping_add(4))? as i32;
        match kind {
            GROUP => owner.set_number(-number),
            0 | 1 => owner.set_number(number),
            _ => return Err(Errno::EINVAL),
        }
    } else {
        let number = owner.number();
        let kind = if number < 0 { GROUP } else { 1 };
        let bytes = [kind.to_le_bytes(), number.unsigned_abs().to_le_bytes()].concat();
        user::write(call.thread, address, &bytes)?;
    }
    Ok(0)
}

pub fn fcntl(call: &mut Call<'_>) -> Outcome {
    let [number, command, argument, ..] = call.arguments;
    let files = &call.process().files;
    let slot = attempt!(files.slot(number));
    let description = slot.description;
    if !matches!(command as u32, 0..=3 | 1030) {
        attempt!(description.usable());
    }
    match command as u32 {
        // F_DUPFD, F_DUPFD_CLOEXEC
        0 | 1030 => {
            let limit = call.process().limit(7);
            if argument >= limit {
                return Err::<u64, _>(Errno::EINVAL).into();
            }
            let slot = Slot { description, close_on_exec: command == 1030 };
            files.add(slot, argument as usize, limit).into()
        }
        1 => Ok(u64::from(slot.close_on_exec)).into(),
        2 => files.set_close_on_exec(number, argument & 1 != 0).into(),
        3 => Ok(u64::from(description.flags() & !flag::CLOSE_ON_EXEC)).into(),
        4 => {
            let kept = description.flags() & !flag::CHANGEABLE;
            description.change_flags(call.kernel(), kept | argument as u32 & flag::CHANGEABLE);
            Ok(0).into()
        }
        // F_GETLK, F_SETLK, F_SETLKW and their forms for open file descriptions
        5..=7 | 36..=38 => super::locking::record(call, description, command),
        // F_SETOWN, F_GETOWN, F_SETSIG, F_GETSIG
        8 => {
            Owner::of(&description, call.kernel()).set_number(argument as i32);
            Ok(0).into()
        }
        9 => Ok(description.owner.get().map_or(0, |owner| owner.number()) as u64).into(),
        10 if argument > 64 => Err::<u64, _>(Errno::EINVAL).into(),
        10 => {
            Owner::of(&description, call.kernel()).set_signal(argument as u8);
            Ok(0).into()
        }
        11 => Ok(description.owner.get().map_or(0, |owner| u64::from(owner.signal()))).into(),
        // F_SETOWN_EX, F_GETOWN_EX: of a thread, a process or a group.
        15 | 16 => owner(call, &description, command == 15, argument).into(),
        // F_NOTIFY: only an end of what nobody has, for inotify(7) does the rest better.
        1026 if argument as u32 & 0x7fff_ffff == 0 => Ok(0).into(),
        // F_SETPIPE_SZ, F_GETPIPE_SZ
        1031 | 1032 => {
            let control = description.file.control(call.thread, command as u32, argument);
            call.wait(async move {
                control.await.map_err(|errno| if errno == Errno::ENOTTY { Errno::EBADF } else { errno })
            })
        }
        // F_ADD_SEALS, F_GET_SEALS
        1033 => super::memory::add_seals(call, &description, argument as u32).into(),
        1034 => super::memory::get_seals(&description).into(),
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}
