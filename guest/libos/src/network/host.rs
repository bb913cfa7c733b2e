//! A granted socket: the operations on its handle, and what is known of its readiness.
//!
//! The handle is used only while it is thought ready. A short transfer on a stream has drained or filled
//! it, so that the next attempt costs no call; after a full one readiness is in doubt, and is made
//! certain by a peek when somebody polls.
//!
//! TCP_CORK is not passed on: what is written under it is sent with MSG_MORE, which holds it back just as
//! long. sendfile(2), which corks are made for, ends what was held back, so mostly nothing is left for the
//! end of the cork to send.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::network::{Shutdown, SocketOption};
use machine::{Handle, Readiness, Transfer};

use super::message::{Received, flag};
use super::option::Options;
use crate::device::Watched;
use crate::errno::{Errno, Result};
use crate::file::event;
use crate::file::pipe::broken;
use crate::file::ring::{Sink, Source};
use crate::kernel::Kernel;
use crate::lock::Mutex;
use crate::thread::Thread;

/// A granted socket, closed when dropped.
pub struct HostSocket {
    kernel: Arc<Kernel>,
    pub watched: Arc<Watched>,
    /// Whether bytes flow, rather than datagrams.
    stream: bool,
    /// TCP_CORK is set, and whether something is held back.
    corked: AtomicBool,
    held: AtomicBool,
    /// An error that a look has met, and nobody has been told of.
    met: Mutex<Option<Errno>>,
}

impl HostSocket {
    /// Takes over a handle and tells it the options.
    pub fn adopt(kernel: &Arc<Kernel>, handle: Handle, stream: bool, options: &Options) -> Result<Self> {
        let watched = match kernel.devices.watch(handle) {
            Ok(watched) => watched,
            Err(errno) => {
                kernel.machine.close(handle);
                return Err(errno);
            }
        };
        let (corked, held) = (AtomicBool::new(false), AtomicBool::new(false));
        let met = Mutex::new(None);
        let socket = Self { kernel: kernel.clone(), watched, stream, corked, held, met };
        for option in options.for_host() {
            // An option the host does not take is no reason to lose the connection.
            let _ = socket.set_option(option);
        }
        Ok(socket)
    }

    pub fn set_option(&self, option: SocketOption) -> Result<()> {
        if let SocketOption::Cork(on) = option {
            self.corked.store(on, Ordering::SeqCst);
            if on || !self.held.swap(false, Ordering::SeqCst) {
                return Ok(());
            }
        }
        Ok(self.kernel.machine.set_option(self.watched.handle, option)?)
    }

    pub fn shutdown(&self, how: Shutdown) -> Result<()> {
        Ok(self.kernel.machine.shutdown(self.watched.handle, how)?)
    }

    /// Sends; `None` if it would block.
    pub fn send(&self, thread: &Arc<Thread>, from: &Source<'_>, flags: u32) -> Result<Option<usize>> {
        match self.send_part(from, flags & flag::MORE != 0) {
            Err(Errno::EPIPE) if flags & flag::NO_SIGNAL == 0 => Err(broken(thread)),
            other => other,
        }
    }

    /// Sends for nobody in particular.
    pub fn send_quietly(&self, from: &Source<'_>) -> Result<Option<usize>> {
        self.send_part(from, false)
    }

    fn send_part(&self, from: &Source<'_>, more: bool) -> Result<Option<usize>> {
        self.told()?;
        let (readiness, token) = self.watched.readiness();
        if !readiness.intersects(Readiness::WRITE | Readiness::HANGUP | Readiness::ERROR) {
            return Ok(None);
        }
        let held_back = matches!(from, Source::User { .. }) && self.corked.load(Ordering::SeqCst);
        let more = more || held_back;
        let sent = self.kernel.machine.send(self.watched.handle, from.for_machine(), more);
        match sent.map_err(|code| self.failed(token, code))? {
            Transfer::Done(count) => {
                if self.held.load(Ordering::Relaxed) != held_back {
                    self.held.store(held_back, Ordering::SeqCst);
                }
                if self.stream && count < from.length() {
                    self.watched.exhausted(token, Readiness::WRITE);
                }
                Ok(Some(count))
            }
            Transfer::NotReady => {
                self.watched.exhausted(token, Readiness::WRITE);
                Ok(None)
            }
            Transfer::Later(_) => Err(Errno::EIO),
        }
    }

