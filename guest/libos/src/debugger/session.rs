//! A conversation with gdb: commands carried out, stops told.
//!
//! Commands are answered while everybody stands; while the program runs, gdb only interrupts, and anything else is
//! an error that changes nothing. There is no input or output here: bytes come in by [`Session::take`] and what is to
//! be sent gathers in [`Session::output`].

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;

use abi::exit::Exit;
use machine::Context;

use super::command::{Command, Object, Threads, parse};
use super::packet::{self, Arrival, LONGEST, Receiver, hexadecimal};
use super::{Debugger, Stop, register, signal_number};
use crate::errno::{Errno, Result};
use crate::process::Process;
use crate::signal::{SIGINT, SIGKILL, SIGTRAP};
use crate::thread::Thread;

/// How a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Detached,
    /// The program is to be ended.
    Killed,
}

/// A conversation.
pub struct Session {
    debugger: Arc<Debugger>,
    process: Arc<Process>,
    receiver: Receiver,
    acknowledges: bool,
    /// What is to be sent.
    pub output: Vec<u8>,
    /// The last packet that was sent, as long as gdb may want it again.
    last: Option<Vec<u8>>,
    selected: u32,
    /// The program has been resumed, and gdb waits to hear of a stop.
    awaited: bool,
    hears_of_programs: bool,
}

impl Session {
    /// A conversation about a process that stands.
    pub fn new(debugger: Arc<Debugger>, process: Arc<Process>) -> Self {
        Self {
            selected: process.number,
            debugger,
            process,
            receiver: Receiver::default(),
            acknowledges: true,
            output: Vec::new(),
            last: None,
            awaited: false,
            hears_of_programs: false,
        }
    }

    /// Whether gdb waits to hear of a stop.
    pub fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Takes what has come.
    pub fn take(&mut self, bytes: &[u8]) -> Option<End> {
        bytes.iter().find_map(|byte| match self.receiver.take(*byte)? {
            Arrival::Packet(content) => {
                if self.acknowledges {
                    self.output.push(b'+');
                }
                self.answer(&content)
            }
            // Without acknowledgements nothing can be damaged, and nobody refuses anything.
            Arrival::Damaged | Arrival::Refused if !self.acknowledges => None,
            Arrival::Damaged => {
                self.output.push(b'-');
                None
            }
            Arrival::Refused => {
                if let Some(last) = self.last.take() {
                    self.send(last);
                }
                None
            }
            Arrival::Interrupt => {
                if self.awaited {
                    self.debugger.stop(&self.process, Stop::Interrupted);
                }
                None
            }
        })
    }

    /// Everybody stands: gdb is told why.
    pub fn tell(&mut self) {
        self.awaited = false;
        let reply = self.why();
        self.send(reply);
    }

    fn send(&mut self, content: Vec<u8>) {
        packet::send(&mut self.output, &content);
        self.last = Some(content);
    }

    fn answer(&mut self, content: &[u8]) -> Option<End> {
        let Ok(command) = parse(content) else {
            self.send(error(Errno::EINVAL));
            return None;
        };
        if self.awaited && !matches!(command, Command::Kill { .. } | Command::Unknown) {
            self.send(error(Errno::EBUSY));
            return None;
        }
        match command {
            Command::Resume(actions) => {
                self.debugger.resume(&self.process, &actions);
                self.awaited = true;
            }
            Command::Detach => {
                self.send(b"OK".to_vec());
                return Some(End::Detached);
            }
            Command::Kill { answer } => {
                if answer {
                    self.send(b"OK".to_vec());
                }
                return Some(End::Killed);
            }
            Command::NoAcknowledgements => {
                self.acknowledges = false;
                self.send(b"OK".to_vec());
            }
            command => {
                let reply = self.reply(command).unwrap_or_else(error);
                self.send(reply);
            }
        }
        None
    }

