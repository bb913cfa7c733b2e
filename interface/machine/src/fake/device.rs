//! The fake machine's devices: transfers between memory and objects, with seeded trouble.
//!
//! What is delayed is done at once and reported later: a program may not look before.

use alloc::vec::Vec;

use abi::network::{Address, Shutdown, SocketOption};
use abi::request::{Reply, Request};

use super::object::{Object, Stream};
use super::state::{Coming, State};
use super::{Fake, locked};
use crate::{Code, Device, Event, Handle, Sink, Source, Started, Ticket, Transfer};

const EIO: Code = Code(5);
const EBADF: Code = Code(9);
const EFAULT: Code = Code(14);
const EISDIR: Code = Code(21);
const EINVAL: Code = Code(22);

impl Sink<'_> {
    fn length(&self) -> u64 {
        match self {
            Sink::User(ranges) => ranges.iter().fold(0, |sum, range| sum.saturating_add(range.length)),
            Sink::Kernel(bytes) => bytes.len() as u64,
        }
    }
}

impl State {
    /// Copies into a sink as far as it is accessible.
    fn fill(&mut self, to: &mut Sink<'_>, bytes: &[u8]) -> Result<usize, Code> {
        let ranges = match to {
            Sink::Kernel(to) => {
                to[..bytes.len()].copy_from_slice(bytes);
                return Ok(bytes.len());
            }
            Sink::User(ranges) => *ranges,
        };
        let mut done = 0;
        for range in ranges {
            let count = (bytes.len() - done).min(range.length as usize);
            if self.memory.copy_out(self.space(), &bytes[done..done + count], range.address).is_err() {
                return if done == 0 { Err(EFAULT) } else { Ok(done) };
            }
            done += count;
        }
        Ok(done)
    }

    /// The bytes of a source, as far as they are accessible.
    fn gather(&mut self, from: &Source<'_>) -> Result<Vec<u8>, Code> {
        let ranges = match from {
            Source::Kernel(bytes) => return Ok(bytes.to_vec()),
            Source::User(ranges) => *ranges,
        };
        let mut bytes = Vec::new();
        for range in ranges {
            let mut part = alloc::vec![0; range.length.min(1 << 24) as usize];
            if self.memory.copy_in(self.space(), range.address, &mut part).is_err() {
                return if bytes.is_empty() { Err(EFAULT) } else { Ok(bytes) };
            }
            bytes.extend(part);
        }
        Ok(bytes)
    }

    /// How much of `length` is transferred this time.
    fn shortened(&mut self, length: usize) -> usize {
        if length > 1 && self.random.chance(self.faults.short) {
            1 + self.random.below(length as u64 - 1) as usize
        } else {
            length
        }
    }

    /// Reports a finished transfer now or later.
    fn report(&mut self, count: usize, may_delay: bool) -> Transfer {
        if !may_delay || !self.random.chance(self.faults.later) {
            return Transfer::Done(count);
        }
        let ticket = self.ticket();
        self.soon(Coming::Event(Event::Completed { ticket, result: Ok(Reply::Number(count as u64)) }));
        Transfer::Later(ticket)
    }

    /// A stream that claims not to be ready owes an event.
    fn balks(&mut self, handle: Handle) -> bool {
        let watched = self.objects.stream(handle).is_ok_and(|stream| stream.watched);
        let balks = watched && self.random.chance(self.faults.not_ready);
        if balks {
            self.soon(Coming::Ready(handle));
        }
        balks
    }

    fn read(
        &mut self,
        handle: Handle,
        offset: Option<u64>,
        mut to: Sink<'_>,
        peek: bool,
    ) -> Result<Transfer, Code> {
        let wanted = self.shortened(to.length().min(1 << 24) as usize);
        let balks = self.balks(handle);
        match self.objects.get(handle)? {
            Object::Directory { .. } => Err(EISDIR),
            Object::File { reads: false, .. } => Err(EBADF),
            Object::File { content, position, .. } => {
                let start = offset.unwrap_or(*position);
                let content = content.clone();
                let content = locked(&content);
                let rest = content.get(start as usize..).unwrap_or(&[]);
                let bytes = rest[..rest.len().min(wanted)].to_vec();
                // A mapping of the same file may be where this goes.
                drop(content);
                let count = self.fill(&mut to, &bytes)?;
                if let (None, Object::File { position, .. }) = (offset, self.objects.get(handle)?) {
                    *position += count as u64;
                }
                Ok(self.report(count, matches!(to, Sink::User(_))))
            }
            Object::Stream(_) if balks => Ok(Transfer::NotReady),
            Object::Stream(_) => {
                let Stream { incoming, ended, .. } = self.objects.stream(handle)?;
                if incoming.is_empty() && !*ended && wanted > 0 {
                    return Ok(Transfer::NotReady);
                }
                let bytes: Vec<u8> = incoming.iter().take(wanted).copied().collect();
                let count = self.fill(&mut to, &bytes)?;
                if !peek {
                    self.objects.stream(handle)?.incoming.drain(..count);
                }
                Ok(Transfer::Done(count))
            }
        }
    }

