//! The three standard streams, over what the monitor granted.
//!
//! Streams that are the same grant share one file, since a handle is watched once. Readiness that a full
//! read leaves in doubt is made certain by reading one byte ahead, so that poll(2) never promises data
//! that a blocking read would then wait for.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;

use crate::lock::Mutex;
use abi::boot::Stream;
use abi::file::Attributes;
use abi::request::{Reply, Request};
use abi::terminal::{Settings, When, Window};
use machine::{Handle, Readiness, Transfer, UserRange};

use super::pipe::{FIONREAD, anonymous, broken, put_word};
use super::ring::{Sink, Source};
use super::{File, Promise, event, kept};
use crate::device::{Devices, Watched};
use crate::errno::{Errno, Result};
use crate::file_system::{OWN_DEVICE, TERMINAL_INODE, TERMINAL_NUMBER};
use crate::kernel::Kernel;
use crate::terminal::{Control, Reopen};
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// What has been read ahead.
enum Ahead {
    Nothing,
    Byte(u8),
    /// The end of the data; a terminal says so only once.
    End,
}

enum Kind {
    Null,
    File(Handle),
    Pipe(Arc<Watched>),
    Terminal(Arc<Watched>),
}

/// A standard stream.
pub struct StreamFile {
    kernel: Arc<Kernel>,
    kind: Kind,
    ahead: Mutex<Ahead>,
    /// Of a terminal.
    control: Arc<Control>,
    own: Weak<StreamFile>,
}

