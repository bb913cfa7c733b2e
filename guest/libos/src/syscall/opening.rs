//! Calls that open a name: open(2), creat(2), openat(2), openat2(2).

use super::file::attempt;
use super::path::{AT_FDCWD, start};
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Slot, flag};
use crate::file_system::{self, Bounds, Rules};
use crate::user;

const PAGE: u64 = 4096;
/// The first and so far only version of `struct open_how`.
const HOW_LENGTH: u64 = 24;
const PATH_FLAGS: u32 = flag::DIRECTORY | flag::NO_FOLLOW | flag::PATH | flag::CLOSE_ON_EXEC;
/// Which flags there are; openat2(2) refuses others.
const FLAGS: u32 = flag::ACCESS
    | flag::CREATE
    | flag::EXCLUSIVE
    | flag::NO_TERMINAL
    | flag::TRUNCATE
    | flag::APPEND
    | flag::NONBLOCK
    | flag::SYNC
    | flag::ASYNC
    | flag::DIRECT
    | flag::LARGE
    | flag::NO_FOLLOW
    | flag::NO_ACCESS_TIME
    | flag::TEMPORARY
    | PATH_FLAGS;

/// How to open: `struct open_how`.
#[derive(Clone, Copy)]
struct How {
    flags: u32,
    mode: u32,
    rules: Rules,
}

impl How {
    /// As open(2) takes it: what makes no sense is ignored.
    fn lenient(flags: u32, mode: u32) -> Self {
        let flags = if flags & flag::PATH != 0 { flags & PATH_FLAGS } else { flags };
        Self { flags, mode: mode & 0o7777, rules: Rules::empty() }
    }

    /// As openat2(2) takes it: what makes no sense is an error.
    fn strict([flags, mode, rules]: [u64; 3]) -> Result<Self> {
        let rules = Rules::from_bits(rules).ok_or(Errno::EINVAL)?;
        let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
        let makes = flags & (flag::CREATE | flag::TEMPORARY & !flag::DIRECTORY) != 0;
        let known = if flags & flag::PATH != 0 { PATH_FLAGS } else { FLAGS };
        let modes = if makes { 0o7777 } else { 0 };
        if flags & !known != 0 || mode & !modes != 0 || rules.contains(Rules::BENEATH | Rules::IN_ROOT) {
            return Err(Errno::EINVAL);
        }
        // Whether a look-up would have to wait is not known before: it may always be called so.
        if rules.contains(Rules::CACHED) {
            return Err(Errno::EAGAIN);
        }
        Ok(Self { flags, mode: mode as u32, rules })
    }

    fn read(call: &Call<'_>, address: u64, length: u64) -> Result<Self> {
        if length < HOW_LENGTH {
            return Err(Errno::EINVAL);
        }
        if length > PAGE {
            return Err(Errno::E2BIG);
        }
        let how = user::read_vec(call.thread, address, length as usize)?;
        let (words, rest) = how.as_chunks::<8>();
        if words[3..].iter().flatten().chain(rest).any(|byte| *byte != 0) {
            return Err(Errno::E2BIG);
        }
        Self::strict([0, 1, 2].map(|index| u64::from_le_bytes(words[index])))
    }
}

fn open_at(call: &mut Call<'_>, directory: i32, address: u64, how: How) -> Outcome {
    let How { flags, mode, rules } = how;
    let makes_unnamed = flags & flag::TEMPORARY == flag::TEMPORARY;
    if flags & flag::TEMPORARY & !flag::DIRECTORY != 0
        && (!makes_unnamed || flags & flag::CREATE != 0 || flags & flag::ACCESS == 0)
    {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let path = attempt!(user::read_path(call.thread, address));
    if path.is_empty() {
        return Err::<u64, _>(Errno::ENOENT).into();
    }
    // A path is absolute to the root, unless the directory shall be the root.
    let relative: &[u8] = if rules.contains(Rules::IN_ROOT) { b"" } else { &path };
    let start = attempt!(start(call, directory, relative));
    let bounds = Bounds::new(rules, &start);
    let thread = call.thread.clone();
    // Nothing is made or cut that no descriptor could stand for.
    attempt!(call.process().files.has_room(call.process().limit(7)));
    call.wait(async move {
        let process = &thread.process;
        let description = if makes_unnamed {
            file_system::temporary(&thread, &bounds, &start, &path, flags, mode).await?
        } else {
            file_system::opened(&thread, &bounds, &start, &path, flags, mode).await?
        };
        let slot = Slot { description, close_on_exec: flags & flag::CLOSE_ON_EXEC != 0 };
        process.files.add(slot, 0, process.limit(7))
    })
}

pub fn open(call: &mut Call<'_>) -> Outcome {
    open_at(call, AT_FDCWD, call.arguments[0], How::lenient(call.word(1), call.word(2)))
}
pub fn openat(call: &mut Call<'_>) -> Outcome {
    open_at(call, call.int(0), call.arguments[1], How::lenient(call.word(2), call.word(3)))
}
pub fn creat(call: &mut Call<'_>) -> Outcome {
    let how = How::lenient(flag::CREATE | flag::WRONLY | flag::TRUNCATE, call.word(1));
    open_at(call, AT_FDCWD, call.arguments[0], how)
}
pub fn openat2(call: &mut Call<'_>) -> Outcome {
    let how = attempt!(How::read(call, call.arguments[2], call.arguments[3]));
    open_at(call, call.int(0), call.arguments[1], how)
}
