//! Receiving messages: recv(2), recvmsg(2), recvmmsg(2).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::{CONTROL_MAX, Header, Ranges, SCM_CREDENTIALS, SCM_RIGHTS, SOL_SOCKET, Several};
use crate::errno::{Errno, Result};
use crate::file::Description;
use crate::file::ring::Sink;
use crate::network::control;
use crate::network::message::{Received, flag};
use crate::syscall::file::attempt;
use crate::syscall::socket::{get, manner, of, put_name};
use crate::syscall::waiting::{self, Operation, install_for};
use crate::syscall::{Call, Outcome};
use crate::thread::Thread;
use crate::user;

/// Where to put what comes beside the data.
enum Beside {
    /// recvfrom's address and its length.
    Address(u64, u64),
    Message(Header),
}

struct Receive {
    description: Arc<Description>,
    ranges: Ranges,
    flags: u32,
    beside: Beside,
    received: u64,
}

impl Receive {
    fn message(
        thread: &Arc<Thread>,
        description: &Arc<Description>,
        header: &Header,
        flags: u32,
    ) -> Result<Self> {
        let ranges = Ranges::read(thread, header.ranges, header.count)?;
        let description = description.clone();
        Ok(Self { description, ranges, flags, beside: Beside::Message(*header), received: 0 })
    }

    /// Writes what came beside the data.
    fn put_beside(&self, thread: &Arc<Thread>, received: Received) -> Result<()> {
        match &self.beside {
            Beside::Address(0, _) => Ok(()),
            Beside::Address(place, length_place) => match &received.from {
                Some(from) => put_name(thread, from, *place, *length_place),
                None => user::write(thread, *length_place, &[0; 4]),
            },
            Beside::Message(header) => put_header(thread, &self.description, header, self.flags, received),
        }
    }
}

impl Operation for Receive {
    fn attempt(&mut self, thread: &Arc<Thread>) -> Result<Option<u64>> {
        let socket = of(&self.description);
        loop {
            let sink = Sink::user(thread, self.ranges.all());
            let received = match socket.endpoint.receive(thread, sink, self.flags) {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(None),
                Err(_) if self.received > 0 => return Ok(Some(self.received)),
                Err(errno) => return Err(errno),
            };
            let (length, full) = (received.length as u64, received.full as u64);
            self.received += length;
            let wait_for_all = flag::WAIT_ALL | flag::PEEK;
            if socket.is_stream()
                && self.flags & wait_for_all == flag::WAIT_ALL
                && length > 0
                && length < self.ranges.length()
                && received.ancillary.rights.is_empty()
            {
                self.ranges.advance(length);
                continue;
            }
            self.put_beside(thread, received)?;
            let whole = !socket.is_stream() && self.flags & flag::TRUNCATED != 0;
            return Ok(Some(if whole { full } else { self.received }));
        }
    }

    fn partial(&self) -> Option<u64> {
        Some(self.received).filter(|received| *received > 0)
    }
}

/// Writes the results of recvmsg(2) into the caller's header.
fn put_header(
    thread: &Arc<Thread>,
    description: &Arc<Description>,
    header: &Header,
    flags: u32,
    received: Received,
) -> Result<()> {
    let mut name_length = 0_u32;
    if let Some(from) = received.from.as_ref().filter(|_| header.name != 0) {
        let bytes = from.bytes();
        user::write(thread, header.name, &bytes[..bytes.len().min(header.name_length as usize)])?;
        name_length = bytes.len() as u32;
    }
    let mut result = flags & flag::CLOSE_ON_EXEC;
    if received.full > received.length {
        result |= flag::TRUNCATED;
    }
    let control = put_control(thread, description, header, flags, &received, &mut result)?;
    if header.name != 0 {
        user::write(thread, header.at + 8, &name_length.to_le_bytes())?;
    }
    // msg_controllen and msg_flags stand side by side.
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&control.to_le_bytes());
    bytes[8..].copy_from_slice(&result.to_le_bytes());
    user::write(thread, header.at + 40, &bytes)
}

