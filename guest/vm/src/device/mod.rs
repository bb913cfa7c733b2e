//! Granted objects: the device half of the machine.
//!
//! Memory objects are our own; files and connections are the VMM's, by `errand` and `socket`. No call here
//! waits, except transfers between files and the library OS's own memory.

mod balloon;
mod bell;
mod card;
mod console;
mod disk;
mod entropy;
pub mod errand;
mod file;
mod internet;
mod line;
mod memory;
mod socket;
mod start;
mod table;
mod transfer;
mod tree;
mod user;
mod wait;
mod write_back;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use abi::boot::{MountKind, Tree};
use abi::exit::Exit;
use abi::file::{Change, Extent};
use abi::network::{Address, Protocol, Shutdown, SocketOption};
use abi::request::{Reply, Request};
use abi::{Code, Handle};
use machine::{Backing, Device, Event, PAGE, Sink, Source, Started, Ticket, Transfer};

use crate::boot::serial::Line;
use crate::code::{EINVAL, EIO, ENODEV, ENOTSOCK};
use crate::cpu::{self, ring};
use crate::memory::area::Shown;
use crate::vm::Vm;
use crate::vmm;

use errand::Then;
use file::File;
use memory::Memory;
use socket::{Connection, Flow};
use table::Granted;
use write_back::Hold;

pub use file::shed;
#[cfg(feature = "conformance")]
pub use start::find;
#[cfg(not(feature = "conformance"))]
pub use start::run;

/// How long a CPU looks for an answer before it halts: to be woken takes longer than most answers.
pub const LOOK_NS: u64 = 50_000;

/// What arrives with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrives {
    /// Nothing, or a directory.
    Nothing,
    /// A file; whether its pages are kept, and whether it may be written.
    File {
        kept: bool,
        writable: bool,
    },
    Socket(Flow),
}

/// Interrupts of devices have come.
pub fn interrupted() {
    errand::acknowledge();
    socket::acknowledge();
    internet::acknowledge();
    line::acknowledge();
    disk::acknowledge();
}

/// Adds what has happened.
pub fn collect(events: &mut Vec<Event>) {
    wait::collect(events);
    errand::collect(events);
    disk::collect(events);
    socket::collect(events);
    internet::collect(events);
    console::collect(events);
    write_back::collect(events);
    balloon::collect();
}

/// Wants an interrupt for whatever happens next; false if something has happened.
pub fn await_events() -> bool {
    let quiet = [
        errand::await_next(),
        disk::await_next(),
        socket::await_next(),
        internet::await_next(),
        balloon::await_next(),
        wait::is_quiet(),
    ];
    !quiet.contains(&false)
}

/// Whether something has happened.
pub fn is_ready() -> bool {
    errand::is_ready() || disk::is_ready() || socket::is_ready() || internet::is_ready()
}

/// Whether something may happen any moment.
pub fn is_brisk() -> bool {
    errand::is_brisk() || socket::is_brisk()
}

/// When something is due without any device, if nothing happens before.
pub fn due_ns() -> Option<u64> {
    let due = [internet::due_ns(), crate::memory::dirty::due_ns(), balloon::due_ns()];
    due.into_iter().flatten().min()
}

/// Nobody sleeps: interrupts would only disturb.
pub fn look_away() {
    errand::look_away();
    disk::look_away();
    socket::look_away();
    internet::look_away();
}

/// Ends the guest, saying how: on the serial line only where nobody else hears it, because each byte of it
/// leaves the guest three times.
pub fn last_word(exit: Exit) -> ! {
    static SPEAKER: AtomicU32 = AtomicU32::new(0);
    let own = cpu::current().number.load(Relaxed) + 1;
    // To tell the VMM takes memory; who comes here again has none.
    if SPEAKER.swap(own, Relaxed) != own {
        // What is broken, or has no memory left, cannot be trusted with what is to be stored.
        if !matches!(exit, Exit::Broken { .. } | Exit::OutOfMemory) {
            write_back::finish();
            disk::finish();
        }
        internet::finish();
        if errand::last_word(&exit) {
            ring::reset()
        }
    }
    // There is nobody to tell of a line that does not work.
    let _ = match exit {
        Exit::Status(status) => write!(Line, "eyot: the program ended with status {status}\r\n"),
        Exit::Signal(number) => write!(Line, "eyot: signal {number} ended the program\r\n"),
        Exit::NotStarted { message, .. } => write!(Line, "eyot: {message}\r\n"),
        Exit::OutOfMemory => write!(Line, "eyot: the memory is used up; this service needs more\r\n"),
        Exit::Broken { message } => write!(Line, "eyot: the library OS cannot go on: {message}\r\n"),
        Exit::Lost => unreachable!("a virtual machine is one process of the host's"),
    };
    ring::reset()
}

