//! What the monitor is asked in the guest's stead, and what it answers.

use std::os::fd::OwnedFd;

use abi::exit::Exit;
use abi::message::{MessageError, ToGuest, ToMonitor, decode, encode};
use abi::network::{Protocol, SocketOption};
use abi::request::{Reply, Request};
use abi::vm::fuse::command;
use abi::{Code, Handle};
use rustix::io::Errno;

use super::File;
use super::request::Answer;
use crate::descriptor::Kind;
use crate::host;
use crate::outside::Outside;
use crate::transport::{Broken, Ring};

/// News that are kept for a guest that does not ask.
const NEWS: usize = 1024;

/// A request under way.
pub struct Asked {
    answer: Answer,
    room: usize,
    arrives: Kind,
}

/// What comes with the answer to a request.
fn arrives(request: &Request<'_>) -> Kind {
    match request {
        Request::Listen { .. } => Kind::Listener,
        Request::Datagram { .. } => Kind::Packets,
        Request::Connect { protocol: Protocol::Udp, .. } => Kind::Datagram,
        Request::Connect { protocol: Protocol::Tcp, .. } => Kind::Socket,
        _ => Kind::File,
    }
}

/// Answers with data, if it fits the room that was given.
fn data(answer: &Answer, data: &[u8], room: usize) -> usize {
    if data.len() > room { answer.error(Errno::TOOBIG) } else { answer.data(data) }
}

impl File {
    /// Remembers what the monitor has sent.
    pub fn hear(&mut self, message: ToGuest, file: Option<OwnedFd>) {
        self.arrived.push_back((message, file));
    }

    /// Does a control request; what was written, if it is answered already.
    pub(super) fn control(
        &mut self,
        handle: u64,
        what: u32,
        input: &[u8],
        room: usize,
        answer: Answer,
        outside: &mut Outside,
    ) -> Option<(u16, usize)> {
        let head = answer.head;
        let written = match what {
            command::REQUEST => return self.request(input, room, answer, outside),
            command::OPTION => match set_option(handle, input, outside) {
                Ok(()) => data(&answer, &[], room),
                Err(error) => answer.error(error),
            },
            command::EXIT => match decode::<Exit>(input) {
                Ok(exit) => {
                    outside.last_word = Some(exit);
                    data(&answer, &[], room)
                }
                Err(_) => answer.error(Errno::INVAL),
            },
            command::EVENT => match self.news.pop_front() {
                Some(news) => data(&answer, &news, room),
                None => {
                    self.listeners.push_back((answer, room));
                    return None;
                }
            },
            command::TIME => data(&answer, &host::realtime_ns().to_le_bytes(), room),
            _ => answer.error(Errno::NOTTY),
        };
        Some((head, written))
    }

