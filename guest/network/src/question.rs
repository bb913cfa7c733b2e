//! Questions to name servers, as programs have written them: one message there, one back.
//!
//! Each question has a port of its own that nobody can guess; an answer must come from the server that was
//! asked and repeat identification and question. Answers that were cut (the TC bit) are given as they are.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use crate::event::Query;
use crate::frame::word;

const PORT: u16 = 53;
/// How long one server has, and how often all of them are asked.
const PATIENCE_NS: u64 = 2_000_000_000;
const ROUNDS: usize = 3;
/// Bytes of a message's header, and of the longest message that is sent.
const HEADER: usize = 12;
pub const LONGEST: usize = 1232;
/// Questions under way.
pub const LIMIT: usize = 1024;

pub struct Question {
    pub query: Query,
    pub port: u16,
    message: Vec<u8>,
    asked: usize,
    server: Option<SocketAddr>,
    pub at_ns: u64,
}

/// The end of the question in a message with one; the name is not compressed.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => return (message.len() >= at + 5).then_some(at + 5),
            length @ 1..64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

impl Question {
    /// A question to be asked at once; `None` if the message is none.
    pub fn new(query: Query, port: u16, message: &[u8], now_ns: u64) -> Option<Self> {
        let is_question = message.len() >= HEADER
            && message.len() <= LONGEST
            && message[2] & 0x80 == 0
            && word(message, 4) == 1
            && question_end(message).is_some();
        is_question.then(|| Self {
            query,
            port,
            message: message.to_vec(),
            asked: 0,
            server: None,
            at_ns: now_ns,
        })
    }

    /// The next server to ask and what; `None` when all have been asked often enough.
    pub fn next(&mut self, servers: &[IpAddr], now_ns: u64) -> Option<(SocketAddr, &[u8])> {
        if self.asked >= servers.len() * ROUNDS {
            return None;
        }
        let server = SocketAddr::new(servers[self.asked % servers.len()], PORT);
        self.asked += 1;
        self.server = Some(server);
        self.at_ns = now_ns + PATIENCE_NS;
        Some((server, &self.message))
    }

    /// Whether a message is the answer.
    pub fn is_answered_by(&self, from: SocketAddr, answer: &[u8]) -> bool {
        let Some(end) = question_end(&self.message) else { return false };
        self.server == Some(from)
            && answer.len() >= end
            && answer[..2] == self.message[..2]
            && answer[2] & 0x80 != 0
            && word(answer, 4) == 1
            && answer[HEADER..end].eq_ignore_ascii_case(&self.message[HEADER..end])
    }
}
