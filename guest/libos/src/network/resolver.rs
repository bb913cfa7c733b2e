//! The island's name server: an address that answers DNS messages by asking the monitor.
//!
//! /etc/resolv.conf names it. It answers datagrams only; what is not granted the monitor refuses, and
//! what it cannot be asked for is answered SERVFAIL here, so that no program waits for a timeout.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use abi::request::{Reply, Request};

use super::address::{Address, Name};
use super::errand::Errand;
use super::mailbox::{Mailbox, Message};
use super::message::Ancillary;
use crate::file::Promise;
use crate::kernel::Kernel;

/// Where the name server is.
pub const ADDRESS: Address = Address::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), 53);

/// Bytes of a DNS message's header (RFC 1035, 4.1.1).
pub const HEADER: usize = 12;

/// Asks, and posts the answer to the asker's mailbox.
pub fn ask(kernel: &Arc<Kernel>, domain: u32, query: Vec<u8>, mailbox: &Arc<Mailbox>) {
    if query.len() < HEADER {
        return;
    }
    let (kernel, mailbox) = (kernel.clone(), mailbox.clone());
    Errand::start(Promise::later(async move {
        let reply = kernel.devices.request(&kernel, Request::Resolve { message: &query }).await;
        let data = match reply {
            Ok(Reply::Bytes(bytes)) if bytes.len() >= HEADER => bytes,
            _ => failure(&query),
        };
        let from = Some(Name::internet(domain, ADDRESS));
        mailbox.post(Message { data, from, ancillary: Ancillary::default() });
        Ok(())
    }));
}

/// SERVFAIL for a query of at least [`HEADER`] bytes: its identification and question, without records.
pub fn failure(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80 | 2;
    // Records that came along (EDNS) are counted away; what is left of them behind the question is
    // cut off with them, if the question can be followed to its end.
    answer[6..HEADER].fill(0);
    if let Some(end) = question_end(query) {
        answer.truncate(end);
    }
    answer
}

/// Where the one question of a query ends.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1 + length;
        if length == 0 {
            break;
        }
    }
    (at + 4 <= query.len()).then_some(at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_answers_the_question_and_nothing_else() {
        let mut query = alloc::vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        query.extend_from_slice(b"\x02ab\x00\x00\x01\x00\x01");
        let length = query.len();
        query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let answer = failure(&query);
        assert_eq!(answer.len(), length);
        assert_eq!(answer[..12], [0x12, 0x34, 0x81, 0x82, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(question_end(&query[..14]), None);
    }
}
