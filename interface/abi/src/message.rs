//! Messages on the control channel, and their encoding.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::request::{Reply, Request};
use crate::terminal::Window;
use crate::{Code, MESSAGE_MAX};

/// From the guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToMonitor<'a> {
    /// A request; the answer carries the same ticket. Ticket 0 wants no answer.
    Request {
        ticket: u64,
        #[serde(borrow)]
        request: Request<'a>,
    },
    /// The last word; the guest's processes end at once after it.
    Exit(Exit),
}

/// From the monitor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToGuest {
    /// The answer to a request. A descriptor may travel with it.
    Reply { ticket: u64, result: Result<Reply, Code> },
    /// A signal (Linux number) for the service: SIGINT, SIGTERM and the like.
    Signal(u8),
    /// The terminal's window has changed.
    Window(Window),
    /// The island holds more memory than it may, and this process of the host's (its number inside) most of it.
    OutOfMemory { process: u32 },
}

/// A message that is not one, or does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    TooLong,
    Malformed,
}

/// Encodes a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, MessageError> {
    let bytes = postcard::to_allocvec(message).map_err(|_| MessageError::Malformed)?;
    if bytes.len() > MESSAGE_MAX { Err(MessageError::TooLong) } else { Ok(bytes) }
}

/// Encodes a message into a buffer, without a heap.
pub fn encode_into<'a, T: Serialize>(message: &T, buffer: &'a mut [u8]) -> Result<&'a [u8], MessageError> {
    postcard::to_slice(message, buffer).map(|bytes| &*bytes).map_err(|_| MessageError::TooLong)
}

/// Decodes a message; trailing bytes are an error.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MessageError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        _ => Err(MessageError::Malformed),
    }
}
