//! Granted objects: the device half of the machine.

mod memory;
mod table;

use alloc::vec::Vec;

use abi::exit::Exit;
use abi::network::{Address, Shutdown, SocketOption};
use abi::request::{Reply, Request};
use abi::{Code, Handle};
use machine::{Backing, Device, Event, PAGE, Sink, Source, Started, Transfer};

use crate::boot::serial;
use crate::memory::EINVAL;
use crate::memory::space::Shown;
use crate::vm::Vm;

use memory::Memory;
use table::Granted;

const ENODEV: Code = Code(19);
const ENOSYS: Code = Code(38);

/// Interrupts of devices have come.
pub fn interrupted() {}

/// Adds what has happened.
pub fn collect(_events: &mut Vec<Event>) {}

/// The CPU is about to sleep until a device interrupts.
pub fn await_events() {}

/// Ends the guest, saying how.
pub fn last_word(exit: Exit) -> ! {
    serial::write(alloc::format!("eyot: {exit:?}\r\n").as_bytes());
    crate::cpu::ring::reset()
}

#[cfg(not(feature = "conformance"))]
pub fn run() -> ! {
    crate::boot::fatal("no service was given")
}

/// What a mapping is to show.
pub fn shown(backing: Backing) -> Result<Shown, Code> {
    match backing {
        Backing::Anonymous => Ok(Shown::Nothing),
        Backing::File { handle, offset, shared } => match table::get(handle)? {
            Granted::Memory(memory) => {
                Ok(Shown::Object { object: memory.object.clone(), page: offset / PAGE, shared })
            }
            Granted::Console => Err(ENODEV),
        },
    }
}

impl Device for Vm {
    fn request(&self, request: Request<'_>) -> Started {
        Started::Ready(answer(request))
    }

    fn read(&self, handle: Handle, offset: Option<u64>, to: Sink<'_>) -> Result<Transfer, Code> {
        if let Sink::User(ranges) = &to {
            memory::check(ranges)?;
        }
        match table::get(handle)? {
            Granted::Memory(memory) => memory.read(offset, to).map(Transfer::Done),
            Granted::Console => Ok(Transfer::NotReady),
        }
    }

    fn write(&self, handle: Handle, offset: Option<u64>, from: Source<'_>) -> Result<Transfer, Code> {
        if let Source::User(ranges) = &from {
            memory::check(ranges)?;
        }
        match table::get(handle)? {
            Granted::Memory(memory) => memory.write(offset, from).map(Transfer::Done),
            Granted::Console => Err(ENOSYS),
        }
    }

    fn receive(&self, _: Handle, _: Sink<'_>, _: bool) -> Result<(Transfer, Option<Address>), Code> {
        Err(ENOSYS)
    }

    fn send(&self, _: Handle, _: Source<'_>, _: bool) -> Result<Transfer, Code> {
        Err(ENOSYS)
    }

    fn accept(&self, _: Handle) -> Result<Option<(Handle, Address)>, Code> {
        Err(ENOSYS)
    }

    fn shutdown(&self, _: Handle, _: Shutdown) -> Result<(), Code> {
        Err(ENOSYS)
    }

    fn set_option(&self, _: Handle, _: SocketOption) -> Result<(), Code> {
        Err(ENOSYS)
    }

    fn watch(&self, handle: Handle) -> Result<(), Code> {
        table::get(handle).map(drop)
    }

    fn close(&self, handle: Handle) {
        table::forget(handle);
    }
}

fn answer(request: Request<'_>) -> Result<Reply, Code> {
    let memory = |handle| match table::get(handle)? {
        Granted::Memory(memory) => Ok(memory),
        Granted::Console => Err(EINVAL),
    };
    match request {
        Request::MakeMemory { length } => {
            let memory = Memory::new(length);
            let attributes = memory.attributes();
            let handle = table::keep(Granted::Memory(alloc::sync::Arc::new(memory)));
            Ok(Reply::Opened { handle, attributes })
        }
        Request::HandleAttributes { handle } => Ok(Reply::Attributes(memory(handle)?.attributes())),
        Request::HandleChange { handle, change } => {
            memory(handle)?.change(&change);
            Ok(Reply::Done)
        }
        Request::Allocate { handle, mode, offset, length } => {
            memory(handle)?.allocate(mode, offset, length).map(|()| Reply::Done)
        }
        Request::Seek { handle, offset, hole } => memory(handle)?.seek(offset, hole).map(Reply::Number),
        Request::Synchronise { handle, .. } => memory(handle).map(|_| Reply::Done),
        _ => Err(ENOSYS),
    }
}
