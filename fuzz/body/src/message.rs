//! The control channel: what decodes is a message that encodes to one that says the same.

use core::fmt::Debug;

use abi::exit::{Exit, NotStarted};
use abi::message::{MessageError, ToGuest, ToMonitor, decode, encode};
use abi::request::{Reply, Request};
use abi::{Code, MESSAGE_MAX};

/// Requires that the encoded message decodes to itself.
fn comes_back(message: &impl Debug, encoded: Result<Vec<u8>, MessageError>, again: impl Fn(&[u8]) -> String) {
    match encoded {
        Ok(bytes) => assert_eq!(again(&bytes), format!("{message:?}")),
        Err(error) => assert_eq!(error, MessageError::TooLong),
    }
}

pub fn to_monitor(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MESSAGE_MAX)];
    if let Ok(message) = decode::<ToMonitor<'_>>(bytes) {
        let again = |bytes: &[u8]| format!("{:?}", decode::<ToMonitor<'_>>(bytes).expect("it was encoded"));
        comes_back(&message, encode(&message), again);
    }
}

pub fn to_guest(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MESSAGE_MAX)];
    if let Ok(message) = decode::<ToGuest>(bytes) {
        let again = |bytes: &[u8]| format!("{:?}", decode::<ToGuest>(bytes).expect("it was encoded"));
        comes_back(&message, encode(&message), again);
    }
}

pub fn requests() -> Vec<Vec<u8>> {
    let requests = [
        Request::Resolve { message: b"not a question" },
        Request::MakeMemory { length: 1 << 40 },
        Request::Say { text: "a sentence" },
    ];
    let exits = [
        Exit::Status(3),
        Exit::Signal(9),
        Exit::Broken { message: "a reason".into() },
        Exit::Lost,
        Exit::NotStarted { reason: NotStarted::CannotRun, message: "a reason".into() },
    ];
    let requests = requests.into_iter().zip(1 << 30..);
    let requests = requests.map(|(request, ticket)| encode(&ToMonitor::Request { ticket, request }));
    let exits = exits.into_iter().map(|exit| encode(&ToMonitor::Exit(exit)));
    let mut seeds: Vec<_> = requests.chain(exits).map(|message| message.expect("it encodes")).collect();
    // Every kind of request, with numbers that any field may be.
    seeds.extend((0..64).map(|kind| [&[0, 5, kind][..], &[1; 24]].concat()));
    seeds
}

pub fn replies() -> Vec<Vec<u8>> {
    let results = [Err(Code(2)), Ok(Reply::Bytes(b"an answer".to_vec()))];
    let replies = results.into_iter().map(|result| ToGuest::Reply { ticket: 7, result });
    let messages = replies.chain([ToGuest::Signal(15)]);
    let mut seeds: Vec<_> = messages.map(|message| encode(&message).expect("it encodes")).collect();
    seeds.extend((0..32).map(|kind| [&[0, 5, 0, kind][..], &[1; 24]].concat()));
    seeds
}
