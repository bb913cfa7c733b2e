//! Sending messages: send(2), sendmsg(2), sendmmsg(2).

use alloc::sync::Arc;

use super::{
    CONTROL_MAX, Header, Ranges, SCM_CREDENTIALS, SCM_RIGHTS, SOL_SOCKET, SOL_UDP, Several, UDP_SEGMENT, half,
};
use crate::errno::{Errno, Result};
use crate::file::Description;
use crate::file::ring::Source;
use crate::network::Endpoint;
use crate::network::control::{self, Control};
use crate::network::message::{Ancillary, Credentials, Outgoing, flag};
use crate::syscall::file::attempt;
use crate::syscall::socket::{AddressArgument, get, manner, of};
use crate::syscall::waiting::{self, Operation};
use crate::syscall::{Call, Outcome};
use crate::thread::Thread;
use crate::user;

/// Descriptors one message may carry (unix(7), SCM_MAX_FD).
const RIGHTS_MAX: usize = 253;
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
            (SOL_SOCKET, _) | (SOL_UDP, UDP_SEGMENT) => return Err(Errno::EINVAL),
            // Of the protocol's own there is none that changes anything here (IP_TOS and the like).
            _ => {}
        }
    }
    if !ancillary.rights.is_empty() {
        thread.kernel().network.in_flight.note(&ancillary.rights);
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

pub fn sendmmsg(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(get(call, 0));
    let flags = call.word(3);
    let several = Several::new(call, &description, flags, Send::message);
    waiting::run(call, &description, manner(&description, flags, true), several)
}
