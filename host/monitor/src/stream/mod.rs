//! Standard streams: which descriptor the island gets for each.
//!
//! Nothing is granted that could be used for more than reading or writing a stream. A regular file opened
//! for one direction is granted as it is, and so is /dev/full or its like; a pipe is opened again, so that the island has an open
//! description of its own and the caller's never becomes non-blocking; anything else (a terminal, a socket)
//! stays with the monitor, behind a pipe and a copying thread.

mod copy;
mod keeper;
mod pseudo;
mod terminal;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use abi::boot::Stream;
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fstat, major, minor, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::serve::{Granted, Object};

pub use copy::Copying;
pub use pseudo::{Kept, Pseudo, Terminal};

/// Device numbers (null(4), full(4)).
const MEMORY_DEVICES: u32 = 1;
const NULL: u32 = 3;

/// The standard streams cannot be connected.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("{0}")]
    Host(#[from] Errno),
    #[error("{0}")]
    Thread(#[from] std::io::Error),
    #[error("-it needs a terminal, and standard input is none; leave -t out, or run it in a terminal")]
    NoTerminal,
}

/// The connected streams.
pub struct Streams {
    /// What the island is told of each.
    pub granted: [Stream; 3],
    pub copying: Vec<Copying>,
    /// The island's terminal, if it has one.
    pub pseudo: Option<Pseudo>,
}

/// A direction, seen from the island.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

impl Streams {
    /// Connects the caller's standard streams.
    pub fn connect(interactive: bool, terminal: bool, granted: &mut Granted) -> Result<Self, StreamError> {
        if terminal {
            let (pseudo, handle) = Pseudo::open(interactive, granted)?;
            let all = [Stream::Terminal(handle); 3];
            return Ok(Self { granted: all, copying: Vec::new(), pseudo: Some(pseudo) });
        }
        let mut copying = Vec::new();
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let input = if interactive {
            one(stdin.as_fd(), Direction::In, granted, &mut copying)?
        } else {
            Stream::Null
        };
        let output = one(stdout.as_fd(), Direction::Out, granted, &mut copying)?;
        let error = one(stderr.as_fd(), Direction::Out, granted, &mut copying)?;
        Ok(Self { granted: [input, output, error], copying, pseudo: None })
    }
}

fn one(
    ours: BorrowedFd,
    direction: Direction,
    granted: &mut Granted,
    copying: &mut Vec<Copying>,
) -> Result<Stream, Errno> {
    let kind = FileType::from_raw_mode(fstat(ours)?.st_mode);
    let mode = match direction {
        Direction::In => OFlags::RDONLY,
        Direction::Out => OFlags::WRONLY,
    };
    let one_way = fcntl_getfl(ours)? & OFlags::RWMODE == mode;
    let device = fstat(ours)?.st_rdev;
    let memory_device = kind == FileType::CharacterDevice && major(device) == MEMORY_DEVICES;
    if memory_device && minor(device) == NULL {
        return Ok(Stream::Null);
    }
    if (kind == FileType::RegularFile || memory_device) && one_way {
        let file = fcntl_dupfd_cloexec(ours, 0)?;
        return Ok(Stream::File(granted.add(file, Object::stream)?));
    }
    if kind == FileType::Fifo && one_way {
        let again = format!("/proc/self/fd/{}", ours.as_raw_fd());
        if let Ok(pipe) = open(again, mode | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            return Ok(Stream::Pipe(granted.add(pipe, Object::stream)?));
        }
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let ours = fcntl_dupfd_cloexec(ours, 0)?;
    let theirs = match direction {
        Direction::In => {
            copying.push(Copying::input(ours, write));
            read
        }
        Direction::Out => {
            copying.push(Copying::output(read, ours));
            write
        }
    };
    rustix::io::ioctl_fionbio(&theirs, true)?;
    Ok(Stream::Pipe(granted.add(theirs, Object::stream)?))
}

/// A duplicate of a descriptor, for a thread or a process of its own.
fn duplicate(file: BorrowedFd) -> Result<OwnedFd, Errno> {
    fcntl_dupfd_cloexec(file, 0)
}
