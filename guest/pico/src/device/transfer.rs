//! Reads and writes on descriptors.
//!
//! A read at an offset asks for what is in the page cache (RWF_NOWAIT); the rest is left to an I/O
//! thread. A short answer that ends with a page is tried once more, because a program may take a short read
//! of a file for its end; one that ends within a page is the end, for caches hold whole pages. Until the operation is complete, its handle and user memory belong to it: the library OS does
//! not close the handle before.

use alloc::vec::Vec;

use abi::{Code, Handle};
use entry::user_memory;
use linux_raw_sys::{errno, general as linux};
use machine::{PAGE, Sink, Source, Ticket, Transfer, UserRange};

use super::control;
use crate::{host, io};

/// `struct iovec`.
pub type Part = [u64; 2];

/// Linux's UIO_MAXIOV; longer lists are cut, which is a short transfer.
const MOST: usize = 1024;
const FEW: usize = 8;

/// A checked list of memory ranges.
pub enum Parts {
    Few([Part; FEW], usize),
    Many(Vec<Part>),
}

impl Parts {
    pub fn sink(to: Sink<'_>) -> Result<Self, Code> {
        match to {
            Sink::User(ranges) => Self::user(ranges),
            Sink::Kernel(bytes) => Ok(Self::one(bytes.as_mut_ptr() as u64, bytes.len())),
        }
    }

    pub fn source(from: Source<'_>) -> Result<Self, Code> {
        match from {
            Source::User(ranges) => Self::user(ranges),
            Source::Kernel(bytes) => Ok(Self::one(bytes.as_ptr() as u64, bytes.len())),
        }
    }

    fn one(address: u64, length: usize) -> Self {
        let mut few = [[0; 2]; FEW];
        few[0] = [address, length as u64];
        Self::Few(few, 1)
    }

    fn user(ranges: &[UserRange]) -> Result<Self, Code> {
        let ranges = &ranges[..ranges.len().min(MOST)];
        if ranges.iter().any(|range| range.length > 0 && range.end() > abi::address::USER_END) {
            return Err(Code(errno::EFAULT as u16));
        }
        let part = |range: &UserRange| [range.address, range.length];
        if ranges.len() > FEW {
            return Ok(Self::Many(ranges.iter().map(part).collect()));
        }
        let mut few = [[0; 2]; FEW];
        few.iter_mut().zip(ranges).for_each(|(to, range)| *to = part(range));
        Ok(Self::Few(few, ranges.len()))
    }

