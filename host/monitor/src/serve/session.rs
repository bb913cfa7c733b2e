//! The conversation with one guest: messages in, answers out.
//!
//! A guest that asks more than it listens, or more at once than anybody needs, is read no further until
//! that changes: it holds up nobody but itself.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use abi::exit::Exit;
use abi::message::{ToGuest, ToMonitor, decode};
use abi::request::Reply;
use abi::{Code, Handle, MESSAGE_MAX};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use super::channel::{Aside, Channel, Closed, Sent};
use super::worker::{Deliver, Workers};
use super::{Answer, Object, Outcome, Served, Server};
use crate::unheard::Unheard;
use crate::voice::Repeater;

/// Requests that may be under way at once.
const UNDER_WAY: usize = 4096;
/// Messages taken before anything else gets its turn.
const TURN: usize = 64;
/// Messages that follow each other within this time are a conversation.
const BRISK: Duration = Duration::from_micros(200);
/// How long the next one is looked for.
const LINGER: Duration = Duration::from_micros(40);
/// Lines a guest may have printed.
const LINES: u32 = 10_000;
/// Threads that wait for disks, and for the network.
const DISK_THREADS: usize = 8;
const NETWORK_THREADS: usize = 64;

/// How a conversation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest's last word.
    Claim(Exit),
    /// It said something that is no message; the sentence says what.
    Refused(String),
    /// It has closed its side.
    Gone,
}

/// A conversation.
pub struct Session {
    channel: Channel,
    server: Server,
    disk: Workers,
    network: Workers,
    /// When the last message came, and whether it came soon after the one before.
    received: Option<Instant>,
    brisk: bool,
    lines: u32,
    repeater: Repeater,
    /// Signals that the guest has not taken.
    pub unheard: Unheard,
    end: Option<End>,
    /// There but while messages are taken.
    buffer: Option<Box<[u8; MESSAGE_MAX + 1]>>,
}

impl Session {
    pub fn new(channel: Channel, server: Server) -> Result<Self, Errno> {
        let aside = channel.aside();
        let deliver: Deliver = Arc::new(move |ticket, outcome| deliver(&aside, ticket, outcome));
        // Where all requests that may be under way are, one of the two has half of them.
        let many = UNDER_WAY / 2;
        Ok(Self {
            channel,
            server,
            disk: Workers::new(DISK_THREADS, many, deliver.clone())?,
            network: Workers::new(NETWORK_THREADS, many, deliver)?,
            received: None,
            brisk: false,
            lines: LINES,
            repeater: Repeater::default(),
            unheard: Unheard::default(),
            end: None,
            buffer: Some(Box::new([0; MESSAGE_MAX + 1])),
        })
    }

    /// The files of the memory objects that the guest has.
    pub fn memory_files(&self) -> impl Iterator<Item = &OwnedFd> {
        self.server.objects.iter().filter_map(|object| match object {
            Object::Memory { file, .. } => Some(file),
            _ => None,
        })
    }

    /// What to wait for on its behalf.
    pub fn polled(&self) -> [PollFd<'_>; 3] {
        let mut wanted = if self.is_listening() { PollFlags::IN } else { PollFlags::empty() };
        if self.channel.is_waiting() {
            wanted |= PollFlags::OUT;
        }
        [
            PollFd::new(&self.channel, wanted),
            PollFd::new(&self.disk, PollFlags::IN),
            PollFd::new(&self.network, PollFlags::IN),
        ]
    }

    /// Does what can be done now, and says how the conversation ended if it did.
    pub fn go_on(&mut self) -> Option<&End> {
        for (ticket, outcome) in [self.disk.finished(), self.network.finished()].into_iter().flatten() {
            self.answer(ticket, outcome);
        }
        self.channel.flush();
        if let Some(mut buffer) = self.buffer.take() {
            self.take_turn(&mut buffer);
            self.buffer = Some(buffer);
        }
        self.end.as_ref()
    }

    /// Takes all that is left of a guest that has ended.
    pub fn finish(&mut self) -> Option<&End> {
        for _ in 0..UNDER_WAY {
            if self.go_on().is_some() {
                break;
            }
        }
        self.end.as_ref()
    }

    /// Nothing more will be said for the guest.
    pub fn fall_silent(&mut self) {
        self.repeater.finish();
    }

    /// The guest has closed its side. Where its messages are taken in turn the last one tells; where it asked
    /// for more than is read, only its last word still counts, for nobody may wait for the rest.
    pub fn hang_up(&mut self) {
        if self.is_listening() {
            return;
        }
        let Some(mut buffer) = self.buffer.take() else { return };
        while self.end.is_none() {
            match self.channel.receive(&mut buffer) {
                Ok(Some(length)) => {
                    if let Ok(ToMonitor::Exit(exit)) = decode(&buffer[..length.min(MESSAGE_MAX)]) {
                        self.end = Some(End::Claim(exit));
                    }
                }
                Ok(None) | Err(Closed) => self.end = Some(End::Gone),
            }
        }
        self.buffer = Some(buffer);
    }

