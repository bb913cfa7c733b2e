//! What the stack tells of itself.

use alloc::vec::Vec;

use abi::Code;
use machine::Readiness;

/// The name of a socket. Names are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket(pub u64);

impl Socket {
    pub(crate) fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    pub(crate) fn index(self) -> u32 {
        self.0 as u32
    }
}

/// The name of a question to a name server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query(pub u64);

/// Something has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A socket has become ready, or more so: one event per change.
    Ready { socket: Socket, readiness: Readiness },
    /// A connection stands, or failed; in this case the socket is gone.
    Connected { socket: Socket, result: Result<(), Code> },
    /// A name server has answered, or none has.
    Resolved { query: Query, result: Result<Vec<u8>, Code> },
}

/// An event that is still to be told; a socket's is looked up when it is.
pub(crate) enum Notice {
    Connection(u32),
    Socket(u32),
    Resolved(Query, Result<Vec<u8>, Code>),
}

/// errno(3).
pub(crate) mod code {
    use abi::Code;

    pub const BAD_HANDLE: Code = Code(9);
    pub const INVALID: Code = Code(22);
    pub const PIPE: Code = Code(32);
    pub const TOO_LONG: Code = Code(90);
    pub const IN_USE: Code = Code(98);
    pub const NOT_AVAILABLE: Code = Code(99);
    pub const UNREACHABLE_NETWORK: Code = Code(101);
    pub const RESET: Code = Code(104);
    pub const NOT_CONNECTED: Code = Code(107);
    pub const TIMED_OUT: Code = Code(110);
    pub const REFUSED: Code = Code(111);
    pub const UNREACHABLE_HOST: Code = Code(113);
}
