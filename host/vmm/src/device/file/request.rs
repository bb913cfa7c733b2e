//! What is asked of the file device, checked (linux/fuse.h), and how it is answered.
//!
//! Everything is copied out of the guest's memory before it is looked at. A request too short to have a
//! number is answered with nothing.

use abi::MESSAGE_MAX;
use abi::vm::fuse;
use rustix::io::Errno;

use crate::host;
use crate::transport::{Chain, Parts};

/// What to do.
pub enum Operation {
    Read { handle: u64, offset: i64, to: Parts },
    Write { handle: u64, offset: i64, from: Parts },
    Release { handle: u64 },
    Control { handle: u64, command: u32, data: Vec<u8>, room: usize },
}

/// Where the answer goes.
pub struct Answer {
    pub head: u16,
    unique: u64,
    to: Parts,
}

impl Answer {
    /// Answers with a body that is in place already; how much was written.
    pub fn in_place(&self, length: usize) -> usize {
        self.header(length, 0)
    }

    pub fn body(&self, body: &[u8]) -> usize {
        let mut to = self.to.clone();
        to.skip(fuse::OUT);
        if to.length() < body.len() {
            return self.error(Errno::TOOBIG);
        }
        to.write(body);
        self.header(body.len(), 0)
    }

    /// Answers a control request with data.
    pub fn data(&self, data: &[u8]) -> usize {
        let mut body = vec![0; fuse::IOCTL_OUT];
        body.extend_from_slice(data);
        self.body(&body)
    }

    pub fn error(&self, error: Errno) -> usize {
        self.header(0, -error.raw_os_error())
    }

    fn header(&self, length: usize, error: i32) -> usize {
        let mut header = [0; fuse::OUT];
        let length = fuse::OUT + length;
        header[..4].copy_from_slice(&(length as u32).to_le_bytes());
        header[4..8].copy_from_slice(&error.to_le_bytes());
        header[8..].copy_from_slice(&self.unique.to_le_bytes());
        if self.to.length() < fuse::OUT {
            return 0;
        }
        self.to.write(&header);
        length
    }
}

/// Takes a request apart: where its answer goes, and what it is.
pub fn parse(chain: Chain) -> (Answer, Result<Operation, Errno>) {
    let mut header = [0; fuse::IN];
    let there = chain.readable.read(&mut header);
    let answer = Answer { head: chain.head, unique: word(&header, 8), to: chain.writable };
    if there < fuse::IN {
        return (answer, Err(Errno::INVAL));
    }
    let operation = operation(&header, chain.readable, &answer.to);
    (answer, operation)
}

fn operation(header: &[u8; fuse::IN], mut from: Parts, to: &Parts) -> Result<Operation, Errno> {
    let length = half(header, 0) as usize;
    if length < fuse::IN || length > from.length() {
        return Err(Errno::INVAL);
    }
    from.truncate(length);
    from.skip(fuse::IN);
    match half(header, 4) {
        fuse::READ => {
            let own: [u8; fuse::READ_IN] = own(&mut from)?;
            let mut to = to.clone();
            to.skip(fuse::OUT);
            to.truncate(half(&own, 16) as usize);
            Ok(Operation::Read { handle: word(&own, 0), offset: offset(&own)?, to })
        }
        fuse::WRITE => {
            let own: [u8; fuse::WRITE_IN] = own(&mut from)?;
            let size = half(&own, 16) as usize;
            if size > from.length() {
                return Err(Errno::INVAL);
            }
            from.truncate(size);
            Ok(Operation::Write { handle: word(&own, 0), offset: offset(&own)?, from })
        }
        fuse::RELEASE => {
            let own: [u8; fuse::RELEASE_IN] = own(&mut from)?;
            Ok(Operation::Release { handle: word(&own, 0) })
        }
        fuse::IOCTL => {
            let own: [u8; fuse::IOCTL_IN] = own(&mut from)?;
            let (size, room) = (half(&own, 24) as usize, half(&own, 28) as usize);
            if size > from.length() {
                return Err(Errno::INVAL);
            }
            if size > MESSAGE_MAX {
                return Err(Errno::MSGSIZE);
            }
            from.truncate(size);
            let room = room.min(to.length().saturating_sub(fuse::OUT + fuse::IOCTL_OUT));
            Ok(Operation::Control {
                handle: word(&own, 0),
                command: half(&own, 12),
                data: from.to_vec(),
                room,
            })
        }
        _ => Err(Errno::NOSYS),
    }
}

/// Takes an operation's own structure off the front.
fn own<const N: usize>(from: &mut Parts) -> Result<[u8; N], Errno> {
    let mut own = [0; N];
    if from.read(&mut own) < N {
        return Err(Errno::INVAL);
    }
    from.skip(N);
    Ok(own)
}

fn offset(own: &[u8]) -> Result<i64, Errno> {
    match word(own, 8) {
        fuse::POSITION => Ok(host::OWN),
        offset => i64::try_from(offset).map_err(|_| Errno::INVAL),
    }
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}