    fn write(&mut self, handle: Handle, offset: Option<u64>, from: &Source<'_>) -> Result<Transfer, Code> {
        let mut bytes = self.gather(from)?;
        // Kernel memory is written whole: its writers are short of ways to go on.
        let may_delay = matches!(from, Source::User(_));
        if may_delay {
            bytes.truncate(self.shortened(bytes.len()));
        }
        let balks = self.balks(handle);
        match self.objects.get(handle)? {
            Object::Directory { .. } | Object::File { writes: false, .. } => Err(EBADF),
            Object::File { content, position, .. } => {
                let start = offset.unwrap_or(*position) as usize;
                let end = start.checked_add(bytes.len()).ok_or(Code(27))?;
                let mut content = locked(content);
                if end > content.len() && !bytes.is_empty() {
                    content.resize(end, 0);
                }
                if !bytes.is_empty() {
                    content[start..end].copy_from_slice(&bytes);
                }
                drop(content);
                if offset.is_none() {
                    *position = end as u64;
                }
                Ok(self.report(bytes.len(), may_delay))
            }
            Object::Stream(_) if balks => Ok(Transfer::NotReady),
            Object::Stream(stream) => {
                stream.outgoing.extend_from_slice(&bytes);
                Ok(Transfer::Done(bytes.len()))
            }
        }
    }
}

impl Device for Fake {
    fn request(&self, request: Request<'_>) -> Started {
        let mut state = locked(&self.state);
        let silent = request.is_silent();
        state.asked += u64::from(!silent);
        let faults = state.faults;
        let result =
            if !silent && state.random.chance(faults.error) { Err(EIO) } else { state.answer(request) };
        if silent || !state.random.chance(faults.later) {
            return Started::Ready(result);
        }
        let ticket = state.ticket();
        state.soon(Coming::Event(Event::Completed { ticket, result }));
        Started::Later(ticket)
    }

    fn read(&self, handle: Handle, offset: Option<u64>, to: Sink<'_>) -> Result<Transfer, Code> {
        locked(&self.state).read(handle, offset, to, false)
    }

    fn finish(&self, _: Ticket, length: u64) -> Result<Transfer, Code> {
        Ok(Transfer::Done(length as usize))
    }

    fn write(&self, handle: Handle, offset: Option<u64>, from: Source<'_>) -> Result<Transfer, Code> {
        locked(&self.state).write(handle, offset, &from)
    }

    fn receive(&self, handle: Handle, to: Sink<'_>, peek: bool) -> Result<(Transfer, Option<Address>), Code> {
        Ok((locked(&self.state).read(handle, None, to, peek)?, None))
    }

    fn send(&self, handle: Handle, from: Source<'_>, _more: bool) -> Result<Transfer, Code> {
        locked(&self.state).write(handle, None, &from)
    }

    fn accept(&self, handle: Handle) -> Result<Option<(Handle, Address)>, Code> {
        // Nothing listens: no port is granted.
        locked(&self.state).objects.stream(handle)?;
        Err(EINVAL)
    }

    fn shutdown(&self, handle: Handle, how: Shutdown) -> Result<(), Code> {
        let mut state = locked(&self.state);
        let stream = state.objects.stream(handle)?;
        stream.ended |= how != Shutdown::Write;
        Ok(())
    }

    fn set_option(&self, handle: Handle, _option: SocketOption) -> Result<(), Code> {
        locked(&self.state).objects.stream(handle).map(drop)
    }

    fn watch(&self, handle: Handle) -> Result<(), Code> {
        let mut state = locked(&self.state);
        let stream = state.objects.stream(handle)?;
        stream.watched = true;
        // What is so already is reported once as well.
        state.soon(Coming::Ready(handle));
        Ok(())
    }

    fn close(&self, handle: Handle) {
        let known = locked(&self.state).objects.remove(handle);
        assert!(known, "broken rule: {handle:?} is closed that is not open");
    }
}