    /// Receives; `None` if it would block.
    pub fn receive(&self, mut to: Sink<'_>, flags: u32) -> Result<Option<Received>> {
        self.told()?;
        let (readiness, token) = self.watched.readiness();
        if !readiness.intersects(Readiness::all() - Readiness::WRITE) {
            return Ok(None);
        }
        let length = to.length();
        let machine = &self.kernel.machine;
        let peek = flags & flag::PEEK != 0;
        let transfer = if self.stream && !peek {
            machine.read(self.watched.handle, None, to.for_machine())
        } else {
            machine.receive(self.watched.handle, to.for_machine(), peek).map(|(transfer, _)| transfer)
        };
        match transfer.map_err(|code| self.failed(token, code))? {
            Transfer::Done(count) => {
                if !self.stream || peek || count == length || count == 0 {
                    self.watched.doubt();
                } else {
                    self.watched.exhausted(token, Readiness::READ);
                }
                // Whose it is the caller knows: granted sockets are connected.
                Ok(Some(Received { length: count.min(length), full: count, ..Received::default() }))
            }
            Transfer::NotReady => {
                let over = if self.stream { Readiness::empty() } else { Readiness::ERROR };
                self.watched.exhausted(token, Readiness::READ | over);
                Ok(None)
            }
            Transfer::Later(_) => Err(Errno::EIO),
        }
    }

    /// The error that a look has met, once.
    fn told(&self) -> Result<()> {
        self.met.lock().take().map_or(Ok(()), Err)
    }

    /// An error of the host's, which it tells once: a stream is over then, but not a socket of datagrams.
    fn failed(&self, token: u64, code: machine::Code) -> Errno {
        if !self.stream {
            self.watched.exhausted(token, Readiness::ERROR);
        }
        code.into()
    }

    /// What a look without a receiver finds. An error is kept for whoever comes next.
    fn peek(&self, bytes: &mut [u8]) -> Option<Transfer> {
        let token = self.watched.readiness().1;
        match self.kernel.machine.receive(self.watched.handle, machine::Sink::Kernel(bytes), true) {
            Ok((transfer, _)) => Some(transfer),
            Err(code) => {
                let errno = self.failed(token, code);
                self.met.lock().get_or_insert(errno);
                None
            }
        }
    }

    /// Whether there is something to read, looking for it if that is in doubt.
    fn has_data(&self, readiness: Readiness, token: u64) -> bool {
        let over = readiness.intersects(Readiness::READ_END | Readiness::HANGUP | Readiness::ERROR);
        if over || self.met.lock().is_some() {
            return true;
        }
        if !readiness.contains(Readiness::READ) || !Watched::is_doubtful(token) {
            return readiness.contains(Readiness::READ);
        }
        if let Some(Transfer::NotReady) = self.peek(&mut [0]) {
            self.watched.exhausted(token, Readiness::READ);
            return false;
        }
        true
    }

    /// Bytes that can be read, as far as a peek tells.
    pub fn unread(&self) -> usize {
        let mut bytes = alloc::vec![0; 16 << 10];
        match self.peek(&mut bytes) {
            Some(Transfer::Done(count)) => count,
            _ => 0,
        }
    }

    pub fn events(&self) -> u32 {
        let (readiness, token) = self.watched.readiness();
        let mut events = 0;
        if self.has_data(readiness, token) {
            events |= event::IN | event::READ_NORMAL;
        }
        if readiness.contains(Readiness::WRITE) {
            events |= event::OUT | event::WRITE_NORMAL;
        }
        if readiness.intersects(Readiness::READ_END | Readiness::HANGUP) {
            events |= event::READ_HANGUP;
        }
        if readiness.contains(Readiness::HANGUP) {
            events |= event::HANGUP;
        }
        if readiness.contains(Readiness::ERROR) || self.met.lock().is_some() {
            events |= event::ERROR;
        }
        events
    }

    /// The error that the host reports, as far as a read tells; once.
    pub fn error(&self) -> Option<Errno> {
        if self.watched.readiness().0.contains(Readiness::ERROR) {
            self.peek(&mut [0]);
        }
        self.told().err()
    }
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        self.kernel.devices.close(self.watched.handle);
    }
}
