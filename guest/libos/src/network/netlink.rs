//! Questions about interfaces, as the C libraries and Go ask them: AF_NETLINK, NETLINK_ROUTE
//! (netlink(7), rtnetlink(7)).
//!
//! Each question is answered at once, from what [`super::interface`] knows. There is nothing to change and
//! nothing ever changes, so any other request is refused, and groups that are joined stay silent.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::network::Shutdown;

use super::address::{self, AF_INET, AF_INET6, AF_NETLINK, Name};
use super::interface;
use super::mailbox::{Mailbox, Message};
use super::message::{Ancillary, Outgoing, Received};
use super::socket::{Endpoint, Progress};
use crate::errno::{Errno, Result};
use crate::file::ring::Sink;
use crate::file::{Promise, event, kept};
use crate::thread::Thread;
use crate::wait::WaitQueue;

const HEADER: usize = 16;
/// Bytes of the longest question that is looked at.
const QUESTION_MAX: usize = 64 << 10;

// Kinds of messages and their flags (linux/netlink.h, linux/rtnetlink.h).
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
const MULTIPLE: u16 = 2;
const DUMP: u16 = 0x300;

/// A message under construction.
struct Part(Vec<u8>);

impl Part {
    fn new(body: &[u8]) -> Self {
        Self(body.to_vec())
    }

    /// Adds an attribute, aligned to four bytes.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend_from_slice(&(value.len() as u16 + 4).to_le_bytes());
        self.0.extend_from_slice(&kind.to_le_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// One question: the header of its message, and what follows that.
struct Question<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Question<'a> {
    /// Takes a question off the front.
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let whole = &bytes[..length];
        *bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        let half = |at: usize| u16::from_le_bytes([whole[at], whole[at + 1]]);
        let sequence = u32::from_le_bytes([whole[8], whole[9], whole[10], whole[11]]);
        Some(Self { kind: half(4), flags: half(6), sequence, body: &whole[HEADER..], whole })
    }

    /// The family that is asked for; 0 for all.
    fn family(&self) -> u32 {
        self.body.first().map_or(0, |family| u32::from(*family))
    }

    fn put(&self, answer: &mut Vec<u8>, asker: u32, kind: u16, body: &[u8]) {
        let multiple = if self.flags & DUMP != 0 { MULTIPLE } else { 0 };
        answer.extend_from_slice(&((HEADER + body.len()) as u32).to_le_bytes());
        answer.extend_from_slice(&kind.to_le_bytes());
        answer.extend_from_slice(&multiple.to_le_bytes());
        answer.extend_from_slice(&self.sequence.to_le_bytes());
        answer.extend_from_slice(&asker.to_le_bytes());
        answer.extend_from_slice(body);
        answer.resize(answer.len().next_multiple_of(4), 0);
    }

    fn refuse(&self, answer: &mut Vec<u8>, asker: u32, errno: Errno) {
        let mut body = (-i32::from(errno.0)).to_le_bytes().to_vec();
        body.extend_from_slice(&self.whole[..HEADER]);
        self.put(answer, asker, ERROR, &body);
    }

    fn answer(&self, asker: u32) -> Vec<u8> {
        let mut answer = Vec::new();
        let dump = self.flags & DUMP == DUMP;
        match self.kind {
            GET_LINK => self.put(&mut answer, asker, NEW_LINK, &link().0),
            GET_ADDRESS if dump => {
                for address in addresses(self.family()) {
                    self.put(&mut answer, asker, NEW_ADDRESS, &address.0);
                }
            }
            // There is no route to anywhere.
            GET_ROUTE if dump => {}
            _ => {
                self.refuse(&mut answer, asker, Errno::EOPNOTSUPP);
                return answer;
            }
        }
        if dump {
            self.put(&mut answer, asker, DONE, &[0; 4]);
        }
        answer
    }
}

/// `struct ifinfomsg` of the one interface.
fn link() -> Part {
    let mut body = [0; 16];
    body[2..4].copy_from_slice(&(interface::HARDWARE as u16).to_le_bytes());
    body[4..8].copy_from_slice(&interface::INDEX.to_le_bytes());
    body[8..12].copy_from_slice(&interface::FLAGS.to_le_bytes());
    Part::new(&body)
        .attribute(1, &[0; 6])
        .attribute(2, &[0; 6])
        .attribute(3, b"lo\0")
        .attribute(4, &interface::MTU.to_le_bytes())
        .attribute(13, &interface::QUEUE.to_le_bytes())
        .attribute(16, &[0])
}

