//! Calls on open files: positions, allocation, synchronising.

use alloc::sync::Arc;

use abi::file::Extent;

use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::pipe::{End, FIONREAD};
use crate::file::{Description, Owner, Taken, flag};
use crate::file_system::{REGULAR, TYPE, happened};
use crate::process::FILE_SIZE_LIMIT;
use crate::signal::{self, Information, Target};
use crate::thread::Thread;
use crate::user;

/// Unwraps or ends the call with the error.
macro_rules! attempt {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(errno) => return Err::<u64, _>(errno).into(),
        }
    };
}
pub(crate) use attempt;

/// What a file that would outgrow its limit comes to: SIGXFSZ, and this error.
pub(super) fn too_large(thread: &Arc<Thread>) -> Errno {
    signal::send(&thread.process, Target::Thread(thread.number()), Information::kernel(signal::SIGXFSZ));
    Errno::EFBIG
}

pub fn lseek(call: &mut Call<'_>) -> Outcome {
    let [number, offset, whence, ..] = call.arguments;
    let description = attempt!(call.process().files.get(number));
    if !description.file.seekable() {
        return Err::<u64, _>(Errno::ESPIPE).into();
    }
    if !description.file.keeps_position() {
        *description.position.lock() = 0;
        return Ok(0).into();
    }
    let offset = offset as i64;
    match (Taken::at_once(&description), whence) {
        (Some(_turn), 0) => return set_position(&description, 0, offset).into(),
        (Some(_turn), 1) => {
            let base = *description.position.lock();
            return set_position(&description, base, offset).into();
        }
        _ => {}
    }
    let thread = call.thread.clone();
    call.wait(async move {
        let _turn = Taken::wait(&thread, &description).await?;
        let base = match whence {
            0 => 0,
            1 => *description.position.lock(),
            2 => description.file.find_end(&thread).await?,
            3 | 4 if offset < 0 => return Err(Errno::ENXIO),
            3 | 4 => {
                let found = description.file.seek_data(&thread, offset as u64, whence == 4).await?;
                *description.position.lock() = found;
                return Ok(found);
            }
            _ => return Err(Errno::EINVAL),
        };
        set_position(&description, base, offset)
    })
}

fn set_position(description: &Description, base: u64, offset: i64) -> Result<u64> {
    let last = description.file.end().map_or(i64::MAX, |end| end as i64);
    let new = (base as i64).checked_add(offset).filter(|new| (0..=last).contains(new));
    let new = new.ok_or(Errno::EINVAL)?;
    *description.position.lock() = new as u64;
    if new == 0 {
        *description.listing.lock() = None;
    }
    Ok(new as u64)
}

pub fn ioctl(call: &mut Call<'_>) -> Outcome {
    let [number, command, argument, ..] = call.arguments;
    let description = attempt!(call.process().files.get(number));
    match command as u32 {
        // FIONCLEX, FIOCLEX
        0x5450 | 0x5451 => call.process().files.set_close_on_exec(number, command == 0x5451).into(),
        // FIONBIO
        0x5421 => {
            let on = attempt!(user::read_u32(call.thread, argument)) != 0;
            let flags = description.flags() & !flag::NONBLOCK;
            description.set_flags(if on { flags | flag::NONBLOCK } else { flags });
            Ok(0).into()
        }
        // FIOASYNC
        0x5452 if description.file.queue().is_some() => {
            let on = attempt!(user::read_u32(call.thread, argument)) != 0;
            let flags = description.flags() & !flag::ASYNC;
            let flags = if on { flags | flag::ASYNC } else { flags };
            description.change_flags(call.kernel(), flags);
            Ok(0).into()
        }
        // FIOSETOWN, SIOCSPGRP
        0x8901 | 0x8902 if description.file.queue().is_some() => {
            let number = attempt!(user::read_u32(call.thread, argument)) as i32;
            Owner::of(&description, call.kernel()).set_number(number);
            Ok(0).into()
        }
        // FIOGETOWN, SIOCGPGRP
        0x8903 | 0x8904 if description.file.queue().is_some() => {
            let number = Owner::of(&description, call.kernel()).number();
            user::write(call.thread, argument, &number.to_le_bytes()).into()
        }
        FIONREAD if description.file.seekable() => {
            let thread = call.thread.clone();
            call.wait(async move {
                let attributes = description.file.attributes(&thread).await?;
                if attributes.mode & TYPE != REGULAR {
                    return Err(Errno::ENOTTY);
                }
                let left = attributes.size as i64 - *description.position.lock() as i64;
                user::write(&thread, argument, &(left as i32).to_le_bytes()).map(|()| 0)
            })
        }
        command => {
            let control = description.file.control(call.thread, command, argument);
            call.wait(control)
        }
    }
}

