//! User memory as a place to put bytes, or to take them from.

use alloc::vec::Vec;

use abi::address::USER_END;
use entry::user_memory;
use machine::{Fault, UserRange};

/// Where bytes go.
pub struct Sink<'a> {
    to: machine::Sink<'a>,
    done: u64,
}

impl<'a> Sink<'a> {
    pub fn new(to: machine::Sink<'a>) -> Self {
        Self { to, done: 0 }
    }

    /// Bytes that still fit.
    pub fn room(&self) -> u64 {
        let all = match &self.to {
            machine::Sink::User(ranges) => length(ranges),
            machine::Sink::Kernel(bytes) => bytes.len() as u64,
        };
        all - self.done
    }

    /// Puts what fits; how much.
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut put = 0;
        match &mut self.to {
            machine::Sink::Kernel(to) => {
                let to = &mut to[self.done as usize..];
                put = bytes.len().min(to.len());
                to[..put].copy_from_slice(&bytes[..put]);
            }
            machine::Sink::User(ranges) => {
                let mut skip = self.done;
                for range in *ranges {
                    if skip >= range.length {
                        skip -= range.length;
                        continue;
                    }
                    let count = (range.length - skip).min((bytes.len() - put) as u64) as usize;
                    if count == 0 {
                        break;
                    }
                    user_memory::copy_out(USER_END, &bytes[put..put + count], range.address + skip)?;
                    put += count;
                    skip = 0;
                }
            }
        }
        self.done += put as u64;
        Ok(put)
    }
}

/// Where bytes come from.
pub struct Source<'a>(machine::Source<'a>);

impl<'a> Source<'a> {
    pub fn new(from: machine::Source<'a>) -> Self {
        Self(from)
    }

    pub fn length(&self) -> usize {
        match &self.0 {
            machine::Source::User(ranges) => length(ranges) as usize,
            machine::Source::Kernel(bytes) => bytes.len(),
        }
    }

    /// Appends bytes from a place on.
    pub fn take(&self, start: usize, length: usize, to: &mut Vec<u8>) -> Result<(), Fault> {
        let at = to.len();
        to.resize(at + length, 0);
        self.copy(start, &mut to[at..])
    }

    /// Copies bytes from a place on; there are as many.
    pub fn copy(&self, start: usize, to: &mut [u8]) -> Result<(), Fault> {
        let ranges = match &self.0 {
            machine::Source::Kernel(bytes) => {
                to.copy_from_slice(&bytes[start..start + to.len()]);
                return Ok(());
            }
            machine::Source::User(ranges) => *ranges,
        };
        let (mut at, mut skip) = (0, start as u64);
        for range in ranges {
            if at == to.len() {
                break;
            }
            if skip >= range.length {
                skip -= range.length;
                continue;
            }
            let count = (range.length - skip).min((to.len() - at) as u64) as usize;
            user_memory::copy_in(USER_END, range.address + skip, &mut to[at..at + count])?;
            at += count;
            skip = 0;
        }
        Ok(())
    }
}

fn length(ranges: &[UserRange]) -> u64 {
    ranges.iter().fold(0, |sum, range| sum.saturating_add(range.length))
}