    /// The answer to a command that leaves the program standing.
    fn reply(&mut self, command: Command<'_>) -> Result<Vec<u8>> {
        let ok = || Ok(b"OK".to_vec());
        match command {
            Command::Supported(features) => Ok(self.supported(features)),
            Command::WhyStopped => Ok(self.why()),
            // Whoever leaves lets the program go on.
            Command::Attached => Ok(b"1".to_vec()),
            Command::CurrentThread => Ok(format!("QC{:x}", self.selected).into_bytes()),
            Command::ListThreads => {
                let numbers: Vec<String> =
                    self.process.threads.lock().keys().map(|number| format!("{number:x}")).collect();
                Ok(format!("m{}", numbers.join(",")).into_bytes())
            }
            Command::ListMoreThreads => Ok(b"l".to_vec()),
            Command::SelectThread(Threads::One(number)) => {
                self.thread(number)?;
                self.selected = number;
                ok()
            }
            Command::SelectThread(_) | Command::SelectForMotion => ok(),
            Command::IsAlive(Threads::One(number)) => self.thread(number).and_then(|_| ok()),
            Command::IsAlive(_) => Err(Errno::EINVAL),
            Command::ReadRegisters => Ok(digits(&self.registers()?)),
            Command::ReadRegister(number) => {
                let place = register::place(number).ok_or(Errno::EINVAL)?;
                Ok(digits(&self.registers()?[place]))
            }
            Command::WriteRegisters(bytes) => self.set_registers(&bytes, 0).and_then(|()| ok()),
            Command::WriteRegister(number, bytes) => {
                let place = register::place(number).filter(|place| place.len() == bytes.len());
                self.set_registers(&bytes, place.ok_or(Errno::EINVAL)?.start).and_then(|()| ok())
            }
            Command::ReadMemory { address, length } => {
                let mut bytes = vec![0; length.min(LONGEST / 2)];
                let done = self.debugger.state.lock().breakpoints.read(&self.process, address, &mut bytes);
                if done == 0 && !bytes.is_empty() { Err(Errno::EFAULT) } else { Ok(digits(&bytes[..done])) }
            }
            Command::WriteMemory { address, bytes } => {
                self.debugger.state.lock().breakpoints.write(&self.process, address, &bytes)?;
                ok()
            }
            Command::InsertBreakpoint(address) => {
                self.debugger.state.lock().breakpoints.insert(&self.process, address)?;
                ok()
            }
            Command::RemoveBreakpoint(address) => {
                self.debugger.state.lock().breakpoints.remove(&self.process, address)?;
                ok()
            }
            Command::Motions => Ok(b"vCont;c;C;s;S;r;t".to_vec()),
            Command::PassSignals(signals) => {
                self.debugger.state.lock().passed = signals;
                ok()
            }
            Command::Read { object, offset, length } => {
                let bytes = self.object(object)?;
                let rest = bytes.get(offset..).unwrap_or(&[]);
                let mark = if rest.len() > length { b'm' } else { b'l' };
                Ok([&[mark], &rest[..rest.len().min(length)]].concat())
            }
            Command::Unknown
            | Command::Resume(_)
            | Command::Detach
            | Command::Kill { .. }
            | Command::NoAcknowledgements => Ok(Vec::new()),
        }
    }

    fn supported(&mut self, features: &[u8]) -> Vec<u8> {
        let has = |name: &[u8]| features.split(|byte| *byte == b';').any(|feature| feature == name);
        self.hears_of_programs = has(b"exec-events+");
        self.debugger.state.lock().hears_of_stillness = has(b"no-resumed+");
        let own = "QStartNoAckMode+;QPassSignals+;vContSupported+;swbreak+;exec-events+;no-resumed+;\
                   qXfer:features:read+;qXfer:auxv:read+;qXfer:exec-file:read+;qXfer:siginfo:read+;\
                   qXfer:threads:read+";
        format!("PacketSize={LONGEST:x};{own}").into_bytes()
    }

