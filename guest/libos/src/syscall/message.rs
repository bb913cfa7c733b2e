//! Calls that send and receive on sockets: send(2), recv(2) and their kin.
//!
//! A message's header and ranges are read once, before the first attempt; what comes back beside the
//! data (address, descriptors, flags) is written when the attempt has succeeded.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use machine::UserRange;

use super::file::attempt;
use super::socket::{AddressArgument, get, manner, of, put_name};
use super::waiting::{self, Operation, install_for};
use super::{Call, Outcome, range};
use crate::errno::{Errno, Result};
use crate::file::Description;
use crate::file::ring::{Sink, Source};
use crate::network::Endpoint;
use crate::network::control::{self, Control};
use crate::network::message::{Ancillary, Credentials, Outgoing, Received, flag};
use crate::thread::Thread;
use crate::user::{self, TRANSFER_MAX};

/// Bytes of `struct msghdr` and `struct mmsghdr`.
const HEADER: usize = 56;
const VECTOR_HEADER: u64 = 64;
const CONTROL_MAX: u64 = 64 << 10;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
const SOL_SOCKET: u32 = 1;
/// Descriptors one message may carry (unix(7), SCM_MAX_FD).
const RIGHTS_MAX: usize = 253;
/// Messages in one sendmmsg or recvmmsg (UIO_MAXIOV).
const VECTOR_MAX: u32 = 1024;

/// Where a message's bytes are; the common case takes no memory.
enum Ranges {
    One([UserRange; 1]),
    Many(Vec<UserRange>),
}

impl Ranges {
    fn one(address: u64, length: u64) -> Self {
        Self::One([range(address, length.min(TRANSFER_MAX))])
    }

    fn read(thread: &Arc<Thread>, address: u64, count: u64) -> Result<Self> {
        if count == 1 {
            let bytes: [u8; 16] = user::read(thread, address)?;
            return Ok(Self::one(word(&bytes, 0), word(&bytes, 8)));
        }
        match user::read_ranges(thread, address, count) {
            Err(Errno::EINVAL) => Err(Errno::EMSGSIZE),
            other => other.map(Self::Many),
        }
    }

