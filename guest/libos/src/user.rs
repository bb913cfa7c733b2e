//! Reading and writing user memory by value.

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{PAGE, UserRange};

use crate::errno::{Errno, Result};
use crate::thread::Thread;

/// Most ranges in one vectored call (IOV_MAX).
const RANGES_MAX: u64 = 1024;
/// Most bytes one call transfers (MAX_RW_COUNT).
pub const TRANSFER_MAX: u64 = 0x7fff_f000;

pub fn read<const N: usize>(thread: &Arc<Thread>, address: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    thread.kernel().machine.copy_in(thread.process.space(), address, &mut bytes)?;
    Ok(bytes)
}

pub fn read_u32(thread: &Arc<Thread>, address: u64) -> Result<u32> {
    read(thread, address).map(u32::from_le_bytes)
}

pub fn read_u64(thread: &Arc<Thread>, address: u64) -> Result<u64> {
    read(thread, address).map(u64::from_le_bytes)
}

/// Several words in a row.
pub fn read_words<const N: usize>(thread: &Arc<Thread>, address: u64) -> Result<[u64; N]> {
    let mut words = [0; N];
    for (index, word) in words.iter_mut().enumerate() {
        *word = read_u64(thread, address.wrapping_add(8 * index as u64))?;
    }
    Ok(words)
}

pub fn read_vec(thread: &Arc<Thread>, address: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = alloc::vec![0; length];
    thread.kernel().machine.copy_in(thread.process.space(), address, &mut bytes)?;
    Ok(bytes)
}

/// Copies as much of a range as can be reached, and answers how much that was.
pub fn read_reachable(thread: &Arc<Thread>, address: u64, to: &mut [u8]) -> usize {
    const PAGE: u64 = 4096;
    let (machine, space) = (&thread.kernel().machine, thread.process.space());
    if machine.copy_in(space, address, to).is_ok() {
        return to.len();
    }
    let mut done = 0;
    while done < to.len() {
        let at = address.wrapping_add(done as u64);
        let end = to.len().min(done + (PAGE - at % PAGE) as usize);
        if machine.copy_in(space, at, &mut to[done..end]).is_err() {
            break;
        }
        done = end;
    }
    done
}

pub fn write(thread: &Arc<Thread>, address: u64, bytes: &[u8]) -> Result<()> {
    Ok(thread.kernel().machine.copy_out(thread.process.space(), bytes, address)?)
}

/// Writes words in a row.
pub fn write_words(thread: &Arc<Thread>, address: u64, words: &[u64]) -> Result<()> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    write(thread, address, &bytes)
}

/// A string ended by NUL of at most `limit` bytes, its NUL included; longer ones are ENAMETOOLONG.
pub fn read_string(thread: &Arc<Thread>, address: u64, limit: usize) -> Result<Vec<u8>> {
    let mut string = Vec::new();
    let mut at = address;
    let mut chunk = [0; 256];
    loop {
        // Never across a page: the next one may not be mapped.
        let length = ((PAGE - at % PAGE) as usize).min(chunk.len());
        thread.kernel().machine.copy_in(thread.process.space(), at, &mut chunk[..length])?;
        let end = chunk[..length].iter().position(|byte| *byte == 0);
        string.extend_from_slice(&chunk[..end.unwrap_or(length)]);
        if end.is_some() && string.len() < limit {
            return Ok(string);
        }
        if string.len() >= limit {
            return Err(Errno::ENAMETOOLONG);
        }
        at = at.checked_add(length as u64).ok_or(Errno::EFAULT)?;
    }
}

/// A path argument.
pub fn read_path(thread: &Arc<Thread>, address: u64) -> Result<Vec<u8>> {
    read_string(thread, address, 4096)
}

/// An array of `struct iovec` (readv(2)), cut to what one call transfers.
pub fn read_ranges(thread: &Arc<Thread>, address: u64, count: u64) -> Result<Vec<UserRange>> {
    if count > RANGES_MAX {
        return Err(Errno::EINVAL);
    }
    let bytes = read_vec(thread, address, count as usize * 16)?;
    let mut left = TRANSFER_MAX;
    let mut ranges = Vec::with_capacity(count as usize);
    for pair in bytes.chunks_exact(16) {
        let word =
            |at: usize| u64::from_le_bytes(pair[at..at + 8].try_into().expect("invariant: eight bytes"));
        if word(8) > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        let length = word(8).min(left);
        left -= length;
        ranges.push(UserRange::new(word(0), length));
    }
    Ok(ranges)
}

/// Drops the first `count` bytes of a list of ranges.
pub fn advance(ranges: &mut Vec<UserRange>, mut count: u64) {
    ranges.retain_mut(|range| {
        let taken = range.length.min(count);
        count -= taken;
        range.address = range.address.wrapping_add(taken);
        range.length -= taken;
        range.length != 0
    });
}

/// Cuts a list of ranges to its first `count` bytes.
pub fn limit(ranges: &mut Vec<UserRange>, mut count: u64) {
    ranges.retain_mut(|range| {
        range.length = range.length.min(count);
        count -= range.length;
        range.length != 0
    });
}

/// `struct timespec` as nanoseconds; EINVAL if it is none.
pub fn read_time(thread: &Arc<Thread>, address: u64) -> Result<u64> {
    let [seconds, nanoseconds] = read_words::<2>(thread, address)?;
    if seconds > i64::MAX as u64 || nanoseconds >= 1_000_000_000 {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// Writes nanoseconds as `struct timespec`.
pub fn write_time(thread: &Arc<Thread>, address: u64, time_ns: u64) -> Result<()> {
    write_words(thread, address, &[time_ns / 1_000_000_000, time_ns % 1_000_000_000])
}