/// Opens the standard streams, in order.
pub fn standard(kernel: &Arc<Kernel>) -> Result<Vec<Arc<StreamFile>>> {
    let mut files: Vec<(Stream, Arc<StreamFile>)> = Vec::new();
    for stream in kernel.boot.streams {
        let same = files.iter().find(|(other, _)| *other == stream).map(|(_, file)| file.clone());
        let file = match same {
            Some(file) => file,
            None => StreamFile::open(kernel, stream)?,
        };
        files.push((stream, file));
    }
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

impl StreamFile {
    fn open(kernel: &Arc<Kernel>, stream: Stream) -> Result<Arc<Self>> {
        let kind = match stream {
            Stream::Null => Kind::Null,
            Stream::File(handle) => Kind::File(handle),
            Stream::Pipe(handle) => Kind::Pipe(kernel.devices.watch(handle)?),
            Stream::Terminal(handle) => Kind::Terminal(kernel.devices.watch(handle)?),
        };
        Ok(Arc::new_cyclic(|own: &Weak<Self>| Self {
            kernel: kernel.clone(),
            kind,
            ahead: Mutex::new(Ahead::Nothing),
            control: Control::new(own.clone(), TERMINAL_NUMBER),
            own: own.clone(),
        }))
    }

    /// Whether the stream is a terminal (isatty(3)).
    pub fn is_terminal(&self) -> bool {
        matches!(self.kind, Kind::Terminal(_))
    }

    /// What controls a session through this terminal, if it is one.
    pub fn control(&self) -> Option<&Arc<Control>> {
        self.is_terminal().then_some(&self.control)
    }

    fn watched(&self) -> Option<&Arc<Watched>> {
        match &self.kind {
            Kind::Pipe(watched) | Kind::Terminal(watched) => Some(watched),
            _ => None,
        }
    }

    fn take(&self, watched: &Watched, mut to: Sink<'_>) -> Result<Transfer> {
        let mut ahead = self.ahead.lock();
        match *ahead {
            // The rest comes with the next read: a short read is what terminals and pipes give anyway.
            Ahead::Byte(byte) if to.length() > 0 => {
                to.copy(0, &[byte])?;
                *ahead = Ahead::Nothing;
                return Ok(Transfer::Done(1));
            }
            Ahead::End => {
                *ahead = Ahead::Nothing;
                return Ok(Transfer::Done(0));
            }
            _ => {}
        }
        drop(ahead);
        let (readiness, token) = watched.readiness();
        if !readiness.intersects(Readiness::all() - Readiness::WRITE) {
            return Ok(Transfer::NotReady);
        }
        let length = to.length();
        let transfer = self.kernel.machine.read(watched.handle, None, to.for_machine())?;
        match transfer {
            // A terminal gives one line at a time, however many there are (termios(3)).
            Transfer::Done(count) if count == length || count == 0 || self.is_terminal() => {
                watched.doubt();
            }
            Transfer::Done(_) | Transfer::NotReady => watched.exhausted(token, Readiness::READ),
            Transfer::Later(_) => {}
        }
        Ok(transfer)
    }

    fn put(&self, thread: &Arc<Thread>, watched: &Watched, from: &Source<'_>) -> Result<Transfer> {
        let (readiness, token) = watched.readiness();
        if !readiness.intersects(Readiness::WRITE | Readiness::HANGUP | Readiness::ERROR) {
            return Ok(Transfer::NotReady);
        }
        let transfer = match self.kernel.machine.write(watched.handle, None, from.for_machine()) {
            Err(code) if Errno::from(code) == Errno::EPIPE => return Err(broken(thread)),
            other => other?,
        };
        match transfer {
            Transfer::Done(count) if count < from.length() && !self.is_terminal() => {
                watched.exhausted(token, Readiness::WRITE);
            }
            Transfer::NotReady => watched.exhausted(token, Readiness::WRITE),
            _ => {}
        }
        Ok(transfer)
    }

    /// Whether there is something to read, looking for it if that is in doubt.
    fn has_data(&self, watched: &Watched) -> bool {
        let mut ahead = self.ahead.lock();
        if !matches!(*ahead, Ahead::Nothing) {
            return true;
        }
        let (readiness, token) = watched.readiness();
        if readiness.intersects(Readiness::READ_END | Readiness::HANGUP | Readiness::ERROR) {
            return true;
        }
        if !readiness.contains(Readiness::READ) || !Watched::is_doubtful(token) {
            return readiness.contains(Readiness::READ);
        }
        let mut byte = [0];
        match self.kernel.machine.read(watched.handle, None, machine::Sink::Kernel(&mut byte)) {
            Ok(Transfer::Done(0)) => *ahead = Ahead::End,
            Ok(Transfer::Done(_)) => *ahead = Ahead::Byte(byte[0]),
            Ok(_) => {
                watched.exhausted(token, Readiness::READ);
                return false;
            }
            // The next read says what it is.
            Err(_) => {}
        }
        true
    }

    fn input(&self, to: Sink<'_>) -> Result<Transfer> {
        let mut to = to;
        match &self.kind {
            Kind::Null => Ok(Transfer::Done(0)),
            Kind::File(handle) => Ok(self.kernel.machine.read(*handle, None, to.for_machine())?),
            Kind::Pipe(watched) | Kind::Terminal(watched) => self.take(watched, to),
        }
    }

    fn output(&self, thread: &Arc<Thread>, from: &Source<'_>) -> Result<Transfer> {
        match &self.kind {
            Kind::Null => Ok(Transfer::Done(from.length())),
            Kind::File(handle) => Ok(self.kernel.machine.write(*handle, None, from.for_machine())?),
            Kind::Pipe(watched) | Kind::Terminal(watched) => self.put(thread, watched, from),
        }
    }
}

impl Reopen for StreamFile {
    fn reopen(&self) -> Result<Arc<dyn File>> {
        let own: Arc<dyn File> = self.own.upgrade().ok_or(Errno::EIO)?;
        Ok(own)
    }
}

impl File for StreamFile {
    fn tells_owner(&self) -> bool {
        true
    }

    fn opened_again(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn File>> {
        Ok(self)
    }

    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        if let Some(control) = self.control() {
            control.may_read(thread)?;
        }
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => self.input(Sink::user(thread, to)),
        }
    }

    fn write(&self, thread: &Arc<Thread>, from: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        match offset {
            Some(_) => Err(Errno::ESPIPE),
            None => self.output(thread, &Source::user(thread, from)),
        }
    }

    fn read_kernel(&self, _thread: &Arc<Thread>, to: &mut [u8], _offset: u64) -> Result<usize> {
        match self.input(Sink::Kernel(to))? {
            Transfer::Done(count) => Ok(count),
            _ => Err(Errno::EAGAIN),
        }
    }

    fn write_kernel(&self, thread: &Arc<Thread>, from: &[u8]) -> Result<Transfer> {
        self.output(thread, &Source::Kernel(from))
    }

    fn events(&self) -> u32 {
        let always = event::IN | event::OUT | event::READ_NORMAL | event::WRITE_NORMAL;
        let Some(watched) = self.watched() else { return always };
        let (readiness, _) = watched.readiness();
        let mut events = 0;
        if self.has_data(watched) {
            events |= event::IN | event::READ_NORMAL;
        }
        if readiness.contains(Readiness::WRITE) {
            events |= event::OUT | event::WRITE_NORMAL;
        }
        if readiness.contains(Readiness::HANGUP) {
            events |= event::HANGUP;
        }
        if readiness.contains(Readiness::ERROR) {
            events |= event::ERROR;
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        self.watched().map(|watched| &watched.queue)
    }

    fn outside(&self) -> bool {
        self.watched().is_some()
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        let device = |minor: u64, major: u64| Attributes {
            special: major << 8 | minor,
            ..anonymous(thread, 0o020620, 3)
        };
        match &self.kind {
            Kind::Null => kept(Ok(Attributes { mode: 0o020666, ..device(3, 1) })),
            Kind::Terminal(_) => kept(Ok(Attributes {
                device: OWN_DEVICE,
                inode: TERMINAL_INODE,
                ..device(TERMINAL_NUMBER & 0xff, TERMINAL_NUMBER >> 8)
            })),
            Kind::Pipe(_) => kept(Ok(anonymous(thread, 0o010600, 2))),
            Kind::File(handle) => {
                let (kernel, handle) = (self.kernel.clone(), *handle);
                let otherwise = anonymous(thread, 0o100600, 2);
                Promise::later(async move {
                    match kernel.devices.request(&kernel, Request::HandleAttributes { handle }).await {
                        Ok(Reply::Attributes(attributes)) => Ok(attributes),
                        _ => Ok(otherwise),
                    }
                })
            }
        }
    }

    fn control(&self, thread: &Arc<Thread>, command: u32, argument: u64) -> Promise<u64> {
        match &self.kind {
            Kind::Terminal(watched) => terminal::control(self, thread, watched.handle, command, argument),
            Kind::Pipe(watched) if command == FIONREAD => {
                let some = u32::from(self.has_data(watched));
                kept(put_word(thread, argument, some))
            }
            _ => kept(Err(Errno::ENOTTY)),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for StreamFile {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Null => {}
            Kind::File(handle) => self.kernel.machine.close(*handle),
            Kind::Pipe(watched) | Kind::Terminal(watched) => self.kernel.devices.close(watched.handle),
        }
    }
}

pub(super) mod terminal {
    //! ioctl_tty(2), as far as programs on an island need it.

    use super::*;

    pub(in crate::file) const TCGETS: u32 = 0x5401;
    pub(in crate::file) const TCSETS: u32 = 0x5402;
    pub(in crate::file) const TCSETSW: u32 = 0x5403;
    pub(in crate::file) const TCSETSF: u32 = 0x5404;
    pub(in crate::file) const TCSBRK: u32 = 0x5409;
    pub(in crate::file) const TCXONC: u32 = 0x540a;
    pub(in crate::file) const TCFLSH: u32 = 0x540b;
    pub(in crate::file) const TIOCSCTTY: u32 = 0x540e;
    pub(in crate::file) const TIOCGPGRP: u32 = 0x540f;
    pub(in crate::file) const TIOCSPGRP: u32 = 0x5410;
    pub(in crate::file) const TIOCOUTQ: u32 = 0x5411;
    pub(in crate::file) const TIOCGWINSZ: u32 = 0x5413;
    pub(in crate::file) const TIOCSWINSZ: u32 = 0x5414;
    pub(in crate::file) const TIOCNOTTY: u32 = 0x5422;
    pub(in crate::file) const TCSBRKP: u32 = 0x5425;
    pub(in crate::file) const TIOCGSID: u32 = 0x5429;

    /// Bytes of the kernel's `struct termios`.
    const SETTINGS: usize = 36;

    pub(in crate::file) fn encode(settings: &Settings) -> [u8; SETTINGS] {
        let mut bytes = [0; SETTINGS];
        let words = [settings.input, settings.output, settings.control, settings.local];
        for (index, word) in words.iter().enumerate() {
            bytes[index * 4..index * 4 + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes[16] = settings.line;
        bytes[17..].copy_from_slice(&settings.characters);
        bytes
    }

    pub(in crate::file) fn decode(bytes: &[u8; SETTINGS]) -> Settings {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut characters = [0; 19];
        characters.copy_from_slice(&bytes[17..]);
        Settings {
            input: word(0),
            output: word(4),
            control: word(8),
            local: word(12),
            line: bytes[16],
            characters,
        }
    }

    fn get<const N: usize>(thread: &Arc<Thread>, address: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        thread.kernel().machine.copy_in(thread.process.space(), address, &mut bytes)?;
        Ok(bytes)
    }

    fn half(bytes: &[u8; 8], at: usize) -> u16 {
        u16::from_le_bytes([bytes[at], bytes[at + 1]])
    }

    fn ask(kernel: &Arc<Kernel>, request: Request<'static>) -> Promise<u64> {
        Devices::promise(kernel, request).then(|_| Ok(0))
    }

    /// Answers what is about the session that a terminal controls.
    pub(in crate::file) fn job(
        control: &Arc<Control>,
        thread: &Arc<Thread>,
        command: u32,
        argument: u64,
    ) -> Option<Result<u64>> {
        let process = &thread.process;
        let word = |number: Result<u32>| number.and_then(|number| put_word(thread, argument, number));
        Some(match command {
            TIOCGPGRP => word(control.foreground(process)),
            TIOCGSID => word(control.session(process)),
            TIOCSPGRP => get(thread, argument)
                .and_then(|bytes| control.set_foreground(thread, u32::from_le_bytes(bytes)))
                .map(|()| 0),
            TIOCSCTTY => control.acquire(process, argument == 1).map(|()| 0),
            TIOCNOTTY => control.release(process).map(|()| 0),
            _ => return None,
        })
    }

    pub(super) fn control(
        stream: &StreamFile,
        thread: &Arc<Thread>,
        handle: Handle,
        command: u32,
        argument: u64,
    ) -> Promise<u64> {
        let kernel = &stream.kernel;
        let control = &stream.control;
        if let Some(answer) = job(control, thread, command, argument) {
            return kept(answer);
        }
        match command {
            TCGETS | TIOCGWINSZ => {
                let (kernel, thread) = (kernel.clone(), thread.clone());
                Promise::later(async move {
                    let reply = kernel.devices.request(&kernel, Request::TerminalSettings { handle }).await?;
                    let Reply::Terminal { settings, window } = reply else { return Err(Errno::EIO) };
                    let space = thread.process.space();
                    if command == TCGETS {
                        kernel.machine.copy_out(space, &encode(&settings), argument)?;
                    } else {
                        let mut bytes = [0; 8];
                        let halves = [window.rows, window.columns, window.width, window.height];
                        for (index, half) in halves.iter().enumerate() {
                            bytes[index * 2..index * 2 + 2].copy_from_slice(&half.to_le_bytes());
                        }
                        kernel.machine.copy_out(space, &bytes, argument)?;
                    }
                    Ok(0)
                })
            }
            TCSETS | TCSETSW | TCSETSF => {
                match control.may_change(thread).and_then(|()| get(thread, argument)) {
                    Ok(bytes) => {
                        let when = match command {
                            TCSETS => When::Now,
                            TCSETSW => When::Drained,
                            _ => When::Flushed,
                        };
                        let settings = decode(&bytes);
                        ask(kernel, Request::SetTerminalSettings { handle, settings, when })
                    }
                    Err(errno) => kept(Err(errno)),
                }
            }
            TIOCSWINSZ => match get::<8>(thread, argument) {
                Ok(bytes) => {
                    let window = Window {
                        rows: half(&bytes, 0),
                        columns: half(&bytes, 2),
                        width: half(&bytes, 4),
                        height: half(&bytes, 6),
                    };
                    ask(kernel, Request::SetTerminalWindow { handle, window })
                }
                Err(errno) => kept(Err(errno)),
            },
            TCFLSH => ask(kernel, Request::FlushTerminal { handle, queue: argument as u32 }),
            TCSBRK | TCSBRKP | TCXONC => kept(Ok(0)),
            TIOCOUTQ => kept(put_word(thread, argument, 0)),
            FIONREAD => {
                let some = stream.watched().is_some_and(|watched| stream.has_data(watched));
                kept(put_word(thread, argument, u32::from(some)))
            }
            _ => kept(Err(Errno::ENOTTY)),
        }
    }
}
