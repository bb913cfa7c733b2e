//! A queue of messages: what datagram and sequenced-packet sockets receive from.
//!
//! A sender who finds it full leaves his wait queue, which is told when there is room again. Queues are
//! told after the mailbox's lock is released.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::lock::Mutex;

use super::address::Name;
use super::message::{Ancillary, Received, flag};
use crate::errno::Result;
use crate::file::Description;
use crate::file::ring::Sink;
use crate::wait::WaitQueue;

/// Bytes, and messages, that may wait to be received.
const BYTES_MAX: usize = 208 << 10;
const MESSAGES_MAX: usize = 1024;
/// What a message counts for beside its data.
const OVERHEAD: usize = 64;

/// One message.
pub struct Message {
    pub data: Vec<u8>,
    pub from: Option<Name>,
    /// The address that it was sent to, where there may be several.
    pub to: Option<IpAddr>,
    pub ancillary: Ancillary,
}

#[derive(Default)]
struct Mail {
    messages: VecDeque<Message>,
    bytes: usize,
    /// No more comes: reads end.
    ended: bool,
    /// Nobody receives any more.
    refused: bool,
    /// Queues of senders who found no room.
    senders: Vec<Weak<WaitQueue>>,
}

impl Mail {
    fn full(&self) -> bool {
        self.bytes >= BYTES_MAX || self.messages.len() >= MESSAGES_MAX
    }
}

/// A queue of messages.
pub struct Mailbox {
    mail: Mutex<Mail>,
    /// Told when a message arrives.
    pub queue: Arc<WaitQueue>,
}

/// What became of a message.
pub enum Posted {
    Delivered,
    Full,
    Refused,
}

impl Mailbox {
    pub fn new(queue: &Arc<WaitQueue>) -> Arc<Self> {
        Arc::new(Self { mail: Mutex::default(), queue: queue.clone() })
    }

    /// Whether a message would be taken. If not, `sender` is told when it would.
    pub fn has_room(&self, sender: Option<&Arc<WaitQueue>>) -> bool {
        let mut mail = self.mail.lock();
        if !mail.full() || mail.refused || mail.ended {
            return true;
        }
        if let Some(sender) = sender {
            let sender = Arc::downgrade(sender);
            mail.senders.retain(|other| other.strong_count() > 0);
            if !mail.senders.iter().any(|other| other.ptr_eq(&sender)) {
                mail.senders.push(sender);
            }
        }
        false
    }

    /// Adds a message; a full mailbox drops it.
    pub fn post(&self, message: Message) -> Posted {
        if self.mail.lock().full() { Posted::Full } else { self.deliver(message) }
    }

    /// Adds a message after a look for room, which another sender may have taken meanwhile: one too many does no harm.
    pub fn deliver(&self, message: Message) -> Posted {
        let mut mail = self.mail.lock();
        if mail.refused || mail.ended {
            return Posted::Refused;
        }
        mail.bytes += message.data.len() + OVERHEAD;
        mail.messages.push_back(message);
        drop(mail);
        self.queue.notify();
        Posted::Delivered
    }

    /// Receives one message; what does not fit is lost. The end of all messages is an empty one.
    pub fn take(&self, mut to: Sink<'_>, flags: u32) -> Result<Option<Received>> {
        let mut mail = self.mail.lock();
        let Some(message) = mail.messages.front() else {
            return Ok(if mail.ended || mail.refused { Some(Received::default()) } else { None });
        };
        let length = to.copy(0, &message.data)?;
        let full = message.data.len();
        let mut received =
            Received { length, full, from: message.from, reached: message.to, ..Received::default() };
        if flags & flag::PEEK != 0 {
            received.ancillary = message.ancillary.clone();
            return Ok(Some(received));
        }
        let was_full = mail.full();
        let senders = match mail.messages.pop_front() {
            Some(message) => {
                mail.bytes -= message.data.len() + OVERHEAD;
                received.ancillary = message.ancillary;
                if was_full && !mail.full() { core::mem::take(&mut mail.senders) } else { Vec::new() }
            }
            None => Vec::new(),
        };
        drop(mail);
        senders.iter().filter_map(Weak::upgrade).for_each(|sender| sender.notify());
        Ok(Some(received))
    }

    /// Whether a message, or the end, can be received.
    pub fn has_mail(&self) -> bool {
        let mail = self.mail.lock();
        !mail.messages.is_empty() || mail.ended || mail.refused
    }

    /// Whether no more will come.
    pub fn is_over(&self) -> bool {
        let mail = self.mail.lock();
        mail.ended || mail.refused
    }

    /// Length of the next message.
    pub fn next_length(&self) -> usize {
        self.mail.lock().messages.front().map_or(0, |message| message.data.len())
    }

    /// Shows the open files of each message.
    pub fn waiting_rights(&self, each: &mut dyn FnMut(&mut Vec<Arc<Description>>)) {
        self.mail.lock().messages.iter_mut().for_each(|message| each(&mut message.ancillary.rights));
    }

    /// The sender will send no more.
    pub fn end(&self) {
        let mut mail = self.mail.lock();
        mail.ended = true;
        let senders = core::mem::take(&mut mail.senders);
        drop(mail);
        senders.iter().filter_map(Weak::upgrade).for_each(|sender| sender.notify());
        self.queue.notify();
    }

    /// The receiver wants no more.
    pub fn refuse(&self) {
        let mut mail = self.mail.lock();
        mail.refused = true;
        let messages = core::mem::take(&mut mail.messages);
        let senders = core::mem::take(&mut mail.senders);
        mail.bytes = 0;
        drop(mail);
        drop(messages);
        senders.iter().filter_map(Weak::upgrade).for_each(|sender| sender.notify());
        self.queue.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(data: &[u8]) -> Message {
        Message { data: data.to_vec(), from: None, to: None, ancillary: Ancillary::default() }
    }

    #[test]
    fn cuts_messages_and_tells_their_length() {
        let mailbox = Mailbox::new(&Arc::new(WaitQueue::new()));
        mailbox.post(message(b"hello"));
        mailbox.post(message(b"world"));
        let mut bytes = [0; 3];
        let peeked = mailbox.take(Sink::Kernel(&mut bytes), flag::PEEK).unwrap().unwrap();
        assert_eq!((peeked.length, peeked.full), (3, 5));
        let taken = mailbox.take(Sink::Kernel(&mut bytes), 0).unwrap().unwrap();
        assert_eq!((&bytes, taken.length, taken.full), (b"hel", 3, 5));
        assert_eq!(mailbox.next_length(), 5);
        mailbox.end();
        assert_eq!(mailbox.take(Sink::Kernel(&mut bytes), 0).unwrap().unwrap().full, 5);
        assert_eq!(mailbox.take(Sink::Kernel(&mut bytes), 0).unwrap().unwrap().full, 0);
        assert!(matches!(mailbox.post(message(b"late")), Posted::Refused));
    }

    #[test]
    fn is_full_until_something_is_taken() {
        let mailbox = Mailbox::new(&Arc::new(WaitQueue::new()));
        while mailbox.has_room(None) {
            mailbox.post(message(&[0; 1000]));
        }
        assert!(matches!(mailbox.post(message(b"x")), Posted::Full));
        mailbox.take(Sink::Kernel(&mut [0; 1000]), 0).unwrap();
        assert!(mailbox.has_room(None));
    }
}
