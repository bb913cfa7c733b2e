//! Calls that send and receive on sockets: send(2), recv(2) and their kin.
//!
//! A message's header and ranges are read once, before the first attempt; what comes back beside the
//! data (address, descriptors, flags) is written when the attempt has succeeded.

mod receiving;
mod sending;

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::UserRange;

use super::waiting::Operation;
use super::{Call, range};
use crate::errno::{Errno, Result};
use crate::file::Description;
use crate::thread::Thread;
use crate::user::{self, TRANSFER_MAX};

pub use receiving::{recvfrom, recvmmsg, recvmsg};
pub use sending::{sendmmsg, sendmsg, sendto};

/// Bytes of `struct msghdr` and `struct mmsghdr`.
const HEADER: usize = 56;
const VECTOR_HEADER: u64 = 64;
const CONTROL_MAX: u64 = 64 << 10;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
const SOL_SOCKET: u32 = 1;
const SOL_UDP: u32 = 17;
/// Length of the datagrams that data is to be cut to.
const UDP_SEGMENT: u32 = 103;
/// Messages in one sendmmsg or recvmmsg (UIO_MAXIOV).
const VECTOR_MAX: u32 = 1024;

/// Where a message's bytes are; the common case takes no memory.
enum Ranges {
    One([UserRange; 1]),
    Many(Vec<UserRange>),
}

impl Ranges {
    fn one(address: u64, length: u64) -> Self {
        Self::One([range(address, length.min(TRANSFER_MAX))])
    }

    fn read(thread: &Arc<Thread>, address: u64, count: u64) -> Result<Self> {
        if count == 1 {
            let bytes: [u8; 16] = user::read(thread, address)?;
            return Ok(Self::one(word(&bytes, 0), word(&bytes, 8)));
        }
        match user::read_ranges(thread, address, count) {
            Err(Errno::EINVAL) => Err(Errno::EMSGSIZE),
            other => other.map(Self::Many),
        }
    }

    fn all(&self) -> &[UserRange] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }

    fn length(&self) -> u64 {
        self.all().iter().map(|range| range.length).sum()
    }

    /// Drops the first bytes.
    fn advance(&mut self, count: u64) {
        match self {
            Self::One([one]) => {
                one.address = one.address.wrapping_add(count);
                one.length = one.length.saturating_sub(count);
            }
            Self::Many(many) => user::advance(many, count),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// `struct msghdr`, as the caller gave it.
#[derive(Clone, Copy)]
struct Header {
    at: u64,
    name: u64,
    name_length: u32,
    ranges: u64,
    count: u64,
    control: u64,
    control_length: u64,
}

impl Header {
    fn read(thread: &Arc<Thread>, at: u64) -> Result<Self> {
        let bytes: [u8; HEADER] = user::read(thread, at)?;
        Ok(Self {
            at,
            name: word(&bytes, 0),
            name_length: half(&bytes, 8),
            ranges: word(&bytes, 16),
            count: word(&bytes, 24),
            control: word(&bytes, 32),
            control_length: word(&bytes, 40),
        })
    }
}

/// Several messages, one after the other.
struct Several<O> {
    description: Arc<Description>,
    at: u64,
    count: u32,
    done: u32,
    flags: u32,
    current: Option<O>,
    begin: Begin<O>,
    /// What applies to all but the first attempt (MSG_WAITFORONE).
    only_first_waits: bool,
}

impl<O: Operation> Operation for Several<O> {
    fn attempt(&mut self, thread: &Arc<Thread>) -> Result<Option<u64>> {
        while self.done < self.count {
            let at = self.at.wrapping_add(u64::from(self.done) * VECTOR_HEADER);
            match self.one(thread, at) {
                Ok(Some(length)) => {
                    let length = (length as u32).to_le_bytes();
                    self.current = None;
                    user::write(thread, at.wrapping_add(HEADER as u64), &length)?;
                    self.done += 1;
                }
                Ok(None) if self.done > 0 && self.only_first_waits => break,
                Ok(None) => {
                    // What has gone of a message counts if there will be no more.
                    if let Some(length) = self.current.as_ref().and_then(O::partial) {
                        user::write(thread, at.wrapping_add(HEADER as u64), &(length as u32).to_le_bytes())?;
                    }
                    return Ok(None);
                }
                Err(_) if self.done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(Some(u64::from(self.done)))
    }

    fn partial(&self) -> Option<u64> {
        let begun = self.current.as_ref().and_then(O::partial).is_some();
        Some(u64::from(self.done) + u64::from(begun)).filter(|done| *done > 0)
    }
}

type Begin<O> = fn(&Arc<Thread>, &Arc<Description>, &Header, u32) -> Result<O>;

impl<O: Operation> Several<O> {
    /// As many as sendmmsg(2) and recvmmsg(2) are given.
    fn new(call: &Call<'_>, description: &Arc<Description>, flags: u32, begin: Begin<O>) -> Self {
        Self {
            description: description.clone(),
            at: call.arguments[1],
            count: call.word(2).min(VECTOR_MAX),
            done: 0,
            flags,
            current: None,
            begin,
            only_first_waits: false,
        }
    }

    fn one(&mut self, thread: &Arc<Thread>, at: u64) -> Result<Option<u64>> {
        let mut operation = match self.current.take() {
            Some(operation) => operation,
            None => {
                let header = Header::read(thread, at)?;
                (self.begin)(thread, &self.description, &header, self.flags)?
            }
        };
        let result = operation.attempt(thread);
        self.current = Some(operation);
        result
    }
}