    fn list(&self) -> &[Part] {
        match self {
            Self::Few(parts, count) => &parts[..*count],
            Self::Many(parts) => parts,
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Part> {
        self.list().iter()
    }

    pub fn pointer(&self) -> u64 {
        self.list().as_ptr() as u64
    }

    pub fn count(&self) -> u64 {
        self.list().len() as u64
    }

    pub fn length(&self) -> u64 {
        self.iter().fold(0, |sum, part| sum.saturating_add(part[1]))
    }

    fn behind(&self, done: u64) -> Vec<Part> {
        behind(self.list(), done)
    }

    fn read(&self, file: u32, offset: u64, flags: u32) -> Result<u64, Code> {
        transfer(linux::__NR_preadv2, file, self.list(), offset, flags)
    }

    pub fn write(&self, file: u32, offset: u64) -> Result<u64, Code> {
        transfer(linux::__NR_pwritev2, file, self.list(), offset, 0)
    }
}

/// What is left behind the first `done` bytes.
fn behind(parts: &[Part], mut done: u64) -> Vec<Part> {
    let mut rest = Vec::with_capacity(parts.len());
    for &[address, length] in parts {
        let skip = done.min(length);
        done -= skip;
        if length > skip {
            rest.push([address + skip, length - skip]);
        }
    }
    rest
}

/// One preadv2 or pwritev2 on checked parts; offset -1 is the file's own position, or a stream.
pub fn transfer(number: u32, file: u32, parts: &[Part], offset: u64, flags: u32) -> Result<u64, Code> {
    let arguments = [file as u64, parts.as_ptr() as u64, parts.len() as u64, offset, 0, flags as u64];
    // SAFETY: each part is user memory, or a Rust slice that the caller borrowed for this direction.
    unsafe { host::call(number, arguments) }
}

/// What a non-blocking call's result means.
pub fn outcome(result: Result<u64, Code>) -> Result<Transfer, Code> {
    match result {
        Ok(length) => Ok(Transfer::Done(length as usize)),
        Err(Code(code)) if code as u32 == errno::EAGAIN => Ok(Transfer::NotReady),
        Err(code) => Err(code),
    }
}

/// See [`machine::Device::read`].
pub fn read(handle: Handle, offset: Option<u64>, to: Sink<'_>) -> Result<Transfer, Code> {
    let waits = matches!(to, Sink::Kernel(_));
    let parts = Parts::sink(to)?;
    let file = handle.descriptor();
    let Some(offset) = offset else { return outcome(parts.read(file, u64::MAX, 0)) };
    if offset > i64::MAX as u64 {
        return Err(Code(errno::EINVAL as u16));
    }
    if waits {
        return parts.read(file, offset, 0).map(|length| Transfer::Done(length as usize));
    }
    let mut done = 0;
    let missed = match parts.read(file, offset, linux::RWF_NOWAIT) {
        Ok(length) if length == 0 || length == parts.length() || !(offset + length).is_multiple_of(PAGE) => {
            done = length;
            false
        }
        Ok(length) => {
            done = length;
            let next =
                transfer(linux::__NR_preadv2, file, &parts.behind(done), offset + done, linux::RWF_NOWAIT);
            done += next.unwrap_or(0);
            next.is_ok_and(|next| next > 0) && done < parts.length()
                || next == Err(Code(errno::EAGAIN as u16))
        }
        Err(Code(code)) if code as u32 == errno::EAGAIN => true,
        Err(Code(code)) if code as u32 == errno::EOPNOTSUPP => {
            done = parts.read(file, offset, 0)?;
            false
        }
        Err(code) => return Err(code),
    };
    if !missed {
        return Ok(Transfer::Done(done as usize));
    }
    Ok(later(file, offset + done, parts.behind(done), done))
}

/// Leaves the rest of a read to an I/O thread.
fn later(file: u32, offset: u64, parts: Vec<Part>, done: u64) -> Transfer {
    let ticket = control::ticket();
    io::start(io::Job { ticket, file, offset, parts, done });
    Transfer::Later(Ticket(ticket))
}

/// See [`machine::Device::finish`].
pub fn finish(Ticket(ticket): Ticket, length: u64) -> Result<Transfer, Code> {
    let Some((job, bytes)) = io::take(ticket) else { return Ok(Transfer::Done(length as usize)) };
    let read = &bytes[..(length.saturating_sub(job.done) as usize).min(bytes.len())];
    let brought = bring(read, &job.parts);
    let done = job.done + brought as u64;
    if brought < read.len() && done == 0 {
        return Err(Code(errno::EFAULT as u16));
    }
    let rest = behind(&job.parts, brought as u64);
    // Fewer than asked for: the end, an error that the next call will meet, or a place that cannot be written.
    if brought < bytes.len() || rest.is_empty() {
        return Ok(Transfer::Done(done as usize));
    }
    Ok(later(job.file, job.offset + brought as u64, rest, done))
}

/// Copies to user memory; how much of it could be.
fn bring(bytes: &[u8], parts: &[Part]) -> usize {
    let mut brought = 0;
    for &[address, length] in parts {
        let now = &bytes[brought..bytes.len().min(brought + length as usize)];
        if user_memory::copy_out(abi::address::USER_END, now, address).is_err() {
            break;
        }
        brought += now.len();
    }
    brought
}

/// See [`machine::Device::write`].
pub fn write(handle: Handle, offset: Option<u64>, from: Source<'_>) -> Result<Transfer, Code> {
    if offset.is_some_and(|offset| offset > i64::MAX as u64) {
        return Err(Code(errno::EINVAL as u16));
    }
    outcome(Parts::source(from)?.write(handle.descriptor(), offset.unwrap_or(u64::MAX)))
}
