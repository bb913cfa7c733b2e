//! Calls on watches (inotify(7)).

use alloc::sync::Arc;

use super::file::attempt;
use super::path::named;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::inotify::{Inotify, InotifyFile};
use crate::file::{Description, Slot, flag};
use crate::file_system::{Follow, happened, manner, permits, walk, want};

const IN_ONLYDIR: u32 = 0x0100_0000;
const IN_DONT_FOLLOW: u32 = 0x0200_0000;

fn make(call: &mut Call<'_>, flags: u32) -> Outcome {
    if flags & !(flag::NONBLOCK | flag::CLOSE_ON_EXEC) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let file = Arc::new(InotifyFile(Inotify::new(call.kernel())));
    let description = Description::new(file, flags & flag::NONBLOCK, None);
    let slot = Slot { description, close_on_exec: flags & flag::CLOSE_ON_EXEC != 0 };
    call.process().files.add(slot, 0, call.process().limit(7)).into()
}

pub fn init(call: &mut Call<'_>) -> Outcome {
    make(call, 0)
}
pub fn init1(call: &mut Call<'_>) -> Outcome {
    make(call, call.word(0))
}

fn instance(call: &Call<'_>) -> Result<Arc<Inotify>> {
    let description = call.process().files.get(call.arguments[0])?;
    let file = description.file_as::<InotifyFile>().ok_or(Errno::EINVAL)?;
    Ok(file.0.clone())
}

pub fn add_watch(call: &mut Call<'_>) -> Outcome {
    let mask = call.word(2);
    let both = manner::CREATE | manner::ADD;
    if mask & happened::ALL == 0 || mask & both == both {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let instance = attempt!(instance(call));
    let named = attempt!(named(call, super::path::AT_FDCWD, call.arguments[1]));
    let thread = call.thread.clone();
    call.wait(async move {
        let follow = if mask & IN_DONT_FOLLOW != 0 { Follow::No } else { Follow::Yes };
        if named.path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let place = walk(&thread, &named.start, &named.path, follow).await?;
        if mask & IN_ONLYDIR != 0 && !place.node.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        permits(&thread.process.identity.lock(), &place.node.attributes(), want::READ)?;
        let number = thread.kernel().file_systems.watches.add(&instance, &place, mask)?;
        Ok(number as u64)
    })
}

pub fn remove_watch(call: &mut Call<'_>) -> Outcome {
    let instance = attempt!(instance(call));
    call.kernel().file_systems.watches.remove(&instance, call.int(1)).into()
}