    /// The stop reply.
    fn why(&mut self) -> Vec<u8> {
        let report = self.debugger.state.lock().report.clone();
        let (thread, why) = report.unwrap_or((self.process.number, Stop::Asked));
        self.selected = thread;
        let (signal, more) = match why {
            Stop::NothingMoves => return b"N".to_vec(),
            Stop::Asked | Stop::Stepped => (SIGTRAP, String::new()),
            Stop::Breakpoint => (SIGTRAP, "swbreak:;".into()),
            Stop::Interrupted => (SIGINT, String::new()),
            Stop::Signal(number) => (number, String::new()),
            Stop::Executed(path) if self.hears_of_programs => {
                let mut more = b"exec:".to_vec();
                hexadecimal(&mut more, &path);
                (SIGTRAP, format!("{};", String::from_utf8_lossy(&more)))
            }
            Stop::Executed(_) => (SIGTRAP, String::new()),
        };
        format!("T{:02x}thread:{thread:x};{more}", signal_number::told(signal)).into_bytes()
    }

    fn thread(&self, number: u32) -> Result<Arc<Thread>> {
        self.process.threads.lock().get(&number).cloned().ok_or(Errno::ESRCH)
    }

    fn registers(&self) -> Result<Vec<u8>> {
        let thread = self.thread(self.selected)?;
        Ok(self.debugger.with_body(&thread, |_, body| register::encode(&body.context)))
    }

    /// Changes the registers' bytes from `start` on. A call that the thread was in is given up.
    fn set_registers(&self, bytes: &[u8], start: usize) -> Result<()> {
        let thread = self.thread(self.selected)?;
        if bytes.len() > register::length() - start {
            return Err(Errno::EINVAL);
        }
        let abandoned = self.debugger.with_body(&thread, |tracee, body| {
            let context: &mut Context = &mut body.context;
            let mut all = register::encode(context);
            all[start..start + bytes.len()].copy_from_slice(bytes);
            register::decode(context, &all);
            tracee.before_call = None;
            body.pending.take()
        });
        // Its end may wake others, which nothing may be locked for.
        drop(abandoned);
        Ok(())
    }

    fn object(&self, object: Object) -> Result<Vec<u8>> {
        Ok(match object {
            Object::Description => register::DESCRIPTION.to_vec(),
            Object::AuxiliaryVector => self.process.program.lock().auxiliary.clone(),
            Object::ExecutableFile => self.process.program.lock().path.clone(),
            Object::SignalInformation => {
                let state = self.debugger.state.lock();
                let tracee = state.tracees.get(&self.selected).ok_or(Errno::ESRCH)?;
                tracee.stopped_by.as_ref().ok_or(Errno::ENODATA)?.encode().to_vec()
            }
            Object::Threads => self.threads().into_bytes(),
        })
    }

    /// The threads with their names, as gdb wants them listed.
    fn threads(&self) -> String {
        let mut list = String::from("<?xml version=\"1.0\"?>\n<threads>\n");
        for thread in self.process.threads.lock().values() {
            let _ = write!(list, "<thread id=\"{:x}\" name=\"", thread.number());
            let name = *thread.name.lock();
            let name = name.split(|byte| *byte == 0).next().unwrap_or(&[]);
            for character in String::from_utf8_lossy(name).chars() {
                match character {
                    // Of the characters below the space XML has hardly any.
                    '\0'..' ' => list.push('?'),
                    '&' | '<' | '>' | '"' => {
                        let _ = write!(list, "&#{};", u32::from(character));
                    }
                    _ => list.push(character),
                }
            }
            list.push_str("\"/>\n");
        }
        list.push_str("</threads>\n");
        list
    }
}

/// What gdb hears of the program's end.
pub fn farewell(exit: &Exit) -> Vec<u8> {
    match exit {
        Exit::Status(status) => format!("W{status:02x}"),
        Exit::Signal(signal) => format!("X{:02x}", signal_number::told(*signal)),
        _ => format!("X{:02x}", signal_number::told(SIGKILL)),
    }
    .into_bytes()
}

fn digits(bytes: &[u8]) -> Vec<u8> {
    let mut digits = Vec::with_capacity(2 * bytes.len());
    hexadecimal(&mut digits, bytes);
    digits
}

fn error(errno: Errno) -> Vec<u8> {
    format!("E{:02x}", errno.0.min(255)).into_bytes()
}