pub fn fsync(call: &mut Call<'_>) -> Outcome {
    synchronise(call, Extent::File)
}
pub fn fdatasync(call: &mut Call<'_>) -> Outcome {
    synchronise(call, Extent::Data)
}
fn synchronise(call: &mut Call<'_>, extent: Extent) -> Outcome {
    let description = attempt!(call.process().files.get(call.arguments[0]));
    let promise = description.file.synchronise(call.thread, extent);
    call.wait(async move {
        let _description = description;
        promise.await.map(|()| 0)
    })
}

pub fn ftruncate(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(call.process().files.get(call.arguments[0]));
    let size = call.arguments[1];
    if size > i64::MAX as u64 || description.writable().is_err() {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let change = abi::file::Change { size: Some(size), ..Default::default() };
    let thread = call.thread.clone();
    call.wait(async move {
        let file = &description.file;
        if size > thread.process.limit(FILE_SIZE_LIMIT) && size > file.attributes(&thread).await?.size {
            return Err(too_large(&thread));
        }
        file.change(&thread, change).await?;
        description.tell(happened::MODIFY);
        Ok(0)
    })
}

pub fn fallocate(call: &mut Call<'_>) -> Outcome {
    let [number, mode, offset, length, ..] = call.arguments;
    let description = attempt!(call.process().files.get(number));
    attempt!(description.writable());
    if offset > i64::MAX as u64 || length == 0 || length > i64::MAX as u64 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    const KEEP_SIZE: u64 = 1;
    let thread = call.thread.clone();
    call.wait(async move {
        let end = offset.saturating_add(length);
        if mode & KEEP_SIZE == 0
            && end > thread.process.limit(FILE_SIZE_LIMIT)
            && end > description.file.attributes(&thread).await?.size
        {
            return Err(too_large(&thread));
        }
        description.file.allocate(&thread, mode as u32, offset, length).await?;
        description.tell(happened::MODIFY);
        Ok(0)
    })
}

/// Advice is not passed on; what is wrong with it is said.
pub fn fadvise64(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(call.process().files.get(call.arguments[0]));
    if description.file_as::<End>().is_some() {
        return Err::<u64, _>(Errno::ESPIPE).into();
    }
    let valid = call.int(3) >= 0 && call.int(3) <= 5 && call.arguments[2] <= i64::MAX as u64;
    (if valid { Ok(0) } else { Err(Errno::EINVAL) }).into()
}

pub fn readahead(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(call.process().files.get(call.arguments[0]));
    attempt!(description.readable());
    (if description.file.seekable() { Ok(0) } else { Err(Errno::EINVAL) }).into()
}

pub fn syncfs(call: &mut Call<'_>) -> Outcome {
    synchronise(call, Extent::FileSystem)
}

/// sync(2), which says nothing of what cannot be stored.
pub fn sync(call: &mut Call<'_>) -> Outcome {
    let kernel = call.kernel().clone();
    call.wait(async move {
        crate::file_system::synchronise_all(&kernel).await;
        Ok(0)
    })
}

/// sync_file_range(2): all of the file's data, since no request names a part.
pub fn sync_file_range(call: &mut Call<'_>) -> Outcome {
    let [_, offset, length, flags, ..] = call.arguments;
    let description = attempt!(call.process().files.get(call.arguments[0]));
    let end = offset.saturating_add(length);
    if flags as u32 & !7 != 0 || offset.max(length).max(end) > i64::MAX as u64 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    if !description.file.seekable() {
        return Err::<u64, _>(Errno::ESPIPE).into();
    }
    synchronise(call, Extent::Data)
}