    fn take_turn(&mut self, buffer: &mut [u8; MESSAGE_MAX + 1]) {
        for _ in 0..TURN {
            if self.end.is_some() || !self.is_listening() {
                return;
            }
            match self.receive_soon(buffer) {
                Ok(Some(length)) => self.take(&buffer[..length]),
                Ok(None) => return,
                Err(Closed) => self.end = Some(End::Gone),
            }
        }
    }

    /// The next message. While one follows the other, the next is looked for before the monitor sleeps: to
    /// be woken takes longer than most guests need to ask again.
    fn receive_soon(&mut self, buffer: &mut [u8; MESSAGE_MAX + 1]) -> Result<Option<usize>, Closed> {
        let brisk = std::mem::take(&mut self.brisk);
        let start = Instant::now();
        loop {
            match self.channel.receive(buffer) {
                Ok(None) if brisk && start.elapsed() < LINGER => std::hint::spin_loop(),
                Ok(Some(length)) => {
                    let now = Instant::now();
                    self.brisk = self.received.replace(now).is_some_and(|last| now - last < BRISK);
                    return Ok(Some(length));
                }
                other => return other,
            }
        }
    }

    /// Tells the guest something.
    pub fn tell(&mut self, message: &ToGuest) {
        if let ToGuest::Signal(signal) = message {
            self.unheard.told(*signal, Instant::now());
        }
        // Signals and windows are short.
        let _ = self.channel.send(message, None);
    }

    pub(super) fn is_listening(&self) -> bool {
        self.channel.is_open_for_requests() && self.under_way() < UNDER_WAY
    }

    fn under_way(&self) -> usize {
        self.disk.under_way() + self.network.under_way()
    }

    fn take(&mut self, bytes: &[u8]) {
        let message = if bytes.len() > MESSAGE_MAX { None } else { decode::<ToMonitor>(bytes).ok() };
        match message {
            Some(ToMonitor::Request { ticket, request }) => {
                let served = self.server.serve(request);
                self.follow(ticket, served);
            }
            Some(ToMonitor::Exit(exit)) => self.end = Some(End::Claim(exit)),
            None => {
                let sentence =
                    format!("the island was closed: it sent {} bytes that are no message", bytes.len());
                self.end = Some(End::Refused(sentence));
            }
        }
    }

    fn follow(&mut self, ticket: u64, served: Served) {
        let started = match served {
            Served::Now(outcome) => return self.answer(ticket, outcome),
            Served::Disk(job) => self.disk.start(ticket, job),
            Served::Network(job) => self.network.start(ticket, job),
            Served::Silent => return,
            Served::Say(text) => return self.say(&text),
            Served::Heard(signal) => return self.unheard.heard(signal),
        };
        if let Err(error) = started {
            self.answer(ticket, Err(error));
        }
    }

    fn say(&mut self, text: &str) {
        if let Some(left) = self.lines.checked_sub(1) {
            self.lines = left;
            self.repeater.say(text);
        }
    }

    /// Sends an answer. One that is too long for a packet becomes an error.
    fn answer(&mut self, ticket: u64, outcome: Outcome) {
        let (result, descriptor) = match outcome.and_then(|answer| self.hand_over(answer)) {
            Ok((reply, descriptor)) => (Ok(reply), descriptor),
            Err(error) => (Err(code(error)), None),
        };
        if ticket == 0 {
            return;
        }
        if self.channel.send(&ToGuest::Reply { ticket, result }, descriptor) == Sent::TooLong {
            let result = Err(code(Errno::MSGSIZE));
            let _ = self.channel.send(&ToGuest::Reply { ticket, result }, None);
        }
    }

    /// Numbers what the monitor keeps.
    fn hand_over(&mut self, answer: Answer) -> Result<(Reply, Option<OwnedFd>), Errno> {
        let objects = &mut self.server.objects;
        Ok(match answer {
            Answer::Reply(reply) => (reply, None),
            Answer::Opened { descriptor, object, attributes, made } => {
                let handle = Handle::new(u32::MAX, objects.keep(object)?);
                (Reply::Opened { handle, attributes, made }, descriptor)
            }
            Answer::Socket { descriptor, object, local, peer } => {
                let handle = Handle::new(u32::MAX, objects.keep(object)?);
                (Reply::Socket { handle, local, peer }, Some(descriptor))
            }
            Answer::Resolved { reply, name, addresses } => {
                self.server.hand_out(&name, &addresses);
                (Reply::Bytes(reply), None)
            }
        })
    }
}

/// Answers from a worker's thread, where nothing has to be numbered for that: the guest need not wait until the monitor
/// comes round to it.
fn deliver(aside: &Aside, ticket: u64, outcome: Outcome) -> Option<Outcome> {
    let result = match outcome {
        _ if ticket == 0 => return Some(outcome),
        Ok(Answer::Reply(reply)) => Ok(reply),
        Err(error) => Err(code(error)),
        other => return Some(other),
    };
    let message = ToGuest::Reply { ticket, result };
    if aside.send(&message) {
        return None;
    }
    let ToGuest::Reply { result, .. } = message else { return None };
    Some(result.map(Answer::Reply).map_err(|Code(code)| Errno::from_raw_os_error(code.into())))
}

fn code(error: Errno) -> Code {
    Code(u16::try_from(error.raw_os_error()).unwrap_or(5))
}