/// Writes control messages; returns their length.
fn put_control(
    thread: &Arc<Thread>,
    description: &Arc<Description>,
    header: &Header,
    flags: u32,
    received: &Received,
    result: &mut u32,
) -> Result<u64> {
    let (options, ancillary) = (&of(description).options, &received.ancillary);
    let wants_credentials = options.pass_credentials.load(Ordering::Relaxed);
    let credentials = ancillary.credentials.filter(|_| wants_credentials);
    let information = received.reached.and_then(|reached| options.packet_information(reached));
    if ancillary.rights.is_empty() && credentials.is_none() && information.is_none() {
        return Ok(0);
    }
    let room = if header.control == 0 { 0 } else { header.control_length.min(CONTROL_MAX) as usize };
    let mut bytes: Vec<u8> = Vec::new();
    let add = |bytes: &mut Vec<u8>, level: u32, kind: u32, data: &[u8]| {
        bytes.extend_from_slice(&((control::HEADER + data.len()) as u64).to_le_bytes());
        bytes.extend_from_slice(&level.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(8).min(room.max(bytes.len())), 0);
    };
    if let Some((level, kind, data)) = information {
        if room >= control::HEADER + data.len() {
            add(&mut bytes, level, kind, &data);
        } else {
            *result |= flag::CONTROL_TRUNCATED;
        }
    }
    if let Some(credentials) = credentials {
        if room >= control::HEADER + 12 {
            add(&mut bytes, SOL_SOCKET, SCM_CREDENTIALS, &credentials.encode());
        } else {
            *result |= flag::CONTROL_TRUNCATED;
        }
    }
    if !ancillary.rights.is_empty() {
        let fitting = room.saturating_sub(bytes.len() + control::HEADER) / 4;
        let mut numbers: Vec<u8> = Vec::new();
        for open in ancillary.rights.iter().take(fitting) {
            match install_for(thread, open.clone(), flags & flag::CLOSE_ON_EXEC != 0) {
                Ok(number) => numbers.extend_from_slice(&(number as u32).to_le_bytes()),
                Err(_) => break,
            }
        }
        if numbers.len() / 4 < ancillary.rights.len() {
            *result |= flag::CONTROL_TRUNCATED;
        }
        if !numbers.is_empty() {
            add(&mut bytes, SOL_SOCKET, SCM_RIGHTS, &numbers);
        }
    }
    if !bytes.is_empty() {
        user::write(thread, header.control, &bytes)?;
    }
    Ok(bytes.len() as u64)
}

/// Flags of recv(2) that ask for what is not there: queued errors never are.
fn receivable(description: &Arc<Description>, flags: u32) -> Result<()> {
    if flags & flag::ERROR_QUEUE != 0 {
        return Err(Errno::EAGAIN);
    }
    let refused = flags & flag::OUT_OF_BAND != 0 && !of(description).endpoint.takes_urgent();
    if refused { Err(Errno::EINVAL) } else { Ok(()) }
}

pub fn recvfrom(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let flags = call.word(3);
    attempt!(receivable(&description, flags));
    let receive = Receive {
        description: description.clone(),
        ranges: Ranges::one(call.arguments[1], call.arguments[2]),
        flags,
        beside: Beside::Address(call.arguments[4], call.arguments[5]),
        received: 0,
    };
    waiting::run(call, &description, manner(&description, flags, false), receive)
}

pub fn recvmsg(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let flags = call.word(2);
    attempt!(receivable(&description, flags));
    let header = attempt!(Header::read(call.thread, call.arguments[1]));
    let receive = attempt!(Receive::message(call.thread, &description, &header, flags));
    waiting::run(call, &description, manner(&description, flags, false), receive)
}

pub fn recvmmsg(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let flags = call.word(3);
    attempt!(receivable(&description, flags));
    let mut manner = manner(&description, flags, false);
    if call.arguments[4] != 0 {
        let timeout_ns = attempt!(user::read_time(call.thread, call.arguments[4]));
        manner.timeout_ns = Some(manner.timeout_ns.unwrap_or(u64::MAX).min(timeout_ns));
    }
    let several = Several::new(call, &description, flags & !flag::WAIT_FOR_ONE, Receive::message);
    let several = Several { only_first_waits: flags & flag::WAIT_FOR_ONE != 0, ..several };
    waiting::run(call, &description, manner, several)
}
