//! What was granted, by number: the descriptors this process holds in the guest's stead.
//!
//! Invariants: a number means the same descriptor until it is closed, and is given again only after all
//! others, so that what was under way for a closed one never meets another. Numbers are not the kernel's:
//! those that the process needs for itself have none.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use abi::pico::descriptor::FIRST_FREE;
use rustc_hash::FxHashMap;
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat, fstatfs};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

/// Numbers end here.
const END: u32 = 1 << 20;

/// What is known of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read and written at offsets; never polled.
    File,
    /// A pipe: bytes, and no socket.
    Stream,
    /// The same, and it may end and go on.
    Terminal,
    /// A connected stream socket.
    Socket,
    /// A socket of packets without connections: an empty packet is one.
    Datagram,
    /// One end of a pair of sequenced packets: an empty packet is its end.
    Packets,
    /// Connections come.
    Listener,
}

/// Whether a transfer may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The file system tells (RWF_NOWAIT), or has not been asked.
    Tells,
    /// It cannot tell, and never waits: it is memory.
    Quick,
    /// It cannot tell.
    Unknown,
}

/// A descriptor.
#[derive(Clone, Debug)]
pub struct Granted {
    pub file: Arc<OwnedFd>,
    pub kind: Kind,
    pub reads: Pace,
    pub writes: Pace,
}

impl Granted {
    fn new(file: OwnedFd, kind: Kind) -> Self {
        Self { file: Arc::new(file), kind, reads: Pace::Tells, writes: Pace::Tells }
    }
}

/// All descriptors.
pub struct Table {
    granted: FxHashMap<u32, Granted>,
    next: u32,
    closed: u64,
}

impl Table {
    /// A table with what was granted from the start.
    pub fn new(granted: impl IntoIterator<Item = OwnedFd>) -> Self {
        let mut table = Self { granted: FxHashMap::default(), next: FIRST_FREE, closed: 0 };
        for file in granted {
            let kind = Kind::of(&file);
            // There are three or four.
            table.granted.insert(table.next, Granted::new(file, kind));
            table.next += 1;
        }
        table
    }

    pub fn get(&self, number: u64) -> Result<&Granted, Errno> {
        u32::try_from(number).ok().and_then(|number| self.granted.get(&number)).ok_or(Errno::BADF)
    }

    pub fn get_mut(&mut self, number: u64) -> Result<&mut Granted, Errno> {
        u32::try_from(number).ok().and_then(|number| self.granted.get_mut(&number)).ok_or(Errno::BADF)
    }

    /// Keeps a descriptor under a new number.
    pub fn keep(&mut self, file: OwnedFd, kind: Kind) -> Result<u32, Errno> {
        if self.granted.len() >= (END - FIRST_FREE) as usize {
            return Err(Errno::NFILE);
        }
        while self.granted.contains_key(&self.next) {
            self.advance();
        }
        let number = self.next;
        self.advance();
        self.granted.insert(number, Granted::new(file, kind));
        Ok(number)
    }

    fn advance(&mut self) {
        self.next = if self.next + 1 < END { self.next + 1 } else { FIRST_FREE };
    }

    /// How many descriptors were let go of.
    pub fn closed(&self) -> u64 {
        self.closed
    }

    /// Lets go of a descriptor. It is closed when nobody uses it any more.
    pub fn forget(&mut self, number: u32) -> Option<Granted> {
        self.closed += 1;
        self.granted.remove(&number)
    }
}

impl Pace {
    /// The pace of a file system that cannot tell.
    pub fn of(file: &OwnedFd) -> Self {
        // linux/magic.h: tmpfs, ramfs, proc, sysfs, control groups.
        const MEMORY: &[u64] = &[0x0102_1994, 0x8584_58f6, 0x9fa0, 0x6265_6572, 0x6367_7270];
        match fstatfs(file) {
            Ok(found) if MEMORY.contains(&(found.f_type as u64)) => Self::Quick,
            _ => Self::Unknown,
        }
    }
}

/// Whether a character device is a terminal, by its number (devices.txt: 4, 5 and 136 to 143).
fn is_terminal(file: &OwnedFd) -> bool {
    let number = fstat(file).map_or(0, |found| rustix::fs::major(found.st_rdev));
    matches!(number, 4 | 5 | 136..=143)
}

impl Kind {
    /// What an inherited descriptor is; one that could make us wait is made not to.
    fn of(file: &OwnedFd) -> Self {
        let kind = match fstat(file).map(|found| FileType::from_raw_mode(found.st_mode)) {
            Ok(FileType::CharacterDevice) if is_terminal(file) => Self::Terminal,
            Ok(FileType::Fifo | FileType::CharacterDevice) => Self::Stream,
            Ok(FileType::Socket) => match (socket_type(file), socket_acceptconn(file)) {
                (_, Ok(true)) => Self::Listener,
                (Ok(SocketType::DGRAM), _) => Self::Datagram,
                (Ok(SocketType::SEQPACKET), _) => Self::Packets,
                _ => Self::Socket,
            },
            _ => return Self::File,
        };
        if let Ok(flags) = fcntl_getfl(file)
            && !flags.contains(OFlags::NONBLOCK)
        {
            // What cannot be changed stays as it was granted.
            let _ = fcntl_setfl(file, flags | OFlags::NONBLOCK);
        }
        kind
    }

    pub fn is_socket(self) -> bool {
        !matches!(self, Self::File) && !self.is_stream()
    }

    /// Whether it is a pipe or a terminal.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Stream | Self::Terminal)
    }

    /// Whether packets are framed by their length.
    pub fn is_framed(self) -> bool {
        matches!(self, Self::Datagram | Self::Packets)
    }
}