/// What a mapping is to show.
pub fn shown(backing: Backing) -> Result<Shown, Code> {
    let Backing::File { handle, offset, shared } = backing else { return Ok(Shown::Nothing) };
    let object = match table::get(handle)? {
        Granted::Memory(memory) => memory.object.clone(),
        Granted::File(file) => file.object(shared, || match ask(Request::HandleAttributes { handle })? {
            Reply::Attributes(attributes) => Ok(attributes.size),
            _ => Err(EIO),
        })?,
        Granted::Connection(_) | Granted::Console(_) | Granted::Internet(_) => return Err(ENODEV),
    };
    Ok(Shown::Object { object, page: offset / PAGE, shared })
}

/// Asks, and waits for the answer.
fn ask(request: Request<'_>) -> Result<Reply, Code> {
    wait::until_told(wait::FOR_EVER, |tell| errand::request(&request, Arrives::Nothing, Then::Tell(tell)))?
}

/// Puts what the VMM holds for us into the table.
fn arrived(reply: Reply, arrives: Arrives) -> Result<Reply, Code> {
    let (handle, granted) = match (&reply, arrives) {
        (Reply::Opened { handle, attributes, .. }, Arrives::File { kept, writable })
            if handle.descriptor() != u32::MAX =>
        {
            (*handle, Granted::File(Arc::new(File::new(handle.descriptor(), attributes, kept, writable))))
        }
        (Reply::Socket { handle, .. }, Arrives::Socket(flow)) => {
            (*handle, Granted::Connection(Connection::open(handle.descriptor(), flow)))
        }
        _ => return Ok(reply),
    };
    if table::enter(handle.descriptor(), granted) { Ok(reply) } else { Err(EIO) }
}

/// What a request may bring.
fn arrives(request: &Request<'_>) -> Arrives {
    match request {
        Request::Open { at, access } => Arrives::File { kept: is_kept(at.tree), writable: access.writes() },
        Request::Create { at, .. } => Arrives::File { kept: is_kept(at.tree), writable: true },
        Request::Listen { .. } => Arrives::Socket(Flow::Connections),
        Request::Datagram { .. } => Arrives::Socket(Flow::Packets),
        Request::Connect { protocol: Protocol::Tcp, .. } => Arrives::Socket(Flow::Bytes),
        Request::Connect { protocol: Protocol::Udp, .. } => Arrives::Socket(Flow::Packets),
        _ => Arrives::Nothing,
    }
}

/// Whether files of a tree cannot be written by anybody we should hear of.
fn is_kept(tree: Tree) -> bool {
    start::mounts().iter().any(|mount| mount.tree == tree && mount.kind != MountKind::Writable)
}

fn connection(handle: Handle) -> Result<Arc<Connection>, Code> {
    match table::get(handle)? {
        Granted::Connection(connection) => Ok(connection),
        _ => Err(ENOTSOCK),
    }
}

impl Device for Vm {
    fn request(&self, request: Request<'_>) -> Started {
        if let Some(started) = internet::request(&request).or_else(|| disk::request(&request)) {
            return started;
        }
        if let Some(result) = here(&request) {
            return Started::Ready(result);
        }
        let ticket = errand::ticket();
        if of_everything(&request, ticket) || of_file(&request, ticket) {
            return Started::Later(ticket);
        }
        let silent = request.is_silent();
        let then = if silent { Then::Drop } else { Then::Answer(ticket) };
        match errand::request(&request, arrives(&request), then) {
            Err(code) => Started::Ready(Err(code)),
            Ok(()) if silent => Started::Ready(Ok(Reply::Done)),
            Ok(()) => Started::Later(ticket),
        }
    }

