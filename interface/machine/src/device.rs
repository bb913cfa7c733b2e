//! What was granted to the guest, and how it is used.
//!
//! A read or write is tried at once. If the device is not ready, the answer is [`Transfer::NotReady`]
//! and an [`Event::Ready`] follows a later change (edge-triggered: one event per change, none for what
//! was so before [`Device::watch`] unless it still is then). If the device is slow (a disk), the answer
//! is [`Transfer::Later`] and an [`Event::Completed`] follows.

use abi::network::{Address, Shutdown, SocketOption};
use abi::request::{Reply, Request};
use abi::terminal::Window;
use abi::{Code, Handle};
use bitflags::bitflags;

use crate::memory::{Space, UserRange};

/// The number of an operation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A request that is answered already, or will be by an [`Event::Completed`] with this ticket.
#[derive(Debug)]
pub enum Started {
    Ready(Result<Reply, Code>),
    Later(Ticket),
}

/// How far a read or write came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Bytes transferred; 0 is the end of the data. Fewer than a stream was asked for: the rest is not ready, and an
    /// event follows as for `NotReady`.
    Done(usize),
    /// Nothing now: wait for readiness.
    NotReady,
    /// Under way: `Reply::Number` with the bytes transferred follows, and is to be passed to [`Device::finish`].
    Later(Ticket),
}

/// Where read data goes.
pub enum Sink<'a> {
    User(&'a [UserRange]),
    Kernel(&'a mut [u8]),
}

/// Where written data comes from.
pub enum Source<'a> {
    User(&'a [UserRange]),
    Kernel(&'a [u8]),
}

bitflags! {
    /// What a handle is ready for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Readiness: u8 {
        const READ = 1;
        const WRITE = 2;
        /// The peer has ended its direction.
        const READ_END = 4;
        /// Both directions are over.
        const HANGUP = 8;
        const ERROR = 16;
    }
}

/// Something that happened outside.
#[derive(Debug)]
pub enum Event {
    Ready {
        handle: Handle,
        readiness: Readiness,
    },
    Completed {
        ticket: Ticket,
        result: Result<Reply, Code>,
    },
    /// The monitor passes a signal on to the service.
    Signal(u8),
    /// The terminal's window has changed.
    Window(Window),
    /// Memory has run out, and this space has most of it. Applications that need more may not go on before some is
    /// given back; the library OS itself has some left.
    OutOfMemory(Space),
}

/// Granted objects. Every error is the host's claim, already limited to Linux's error numbers.
pub trait Device {
    /// Starts a request.
    fn request(&self, request: Request<'_>) -> Started;

    /// Reads at an offset of a file, or (`None`) from a stream or at a file's own position. From kernel
    /// memory an answer `Later` is never given for [`Sink::Kernel`]: such a read waits for the disk.
    fn read(&self, handle: Handle, offset: Option<u64>, to: Sink<'_>) -> Result<Transfer, Code>;

    /// Writes at an offset of a file, or (`None`) to a stream or at a file's own position.
    fn write(&self, handle: Handle, offset: Option<u64>, from: Source<'_>) -> Result<Transfer, Code>;

    /// Brings what a transfer has read to where it belongs, in the space that it was begun in: what was answered for
    /// it comes here before it is believed. It may go on with the rest, under another ticket.
    fn finish(&self, ticket: Ticket, length: u64) -> Result<Transfer, Code>;

    /// Receives from a socket; with `peek` the data stays. A datagram's source comes along, and its full
    /// length, which may exceed the sink.
    fn receive(&self, handle: Handle, to: Sink<'_>, peek: bool) -> Result<(Transfer, Option<Address>), Code>;

    /// Sends on a connected socket; `more` holds the last part back for what follows (MSG_MORE).
    fn send(&self, handle: Handle, from: Source<'_>, more: bool) -> Result<Transfer, Code>;

    /// Takes a connection from a listening socket, if there is one.
    fn accept(&self, handle: Handle) -> Result<Option<(Handle, Address)>, Code>;

    fn shutdown(&self, handle: Handle, how: Shutdown) -> Result<(), Code>;

    fn set_option(&self, handle: Handle, option: SocketOption) -> Result<(), Code>;

    /// Begins to report readiness of a handle. Until more is known it counts as ready to be read and written; what is
    /// reported at once is that it is over.
    fn watch(&self, handle: Handle) -> Result<(), Code>;

    /// Gives a handle back. Mappings of a file stay; those of a memory object may fault from then on,
    /// because its memory counts as given back.
    fn close(&self, handle: Handle);
}