    fn all(&self) -> &[UserRange] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }

    fn length(&self) -> u64 {
        self.all().iter().map(|range| range.length).sum()
    }

    /// Drops the first bytes.
    fn advance(&mut self, count: u64) {
        match self {
            Self::One([one]) => {
                one.address = one.address.wrapping_add(count);
                one.length = one.length.saturating_sub(count);
            }
            Self::Many(many) => user::advance(many, count),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// `struct msghdr`, as the caller gave it.
#[derive(Clone, Copy)]
struct Header {
    at: u64,
    name: u64,
    name_length: u32,
    ranges: u64,
    count: u64,
    control: u64,
    control_length: u64,
}

impl Header {
    fn read(thread: &Arc<Thread>, at: u64) -> Result<Self> {
        let bytes: [u8; HEADER] = user::read(thread, at)?;
        Ok(Self {
            at,
            name: word(&bytes, 0),
            name_length: half(&bytes, 8),
            ranges: word(&bytes, 16),
            count: word(&bytes, 24),
            control: word(&bytes, 32),
            control_length: word(&bytes, 40),
        })
    }
}

// Sending

struct Send {
    description: Arc<Description>,
    ranges: Ranges,
    flags: u32,
    to: Option<AddressArgument>,
    /// Who that is, if it had to be looked up.
    target: Option<Arc<dyn Endpoint>>,
    ancillary: Ancillary,
    sent: u64,
}

impl Send {
    fn to(description: &Arc<Description>, ranges: Ranges, flags: u32) -> Self {
        let ancillary = Ancillary::default();
        Self { description: description.clone(), ranges, flags, to: None, target: None, ancillary, sent: 0 }
    }

    fn message(
        thread: &Arc<Thread>,
        description: &Arc<Description>,
        header: &Header,
        flags: u32,
    ) -> Result<Self> {
        let mut send = Self::to(description, Ranges::read(thread, header.ranges, header.count)?, flags);
        if header.name != 0 && header.name_length != 0 {
            send.to = Some(AddressArgument::read(thread, header.name, header.name_length)?);
        }
        if header.control != 0 && header.control_length != 0 {
            send.ancillary = read_control(thread, header)?;
        }
        Ok(send)
    }
}

impl Operation for Send {
    fn attempt(&mut self, thread: &Arc<Thread>) -> Result<Option<u64>> {
        let socket = of(&self.description);
        loop {
            let mut outgoing = Outgoing {
                from: Source::user(thread, self.ranges.all()),
                flags: self.flags,
                to: self.to.as_ref().map(AddressArgument::bytes),
                target: self.target.clone(),
                ancillary: core::mem::take(&mut self.ancillary),
            };
            let sent = socket.endpoint.send(thread, &mut outgoing);
            self.ancillary = outgoing.ancillary;
            match sent {
                Ok(Some(count)) => {
                    self.sent += count as u64;
                    self.ranges.advance(count as u64);
                    if !socket.is_stream() || count == 0 || self.ranges.length() == 0 {
                        return Ok(Some(self.sent));
                    }
                }
                Ok(None) => return Ok(None),
                Err(_) if self.sent > 0 => return Ok(Some(self.sent)),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn partial(&self) -> Option<u64> {
        Some(self.sent).filter(|sent| *sent > 0)
    }
}

/// What a sender wants to pass on beside the data (cmsg(3)).
fn read_control(thread: &Arc<Thread>, header: &Header) -> Result<Ancillary> {
    if header.control_length > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let bytes = user::read_vec(thread, header.control, header.control_length as usize)?;
    let mut ancillary = Ancillary::default();
    for message in control::read(&bytes) {
        let Control { level, kind, data } = message?;
        match (level, kind) {
            (SOL_SOCKET, SCM_RIGHTS) => {
                for number in data.chunks_exact(4) {
                    if ancillary.rights.len() >= RIGHTS_MAX {
                        return Err(Errno::EINVAL);
                    }
                    ancillary.rights.push(thread.process.files.any(u64::from(half(number, 0)))?);
                }
            }
            (SOL_SOCKET, SCM_CREDENTIALS) if data.len() >= 12 => {
                let wanted =
                    Credentials { process: half(data, 0), user: half(data, 4), group: half(data, 8) };
                let own = Credentials::of(thread);
                if wanted != own && !thread.process.identity.lock().privileged() {
                    return Err(Errno::EPERM);
                }
                ancillary.credentials = Some(wanted);
            }
            (SOL_SOCKET, _) => return Err(Errno::EINVAL),
            // Of the protocol's own there is none that changes anything here (IP_TOS and the like).
            _ => {}
        }
    }
    Ok(ancillary)
}

/// Urgent data goes only where there are streams for it.
fn sendable(description: &Arc<Description>, flags: u32) -> Result<()> {
    let refused = flags & flag::OUT_OF_BAND != 0 && !of(description).endpoint.takes_urgent();
    if refused { Err(Errno::EOPNOTSUPP) } else { Ok(()) }
}

pub fn sendto(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let flags = call.word(3);
    attempt!(sendable(&description, flags));
    let mut send = Send::to(&description, Ranges::one(call.arguments[1], call.arguments[2]), flags);
    if call.arguments[4] != 0 && call.word(5) != 0 {
        send.to = Some(attempt!(AddressArgument::read(call.thread, call.arguments[4], call.word(5))));
    }
    send_to(call, description, send)
}

/// Sends, after looking the destination up if that takes time.
fn send_to(call: &Call<'_>, description: Arc<Description>, mut send: Send) -> Outcome {
    let manner = manner(&description, send.flags, true);
    let endpoint = &of(&description).endpoint;
    let sought = send.to.as_ref().and_then(|to| endpoint.resolve(call.thread, to.bytes()));
    let Some(sought) = sought else { return waiting::run(call, &description, manner, send) };
    let thread = call.thread.clone();
    call.wait(async move {
        send.target = Some(sought.await?);
        waiting::run_later(&thread, &description, manner, send).await
    })
}

pub fn sendmsg(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let flags = call.word(2);
    attempt!(sendable(&description, flags));
    let header = attempt!(Header::read(call.thread, call.arguments[1]));
    let send = attempt!(Send::message(call.thread, &description, &header, flags));
    send_to(call, description, send)
}

/// Several messages, one after the other.
struct Several<O> {
    description: Arc<Description>,
    at: u64,
    count: u32,
    done: u32,
    flags: u32,
    current: Option<O>,
    begin: fn(&Arc<Thread>, &Arc<Description>, &Header, u32) -> Result<O>,
    /// What applies to all but the first attempt (MSG_WAITFORONE).
    only_first_waits: bool,
}

impl<O: Operation> Operation for Several<O> {
    fn attempt(&mut self, thread: &Arc<Thread>) -> Result<Option<u64>> {
        while self.done < self.count {
            let at = self.at.wrapping_add(u64::from(self.done) * VECTOR_HEADER);
            match self.one(thread, at) {
                Ok(Some(length)) => {
                    let length = (length as u32).to_le_bytes();
                    self.current = None;
                    user::write(thread, at.wrapping_add(HEADER as u64), &length)?;
                    self.done += 1;
                }
                Ok(None) if self.done > 0 && self.only_first_waits => break,
                Ok(None) => return Ok(None),
                Err(_) if self.done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(Some(u64::from(self.done)))
    }

    fn partial(&self) -> Option<u64> {
        Some(u64::from(self.done)).filter(|done| *done > 0)
    }
}

impl<O: Operation> Several<O> {
    fn one(&mut self, thread: &Arc<Thread>, at: u64) -> Result<Option<u64>> {
        let mut operation = match self.current.take() {
            Some(operation) => operation,
            None => {
                let header = Header::read(thread, at)?;
                (self.begin)(thread, &self.description, &header, self.flags)?
            }
        };
        let result = operation.attempt(thread);
        self.current = Some(operation);
        result
    }
}

pub fn sendmmsg(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let flags = call.word(3);
    let several = Several {
        description: description.clone(),
        at: call.arguments[1],
        count: call.word(2).min(VECTOR_MAX),
        done: 0,
        flags,
        current: None,
        begin: Send::message,
        only_first_waits: false,
    };
    waiting::run(call, &description, manner(&description, flags, true), several)
}

// Receiving

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
    let several = Several {
        description: description.clone(),
        at: call.arguments[1],
        count: call.word(2).min(VECTOR_MAX),
        done: 0,
        flags: flags & !flag::WAIT_FOR_ONE,
        current: None,
        begin: Receive::message,
        only_first_waits: flags & flag::WAIT_FOR_ONE != 0,
    };
    waiting::run(call, &description, manner, several)
}