    fn read(&self, handle: Handle, offset: Option<u64>, to: Sink<'_>) -> Result<Transfer, Code> {
        if let Sink::User(ranges) = &to {
            memory::check(ranges)?;
        }
        match table::get(handle)? {
            Granted::Memory(memory) => memory.read(offset, to).map(Transfer::Done),
            Granted::File(file) => file.read(offset, to),
            Granted::Connection(connection) => connection.receive(to, false),
            Granted::Console(console) => console.read(to),
            Granted::Internet(socket) => socket.receive(to, false),
        }
    }

    fn finish(&self, _: Ticket, length: u64) -> Result<Transfer, Code> {
        Ok(Transfer::Done(length as usize))
    }

    fn write(&self, handle: Handle, offset: Option<u64>, from: Source<'_>) -> Result<Transfer, Code> {
        if let Source::User(ranges) = &from {
            memory::check(ranges)?;
        }
        match table::get(handle)? {
            Granted::Memory(memory) => memory.write(offset, from).map(Transfer::Done),
            Granted::File(file) => file.write(offset, from),
            Granted::Connection(connection) => connection.send(from, false),
            Granted::Console(console) => console.write(from),
            Granted::Internet(socket) => socket.send(from, false),
        }
    }

    fn receive(&self, handle: Handle, to: Sink<'_>, peek: bool) -> Result<(Transfer, Option<Address>), Code> {
        if let Sink::User(ranges) = &to {
            memory::check(ranges)?;
        }
        let transfer = match table::get(handle)? {
            Granted::Internet(socket) => socket.receive(to, peek),
            Granted::Connection(connection) => connection.receive(to, peek),
            _ => Err(ENOTSOCK),
        };
        Ok((transfer?, None))
    }

    fn send(&self, handle: Handle, from: Source<'_>, more: bool) -> Result<Transfer, Code> {
        if let Source::User(ranges) = &from {
            memory::check(ranges)?;
        }
        match table::get(handle)? {
            Granted::Internet(socket) => socket.send(from, more),
            Granted::Connection(connection) => connection.send(from, more),
            _ => Err(ENOTSOCK),
        }
    }

    fn accept(&self, handle: Handle) -> Result<Option<(Handle, Address)>, Code> {
        if let Granted::Internet(socket) = table::get(handle)? {
            return socket.accept();
        }
        let Some((number, peer)) = connection(handle)?.accept() else { return Ok(None) };
        let accepted = Granted::Connection(Connection::open(number, Flow::Bytes));
        if table::enter(number, accepted) { Ok(Some((Handle::new(number, 0), peer))) } else { Err(EIO) }
    }

    fn shutdown(&self, handle: Handle, how: Shutdown) -> Result<(), Code> {
        match table::get(handle)? {
            Granted::Internet(socket) => return socket.shutdown(how),
            Granted::Connection(connection) => connection.shutdown(how),
            _ => return Err(ENOTSOCK),
        }
        Ok(())
    }

    fn set_option(&self, handle: Handle, option: SocketOption) -> Result<(), Code> {
        if let Granted::Internet(socket) = table::get(handle)? {
            return socket.set_option(option);
        }
        connection(handle)?;
        errand::set_option(handle.descriptor(), option);
        Ok(())
    }

    fn watch(&self, handle: Handle) -> Result<(), Code> {
        match table::get(handle)? {
            Granted::Connection(connection) => connection.watch(handle),
            Granted::Console(console) => console.watch(handle),
            Granted::Internet(socket) => socket.watch(handle)?,
            Granted::Memory(_) | Granted::File(_) => {}
        }
        Ok(())
    }

    fn close(&self, handle: Handle) {
        match table::forget(handle) {
            Some(Granted::Connection(connection)) => connection.close(),
            Some(Granted::Internet(socket)) => socket.close(),
            _ => {}
        }
        if handle.object() != 0 {
            let forget = Request::Forget { object: handle.object() };
            // It is short.
            let _ = errand::request(&forget, Arrives::Nothing, Then::Drop);
        }
    }
}

/// Makes a request to store a whole file system, if it is one: after everything that was written through mappings.
fn of_everything(request: &Request<'_>, ticket: Ticket) -> bool {
    let Request::Synchronise { handle, extent: extent @ Extent::FileSystem } = *request else { return false };
    let stored = move |result: Result<(), Code>, events: &mut Vec<Event>| {
        let request = Request::Synchronise { handle, extent };
        let asked = result.and_then(|()| errand::request(&request, Arrives::Nothing, Then::Answer(ticket)));
        if let Err(code) = asked {
            events.push(Event::Completed { ticket, result: Err(code) });
        }
    };
    let mut events = Vec::new();
    write_back::everything(Box::new(stored), &mut events);
    wait::leave(events);
    true
}