    fn request(
        &mut self,
        input: &[u8],
        room: usize,
        answer: Answer,
        outside: &mut Outside,
    ) -> Option<(u16, usize)> {
        let head = answer.head;
        let Ok(request) = decode::<Request<'_>>(input) else {
            return Some((head, answer.error(Errno::INVAL)));
        };
        let quiet = request.is_silent();
        let ticket = if quiet { 0 } else { self.next_ticket };
        if let Err(MessageError::TooLong | MessageError::Malformed) =
            outside.channel.send(&ToMonitor::Request { ticket, request })
        {
            return Some((head, data(&answer, &encoded(&Err(code(Errno::MSGSIZE))), room)));
        }
        if !quiet {
            self.next_ticket += 1;
            self.asked.insert(ticket, Asked { answer, room, arrives: arrives(&request) });
            return None;
        }
        // Only what has gone out is answered, so that a monitor that takes nothing is not written to for ever.
        if outside.channel.is_waiting() {
            self.quiet.push_back(answer);
            return None;
        }
        Some((head, data(&answer, &encoded(&Ok(Reply::Done)), room)))
    }

    /// Answers what can be answered by now.
    pub(super) fn go_on(&mut self, ring: &mut Ring, outside: &mut Outside) -> Result<bool, Broken> {
        let mut any = false;
        if !self.quiet.is_empty() && !outside.channel.is_waiting() {
            any = true;
            for answer in self.quiet.drain(..) {
                ring.used(answer.head, answer.data(&encoded(&Ok(Reply::Done))))?;
            }
        }
        while let Some((message, file)) = self.arrived.pop_front() {
            any = true;
            match message {
                ToGuest::Reply { ticket, result } => self.replied(ticket, result, file, ring, outside)?,
                news => {
                    if let Ok(news) = encode(&news)
                        && self.news.len() < NEWS
                    {
                        self.news.push_back(news);
                    }
                }
            }
        }
        while !self.news.is_empty() {
            let Some((answer, room)) = self.listeners.pop_front() else { break };
            if let Some(news) = self.news.pop_front() {
                any = true;
                ring.used(answer.head, data(&answer, &news, room))?;
            }
        }
        Ok(any)
    }

    fn replied(
        &mut self,
        ticket: u64,
        result: Result<Reply, Code>,
        file: Option<OwnedFd>,
        ring: &mut Ring,
        outside: &mut Outside,
    ) -> Result<(), Broken> {
        let Some(Asked { answer, room, arrives }) = self.asked.remove(&ticket) else {
            give_back(&result, None, outside);
            return Ok(());
        };
        let mut number = None;
        let result = match result {
            Ok(reply) => arrived(reply, file, arrives, &mut number, outside),
            Err(Code(code)) if (1..4096).contains(&code) => Err(Code(code)),
            Err(_) => Err(code(Errno::IO)),
        };
        let bytes = encoded(&result);
        if bytes.len() > room {
            // The guest will never know what it was given.
            give_back(&result, number, outside);
        }
        ring.used(answer.head, data(&answer, &bytes, room))
    }
}

/// The bits of a mode that say what a file is, and a directory's.
const MODE: u32 = 0o170000;
const DIRECTORY: u32 = 0o040000;

/// Numbers the descriptor that came along, and puts the number into the reply's handle.
fn arrived(
    mut reply: Reply,
    file: Option<OwnedFd>,
    kind: Kind,
    number: &mut Option<u32>,
    outside: &mut Outside,
) -> Result<Reply, Code> {
    let is_directory =
        matches!(&reply, Reply::Opened { attributes, .. } if attributes.mode & MODE == DIRECTORY);
    if let Reply::Opened { handle, .. } | Reply::Socket { handle, .. } = &mut reply {
        let half = match file {
            Some(file) => match outside.table.keep(file, kind) {
                Ok(half) => half,
                Err(error) => {
                    forget(handle.object(), outside);
                    return Err(code(error));
                }
            },
            // A directory's stays with the monitor.
            None if is_directory => u32::MAX,
            // There was no room for it here.
            None => {
                forget(handle.object(), outside);
                return Err(code(Errno::MFILE));
            }
        };
        *number = Some(half).filter(|half| *half != u32::MAX);
        *handle = Handle::new(half, handle.object());
    }
    Ok(reply)
}

/// Gives back what an answer brought and nobody will use.
fn give_back(result: &Result<Reply, Code>, number: Option<u32>, outside: &mut Outside) {
    if let Some(number) = number {
        outside.table.forget(number);
    }
    if let Ok(Reply::Opened { handle, .. } | Reply::Socket { handle, .. }) = result {
        forget(handle.object(), outside);
    }
}

fn forget(object: u32, outside: &mut Outside) {
    if object != 0 {
        // It is short.
        let _ = outside.channel.send(&ToMonitor::Request { ticket: 0, request: Request::Forget { object } });
    }
}

fn encoded(result: &Result<Reply, Code>) -> Vec<u8> {
    // What came in a message fits one, so that this fails only for a reply at the very edge of the length.
    encode(result).or_else(|_| encode(&Err::<Reply, _>(code(Errno::MSGSIZE)))).unwrap_or_default()
}

fn set_option(handle: u64, input: &[u8], outside: &Outside) -> Result<(), Errno> {
    let option = decode::<SocketOption>(input).map_err(|_| Errno::INVAL)?;
    let granted = outside.table.get(handle)?;
    if granted.kind.is_socket() { host::set_option(&granted.file, option) } else { Err(Errno::NOTSOCK) }
}

fn code(error: Errno) -> Code {
    Code(u16::try_from(error.raw_os_error()).unwrap_or(5))
}