/// `struct ifaddrmsg` of each of its addresses.
fn addresses(family: u32) -> Vec<Part> {
    let part = |family: u32, prefix: u8| {
        let index = interface::INDEX.to_le_bytes();
        // IFA_F_PERMANENT, RT_SCOPE_HOST.
        Part::new(&[&[family as u8, prefix, 0x80, 254][..], &index].concat())
    };
    let mut parts = Vec::new();
    if matches!(family, 0 | AF_INET) {
        let own = [127, 0, 0, 1];
        parts.push(part(AF_INET, 8).attribute(1, &own).attribute(2, &own).attribute(3, b"lo\0"));
    }
    if matches!(family, 0 | AF_INET6) {
        parts.push(part(AF_INET6, 128).attribute(1, &core::net::Ipv6Addr::LOCALHOST.octets()));
    }
    parts
}

/// A netlink socket.
pub struct Netlink {
    queue: Arc<WaitQueue>,
    mailbox: Arc<Mailbox>,
    /// The address that answers carry; 0 until there is one.
    port: AtomicU32,
}

impl Netlink {
    pub fn new() -> Arc<Self> {
        let queue = Arc::new(WaitQueue::new());
        Arc::new(Self { mailbox: Mailbox::new(&queue), queue, port: AtomicU32::new(0) })
    }

    /// The socket's address: the one that was asked for, or the process's number.
    fn port(&self, thread: &Arc<Thread>) -> u32 {
        let number = thread.process.number;
        match self.port.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => number,
            Err(port) => port,
        }
    }
}

impl Endpoint for Netlink {
    fn bind(&self, thread: &Arc<Thread>, bytes: &[u8]) -> Promise<()> {
        let Some(Ok(AF_NETLINK)) = (bytes.len() >= 12).then(|| address::family(bytes)) else {
            return kept(Err(Errno::EINVAL));
        };
        self.port.store(u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]), Ordering::Relaxed);
        self.port(thread);
        kept(Ok(()))
    }

    fn connect(&self, thread: &Arc<Thread>, _bytes: &[u8]) -> Result<Progress> {
        self.port(thread);
        Ok(Progress::Done)
    }

    fn send(&self, thread: &Arc<Thread>, outgoing: &mut Outgoing<'_>) -> Result<Option<usize>> {
        let data = outgoing.from.gather(QUESTION_MAX)?;
        let asker = self.port(thread);
        let mut rest = &data[..];
        while let Some(question) = Question::take(&mut rest) {
            let from = Some(Name::netlink(0));
            let message =
                Message { data: question.answer(asker), from, to: None, ancillary: Ancillary::default() };
            self.mailbox.post(message);
        }
        Ok(Some(data.len()))
    }

    fn receive(&self, _thread: &Arc<Thread>, to: Sink<'_>, flags: u32) -> Result<Option<Received>> {
        self.mailbox.take(to, flags)
    }

    fn shutdown(&self, _how: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn name(&self) -> Name {
        Name::netlink(self.port.load(Ordering::Relaxed))
    }

    fn peer(&self) -> Result<Name> {
        Ok(Name::netlink(0))
    }

    fn events(&self) -> u32 {
        let readable = if self.mailbox.has_mail() { event::IN | event::READ_NORMAL } else { 0 };
        readable | event::OUT | event::WRITE_NORMAL
    }

    fn queue(&self) -> &WaitQueue {
        &self.queue
    }

    fn unread(&self) -> usize {
        self.mailbox.next_length()
    }

    fn close(&self) {
        self.mailbox.refuse();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(kind: u16, flags: u16, family: u8) -> Vec<u8> {
        let mut bytes = alloc::vec![17, 0, 0, 0];
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0, family]);
        bytes
    }

    fn kinds(mut answer: &[u8]) -> Vec<u16> {
        core::iter::from_fn(|| Question::take(&mut answer)).map(|part| part.kind).collect()
    }

    fn ask(kind: u16, flags: u16, family: u8) -> Vec<u8> {
        let bytes = question(kind, flags, family);
        Question::take(&mut &bytes[..]).unwrap().answer(7)
    }

    #[test]
    fn questions_get_their_answers_and_an_end() {
        assert_eq!(kinds(&ask(GET_LINK, DUMP | 1, 0)), [NEW_LINK, DONE]);
        assert_eq!(kinds(&ask(GET_ADDRESS, DUMP | 1, 0)), [NEW_ADDRESS, NEW_ADDRESS, DONE]);
        assert_eq!(kinds(&ask(GET_ADDRESS, DUMP | 1, 10)), [NEW_ADDRESS, DONE]);
        assert_eq!(kinds(&ask(GET_ROUTE, DUMP | 1, 0)), [DONE]);
        assert_eq!(kinds(&ask(NEW_ADDRESS, 1, 0)), [ERROR]);
        let answer = ask(GET_LINK, 1, 0);
        assert_eq!((kinds(&answer), &answer[8..16]), (alloc::vec![NEW_LINK], &[9, 0, 0, 0, 7, 0, 0, 0][..]));
    }

    #[test]
    fn garbage_is_no_question() {
        for bytes in [&[][..], &[1, 2, 3], &[15, 0, 0, 0, 0, 0, 0, 0], &[255; 40]] {
            assert!(Question::take(&mut &bytes[..]).is_none());
        }
    }
}