/// Makes a request that has to do with what is in memory of a file, if it is one: after what was written through
/// mappings is stored, and with what it changes there, once it is done.
fn of_file(request: &Request<'_>, ticket: Ticket) -> bool {
    let (handle, request) = match *request {
        Request::Synchronise { handle, extent } => (handle, Request::Synchronise { handle, extent }),
        Request::Allocate { handle, mode, offset, length } => {
            (handle, Request::Allocate { handle, mode, offset, length })
        }
        Request::HandleChange { handle, change } if change.size.is_some() => {
            (handle, Request::HandleChange { handle, change })
        }
        _ => return false,
    };
    let Ok(Granted::File(file)) = table::get(handle) else { return false };
    let object = file.known();
    let hold = match (&request, &object) {
        // A page that is stored later would make the file longer again.
        (Request::HandleChange { change: Change { size: Some(size), .. }, .. }, Some(object)) => {
            Some(Hold::new(object.clone(), *size))
        }
        _ => None,
    };
    let first_stored = match request {
        Request::Synchronise { .. } | Request::HandleChange { .. } => true,
        // A page that is stored later would fill the hole again.
        Request::Allocate { mode, .. } => mode & !memory::KEEP_SIZE != 0,
        _ => false,
    };
    let ask = move || {
        let settled = move |result: &Result<Reply, Code>| {
            let _held = hold;
            match request {
                _ if result.is_err() => {}
                Request::HandleChange { change: Change { size: Some(size), .. }, .. } => file.resized(size),
                Request::Allocate { mode, offset, length, .. } => {
                    file.allocated(mode, offset, offset.saturating_add(length));
                }
                _ => {}
            }
        };
        errand::request(&request, Arrives::Nothing, Then::Settle(ticket, Box::new(settled)))
    };
    let mut events = Vec::new();
    let synchronise = matches!(request, Request::Synchronise { .. });
    match object {
        // What could not be stored before is told then, even if nothing is due now.
        Some(object) if first_stored && (synchronise || write_back::is_due(&object)) => {
            let stored = move |result: Result<(), Code>, events: &mut Vec<Event>| {
                let result = if synchronise { result } else { Ok(()) };
                if let Err(code) = result.and_then(|()| ask()) {
                    events.push(Event::Completed { ticket, result: Err(code) });
                }
            };
            write_back::begin(&object, Some(Box::new(stored)), &mut events);
        }
        _ => {
            if let Err(code) = ask() {
                events.push(Event::Completed { ticket, result: Err(code) });
            }
        }
    }
    wait::leave(events);
    true
}

/// The answer to a request that nobody else has to be asked.
fn here(request: &Request<'_>) -> Option<Result<Reply, Code>> {
    let memory = |handle: Handle| match table::get(handle) {
        Ok(Granted::Memory(memory)) => Some(memory),
        _ => None,
    };
    match *request {
        Request::MakeMemory { length } => {
            let memory = Memory::new(length);
            let attributes = memory.attributes();
            let handle = table::keep(Granted::Memory(Arc::new(memory)));
            Some(Ok(Reply::Opened { handle, attributes, made: true }))
        }
        Request::HandleAttributes { handle } => Some(Ok(Reply::Attributes(memory(handle)?.attributes()))),
        Request::HandleChange { handle, change } => {
            memory(handle)?.change(&change);
            Some(Ok(Reply::Done))
        }
        Request::Allocate { handle, mode, offset, length } => {
            Some(memory(handle)?.allocate(mode, offset, length).map(|()| Reply::Done))
        }
        Request::Seek { handle, offset, hole } => Some(memory(handle)?.seek(offset, hole).map(Reply::Number)),
        Request::Synchronise { handle, .. } => memory(handle).map(|_| Ok(Reply::Done)),
        // The VMM knows what its process holds; QEMU's other process does not know what QEMU holds.
        Request::MemoryUse if !vmm::is_there() => Some(Ok(start::memory_use())),
        _ if errand::is_there() => None,
        silent if silent.is_silent() => Some(Ok(Reply::Done)),
        _ => Some(tree::answer(request).unwrap_or(Err(EINVAL))),
    }
}
