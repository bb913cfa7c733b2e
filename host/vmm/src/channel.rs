//! The conversation with the monitor, in the guest's stead: sequenced packets, one message each.
//!
//! Messages that do not fit now wait in order. How many there can be is for the file device to bound.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use abi::MESSAGE_MAX;
use abi::message::{MessageError, ToGuest, ToMonitor, decode, encode};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

/// Our end.
pub struct Channel {
    socket: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
    /// The monitor is gone, or makes no sense.
    gone: bool,
    /// The guest has said its last word.
    spoken: bool,
}

impl Channel {
    pub fn new(socket: OwnedFd) -> Self {
        let buffer = vec![0; MESSAGE_MAX + 1];
        Self { socket, waiting: VecDeque::new(), buffer, gone: false, spoken: false }
    }

    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether something waits for the monitor to take it.
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Messages that the monitor has not taken.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the last word was said.
    pub fn has_spoken(&self) -> bool {
        self.spoken
    }

    /// Sends a message, or queues it.
    pub fn send(&mut self, message: &ToMonitor<'_>) -> Result<(), MessageError> {
        let bytes = encode(message)?;
        self.spoken |= matches!(message, ToMonitor::Exit(_));
        self.waiting.push_back(bytes);
        self.flush();
        Ok(())
    }

    /// Sends what waits, as far as it fits.
    pub fn flush(&mut self) {
        while let Some(message) = self.waiting.front() {
            match send(&self.socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => drop(self.waiting.pop_front()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return,
                Err(_) => {
                    self.gone = true;
                    return self.waiting.clear();
                }
            }
        }
    }

    /// The next message, and the descriptor that came along.
    pub fn receive(&mut self) -> Option<(ToGuest, Option<OwnedFd>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let length = loop {
            match recvmsg(&self.socket, &mut [IoSliceMut::new(&mut self.buffer)], &mut control, flags) {
                Ok(received) => break received.bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => break 0,
            }
        };
        let mut file = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                file = files.last();
            }
        }
        // Nothing at all is the end, and what is no message is as good.
        match decode(&self.buffer[..length]) {
            Ok(message) if length > 0 => Some((message, file)),
            _ => {
                self.gone = true;
                None
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
