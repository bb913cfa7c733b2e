//! The control channel: sequenced packets, one message each, never blocking the monitor.
//!
//! Answers that the guest does not take wait in a queue; while it is long, no further requests are read, so
//! a guest that asks without listening holds up nobody but itself.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use abi::MESSAGE_MAX;
use abi::message::{ToGuest, encode};
use abi::request::Reply;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socketpair,
};

/// Messages that may wait before requests are no longer read.
const WAITING: usize = 256;

/// How long to wait where the caller has too many descriptors on their way (unix(7)).
const CROWDED: Duration = Duration::from_millis(2);

/// The monitor's end.
pub struct Channel {
    socket: Arc<OwnedFd>,
    waiting: VecDeque<Waiting>,
    closer: Closer,
}

struct Waiting {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
    is_socket: bool,
}

/// Closes sockets that the guest has as well, on a thread of its own: if the guest has set SO_LINGER and closed its
/// descriptor, whoever closes the last one waits (socket(7)).
#[derive(Default)]
struct Closer(Option<mpsc::Sender<OwnedFd>>);

impl Closer {
    fn close(&mut self, socket: OwnedFd) {
        let closing = self.0.get_or_insert_with(|| {
            let (sender, sockets) = mpsc::channel();
            // Without a thread nobody takes them, and they are closed here.
            let _ = thread::Builder::new().stack_size(64 * 1024).spawn(|| sockets.into_iter().for_each(drop));
            sender
        });
        let _ = closing.send(socket);
    }
}

/// A way for other threads to send past what waits.
pub struct Aside(Arc<OwnedFd>);

impl Aside {
    /// Sends a message if the guest takes it at once.
    pub fn send(&self, message: &ToGuest) -> bool {
        encode(message).is_ok_and(|bytes| send_one(&self.0, &bytes, None).is_ok())
    }
}

/// The guest's end is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// What became of a message to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Taken,
    /// It does not fit into a packet.
    TooLong,
}

impl Channel {
    /// A channel and the guest's end of it.
    pub fn new() -> Result<(Self, OwnedFd), Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self { socket: Arc::new(ours), waiting: VecDeque::new(), closer: Closer::default() }, theirs))
    }

    /// The next message's length, if there is one. Descriptors a guest sends along are closed unseen.
    pub fn receive(&self, buffer: &mut [u8; MESSAGE_MAX + 1]) -> Result<Option<usize>, Closed> {
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Closed),
                Ok((length, _)) => return Ok(Some(length)),
                Err(Errno::AGAIN) => return Ok(None),
                // It closed its side with messages of ours unread. That is said once, before what it has sent.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(_) => return Err(Closed),
            }
        }
    }

    /// Sends a message, or queues it.
    pub fn send(&mut self, message: &ToGuest, descriptor: Option<OwnedFd>) -> Sent {
        let Ok(bytes) = encode(message) else { return Sent::TooLong };
        let is_socket = matches!(message, ToGuest::Reply { result: Ok(Reply::Socket { .. }), .. });
        self.waiting.push_back(Waiting { bytes, descriptor, is_socket });
        self.flush();
        Sent::Taken
    }

    /// Sends what waits, as far as the guest takes it.
    pub fn flush(&mut self) {
        while let Some(Waiting { bytes, descriptor, is_socket }) = self.waiting.front_mut() {
            match send_one(&self.socket, bytes, descriptor.as_ref()) {
                Err(Errno::AGAIN | Errno::NOBUFS) => return,
                // The socket stays writable meanwhile, so that nobody would wait.
                Err(Errno::TOOMANYREFS) => return thread::sleep(CROWDED),
                Err(Errno::INTR) => {}
                // A guest that is gone takes no answers; its end is noticed elsewhere.
                Ok(()) | Err(_) => {
                    if let Some(socket) = descriptor.take().filter(|_| *is_socket) {
                        self.closer.close(socket);
                    }
                    self.waiting.pop_front();
                }
            }
        }
    }

    pub fn aside(&self) -> Aside {
        Aside(self.socket.clone())
    }

    /// Whether anything waits for the guest.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether requests should be read.
    pub fn is_open_for_requests(&self) -> bool {
        self.waiting.len() < WAITING
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn send_one(socket: &OwnedFd, bytes: &[u8], descriptor: Option<&OwnedFd>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_word_comes_through_what_was_not_heard() {
        let (mut channel, guest) = Channel::new().unwrap();
        assert_eq!(channel.send(&ToGuest::Signal(15), None), Sent::Taken);
        rustix::net::send(&guest, b"word", SendFlags::empty()).unwrap();
        drop(guest);
        let mut buffer = [0; MESSAGE_MAX + 1];
        assert_eq!(channel.receive(&mut buffer), Ok(Some(4)));
        assert_eq!(&buffer[..4], b"word");
        assert_eq!(channel.receive(&mut buffer), Err(Closed));
    }
}
