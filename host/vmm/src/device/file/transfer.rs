//! Reads and writes, straight between files and the guest's memory.
//!
//! A read asks for what is in the page cache; the rest is left to a thread that may wait for the disk. A
//! short read that ends with a page is tried once more, because the guest may take it for the file's end; one
//! that ends within a page is the end, for caches hold whole pages. Small writes are copies into the cache
//! and done at once where a file system cannot tell whether it would wait.

use libc::RWF_NOWAIT;
use rustix::io::Errno;

use crate::descriptor::{Granted, Kind, Pace};
use crate::host;
use crate::transport::Parts;

const PAGE: usize = 4096;
/// A write of at most this is not worth waking a thread for.
const SMALL: usize = 64 * 1024;

/// How far a transfer came without waiting.
pub enum Moved {
    Over(Result<usize, Errno>),
    /// So much is done; the rest would wait.
    Slow(usize),
}

/// What can be read and written here.
pub fn check(granted: &Granted) -> Result<(), Errno> {
    if granted.kind == Kind::File || granted.kind.is_stream() { Ok(()) } else { Err(Errno::INVAL) }
}

pub fn read(granted: &mut Granted, to: &Parts, offset: i64) -> Moved {
    let length = to.length();
    if length == 0 {
        return Moved::Over(Ok(0));
    }
    let result = match granted.reads {
        Pace::Tells => host::read(&granted.file, to, offset, RWF_NOWAIT),
        Pace::Quick => return Moved::Over(host::read(&granted.file, to, offset, 0)),
        Pace::Unknown => return Moved::Slow(0),
    };
    let done = match result {
        Ok(done) => done,
        Err(Errno::AGAIN) if granted.kind == Kind::File => return Moved::Slow(0),
        Err(Errno::OPNOTSUPP) => {
            granted.reads = pace(granted);
            return read(granted, to, offset);
        }
        Err(error) => return Moved::Over(Err(error)),
    };
    let within = offset != host::OWN && !(offset as usize).wrapping_add(done).is_multiple_of(PAGE);
    if done == 0 || done == length || within || granted.kind != Kind::File {
        return Moved::Over(Ok(done));
    }
    let mut rest = to.clone();
    rest.skip(done);
    match host::read(&granted.file, &rest, behind(offset, done), RWF_NOWAIT) {
        Ok(0) => Moved::Over(Ok(done)),
        Ok(more) if done + more == length => Moved::Over(Ok(length)),
        Ok(more) => Moved::Slow(done + more),
        Err(Errno::AGAIN) => Moved::Slow(done),
        Err(_) => Moved::Over(Ok(done)),
    }
}

pub fn write(granted: &mut Granted, from: &Parts, offset: i64) -> Moved {
    let length = from.length();
    let result = match granted.writes {
        Pace::Tells => host::write(&granted.file, from, offset, RWF_NOWAIT),
        Pace::Unknown if length > SMALL => return Moved::Slow(0),
        _ => return Moved::Over(host::write(&granted.file, from, offset, 0)),
    };
    match result {
        Ok(done) if done < length && granted.kind == Kind::File => Moved::Slow(done),
        Err(Errno::AGAIN) if granted.kind == Kind::File => Moved::Slow(0),
        Err(Errno::OPNOTSUPP) => {
            granted.writes = pace(granted);
            write(granted, from, offset)
        }
        result => Moved::Over(result),
    }
}

/// The pace of what cannot tell. Pipes and terminals do not wait.
fn pace(granted: &Granted) -> Pace {
    if granted.kind == Kind::File { Pace::of(&granted.file) } else { Pace::Quick }
}

/// The rest of a transfer, on a thread that may wait: bytes in all.
pub fn finish(
    granted: &Granted,
    mut parts: Parts,
    offset: i64,
    done: usize,
    write: bool,
) -> Result<usize, Errno> {
    parts.skip(done);
    let transfer = if write { host::write } else { host::read };
    loop {
        match transfer(&granted.file, &parts, behind(offset, done), 0) {
            Ok(more) => return Ok(done + more),
            Err(Errno::INTR) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(done),
        }
    }
}

fn behind(offset: i64, done: usize) -> i64 {
    if offset == host::OWN { offset } else { offset.saturating_add(done as i64) }
}
