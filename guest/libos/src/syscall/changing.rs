//! Calls that change what is known of a file: its mode, owner, times and length.

use alloc::sync::Arc;

use abi::file::{Change, SetTime};

use super::file::attempt;
use super::path::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, act, follow_unless, named, only};
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::Description;
use crate::file_system::{self, DirectoryFile, change_attributes};
use crate::user;

fn change_at(call: &mut Call<'_>, directory: i32, path: u64, flags: u32, change: Change) -> Outcome {
    attempt!(only(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH));
    let named = attempt!(named(call, directory, path));
    if named.path.is_empty() && flags & AT_EMPTY_PATH != 0 && directory != AT_FDCWD {
        let description = attempt!(call.process().files.any(directory as u32 as u64));
        return change_opened(call, description, change);
    }
    let thread = call.thread.clone();
    act(call, async move {
        let follow = follow_unless(flags, AT_SYMLINK_NOFOLLOW);
        let entry = named.find(&thread, follow, flags & AT_EMPTY_PATH != 0).await?;
        change_attributes(&thread, &entry, change).await
    })
}

fn change_descriptor(call: &mut Call<'_>, number: u64, change: Change) -> Outcome {
    let description = attempt!(call.process().files.get(number));
    change_opened(call, description, change)
}

fn change_opened(call: &Call<'_>, description: Arc<Description>, change: Change) -> Outcome {
    let promise = description.file.change(call.thread, change);
    let thread = call.thread.clone();
    act(call, async move {
        promise.await?;
        // A directory's change goes by its place, and is told there.
        if let Some(location) = &description.location
            && description.file_as::<DirectoryFile>().is_none()
        {
            file_system::tell_changed(&thread, location, &change);
        }
        Ok(())
    })
}

fn mode_change(mode: u32) -> Change {
    Change { mode: Some(mode & 0o7777), ..Change::default() }
}
fn owner_change(user: u32, group: u32) -> Change {
    let given = |number: u32| (number != u32::MAX).then_some(number);
    Change { user: given(user), group: given(group), ..Change::default() }
}

pub fn chmod(call: &mut Call<'_>) -> Outcome {
    change_at(call, AT_FDCWD, call.arguments[0], 0, mode_change(call.word(1)))
}
pub fn fchmod(call: &mut Call<'_>) -> Outcome {
    change_descriptor(call, call.arguments[0], mode_change(call.word(1)))
}
pub fn fchmodat(call: &mut Call<'_>) -> Outcome {
    change_at(call, call.int(0), call.arguments[1], 0, mode_change(call.word(2)))
}
pub fn fchmodat2(call: &mut Call<'_>) -> Outcome {
    change_at(call, call.int(0), call.arguments[1], call.word(3), mode_change(call.word(2)))
}
pub fn chown(call: &mut Call<'_>) -> Outcome {
    change_at(call, AT_FDCWD, call.arguments[0], 0, owner_change(call.word(1), call.word(2)))
}
pub fn lchown(call: &mut Call<'_>) -> Outcome {
    change_at(
        call,
        AT_FDCWD,
        call.arguments[0],
        AT_SYMLINK_NOFOLLOW,
        owner_change(call.word(1), call.word(2)),
    )
}
pub fn fchown(call: &mut Call<'_>) -> Outcome {
    change_descriptor(call, call.arguments[0], owner_change(call.word(1), call.word(2)))
}
pub fn fchownat(call: &mut Call<'_>) -> Outcome {
    change_at(call, call.int(0), call.arguments[1], call.word(4), owner_change(call.word(2), call.word(3)))
}
pub fn truncate(call: &mut Call<'_>) -> Outcome {
    if call.arguments[1] > i64::MAX as u64 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let change = Change { size: Some(call.arguments[1]), ..Change::default() };
    change_at(call, AT_FDCWD, call.arguments[0], 0, change)
}

/// One `struct timespec` of utimensat, UTIME_NOW and UTIME_OMIT included.
fn set_time(seconds: u64, nanoseconds: u64) -> Result<Option<SetTime>> {
    match nanoseconds {
        0x3fff_ffff => Ok(Some(SetTime::Now)),
        0x3fff_fffe => Ok(None),
        nanoseconds if nanoseconds < 1_000_000_000 => {
            let time_ns = (seconds as i64).saturating_mul(1_000_000_000).saturating_add(nanoseconds as i64);
            Ok(Some(SetTime::At(time_ns)))
        }
        _ => Err(Errno::EINVAL),
    }
}

pub fn utimensat(call: &mut Call<'_>) -> Outcome {
    let times = call.arguments[2];
    let (accessed, modified) = if times == 0 {
        (Some(SetTime::Now), Some(SetTime::Now))
    } else {
        let [a, b, c, d] = attempt!(user::read_words::<4>(call.thread, times));
        (attempt!(set_time(a, b)), attempt!(set_time(c, d)))
    };
    let change = Change { accessed, modified, ..Change::default() };
    if call.arguments[1] == 0 {
        return change_descriptor(call, call.int(0) as u32 as u64, change);
    }
    change_at(call, call.int(0), call.arguments[1], call.word(3), change)
}

/// utime(2), utimes(2) and futimesat(2): seconds, or seconds and microseconds.
fn old_times(call: &mut Call<'_>, directory: i32, path: u64, times: u64, whole: bool) -> Outcome {
    let change = if times == 0 {
        Change { accessed: Some(SetTime::Now), modified: Some(SetTime::Now), ..Change::default() }
    } else {
        let at = |seconds: u64, microseconds: u64| {
            let ns = (seconds as i64).saturating_mul(1_000_000_000);
            Some(SetTime::At(ns.saturating_add((microseconds as i64).saturating_mul(1000))))
        };
        if whole {
            let [accessed, modified] = attempt!(user::read_words::<2>(call.thread, times));
            Change { accessed: at(accessed, 0), modified: at(modified, 0), ..Change::default() }
        } else {
            let [a, b, c, d] = attempt!(user::read_words::<4>(call.thread, times));
            Change { accessed: at(a, b), modified: at(c, d), ..Change::default() }
        }
    };
    change_at(call, directory, path, 0, change)
}
pub fn utime(call: &mut Call<'_>) -> Outcome {
    old_times(call, AT_FDCWD, call.arguments[0], call.arguments[1], true)
}
pub fn utimes(call: &mut Call<'_>) -> Outcome {
    old_times(call, AT_FDCWD, call.arguments[0], call.arguments[1], false)
}
pub fn futimesat(call: &mut Call<'_>) -> Outcome {
    old_times(call, call.int(0), call.arguments[1], call.arguments[2], false)
}
