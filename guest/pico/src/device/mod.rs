//! Granted objects, as host descriptors: the device half of the machine.
//!
//! Data moves on the descriptors directly; requests are answered here where the host may be asked
//! (`direct.rs`) and by the monitor otherwise (`control.rs`). Invariant: no call here blocks, except
//! reads into kernel memory and writes to files, which wait for the disk.

mod control;
mod direct;
mod kind;
mod socket;
mod transfer;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use abi::network::{Address, Shutdown, SocketOption};
use abi::pico::descriptor;
use abi::request::Request;
use abi::{Code, Handle};
use linux_raw_sys::{errno, general as linux};
use machine::{Device, Event, Readiness, Sink, Source, Started, Ticket, Transfer};

use crate::lock::Mutex;
use crate::pico::Pico;
use crate::{host, vdso};

pub use control::{LAST_WORD_NS, last_word};
pub use direct::Trees;
pub use transfer::{Part, transfer};

/// Marks of our own descriptors among the handles that the epoll instance reports.
const CONTROL: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

/// What helper threads have finished and nobody has collected yet.
static COMPLETED: Mutex<Vec<Event>> = Mutex::new(Vec::new());

/// Prepares the event sources, before the filter stands.
pub fn begin() {
    let control = add(descriptor::CONTROL, linux::EPOLLIN, CONTROL);
    let wake = add(descriptor::WAKE, linux::EPOLLIN | linux::EPOLLET, WAKE);
    if control.and(wake).is_err() {
        crate::fatal("the event descriptors are missing");
    }
}

/// Leaves an event for the collecting CPU.
pub fn complete(event: Event) {
    COMPLETED.lock().push(event);
    crate::idle::completed();
}

/// Adds what is finished, without asking the host; answers whether there was something.
pub fn collect(events: &mut Vec<Event>) -> bool {
    let mut completed = COMPLETED.lock();
    let any = !completed.is_empty();
    events.append(&mut completed);
    any
}

/// Looks for what descriptors tell as long as an answer of the monitor's may come any moment, and nothing
/// else calls the CPU.
pub fn linger(kicked: &AtomicU32, events: &mut Vec<Event>) {
    if !control::is_brisk() {
        return;
    }
    let until_ns = vdso::monotonic() + control::LINGER_NS;
    while events.is_empty() && kicked.load(SeqCst) == 0 && vdso::monotonic() < until_ns {
        core::hint::spin_loop();
        poll(Some(0), events);
    }
}

/// Waits for descriptors and adds what they tell.
pub fn poll(timeout_ns: Option<u64>, events: &mut Vec<Event>) {
    const MOST: usize = 128;
    let mut found = [linux::epoll_event { events: 0, data: 0 }; MOST];
    let time = timeout_ns.map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000]);
    let time = time.as_ref().map_or(0, |time| time.as_ptr() as u64);
    // SAFETY: the kernel writes at most `MOST` events and reads the time, all locals.
    let count = unsafe {
        let arguments = [descriptor::EPOLL as u64, found.as_mut_ptr() as u64, MOST as u64, time, 0, 0];
        host::call(linux::__NR_epoll_pwait2, arguments)
    };
    for event in &found[..count.unwrap_or(0) as usize] {
        match event.data {
            CONTROL => control::attend(event.events, events),
            WAKE => {}
            handle => {
                events.push(Event::Ready { handle: Handle(handle), readiness: readiness(event.events) })
            }
        }
    }
}

fn readiness(bits: u32) -> Readiness {
    [
        (linux::EPOLLIN, Readiness::READ),
        (linux::EPOLLOUT, Readiness::WRITE),
        (linux::EPOLLRDHUP, Readiness::READ_END),
        (linux::EPOLLHUP, Readiness::HANGUP),
        (linux::EPOLLERR, Readiness::ERROR),
    ]
    .into_iter()
    .filter(|&(bit, _)| bits & bit != 0)
    .fold(Readiness::empty(), |all, (_, readiness)| all | readiness)
}

fn add(file: u32, bits: u32, data: u64) -> Result<(), Code> {
    epoll_control(descriptor::EPOLL, linux::EPOLL_CTL_ADD, file, bits, data)
}

/// Has the end of a process reported to an epoll instance, by its descriptor's number.
pub fn report(instance: u32, process: u32) -> Result<(), Code> {
    epoll_control(instance, linux::EPOLL_CTL_ADD, process, linux::EPOLLIN, process.into())
}

/// Waits until one is reported, and answers its number.
pub fn reported(instance: u32) -> Option<u32> {
    let mut found = linux::epoll_event { events: 0, data: 0 };
    let arguments = [instance.into(), &raw mut found as u64, 1, 0, 0, 0];
    // SAFETY: the kernel writes one event, a local.
    let count = unsafe { host::call(linux::__NR_epoll_pwait2, arguments) };
    (count == Ok(1)).then_some(found.data as u32)
}

/// Says whether room on the control channel is an event, too.
fn await_room(wanted: bool) {
    let bits = linux::EPOLLIN | if wanted { linux::EPOLLOUT } else { 0 };
    let _ = epoll_control(descriptor::EPOLL, linux::EPOLL_CTL_MOD, descriptor::CONTROL, bits, CONTROL);
}

fn epoll_control(instance: u32, operation: u32, file: u32, bits: u32, data: u64) -> Result<(), Code> {
    let event = linux::epoll_event { events: bits, data };
    let arguments = [instance as u64, operation as u64, file as u64, &raw const event as u64];
    // SAFETY: the kernel reads the local.
    unsafe { host::call(linux::__NR_epoll_ctl, arguments) }.map(drop)
}

impl Device for Pico {
    fn request(&self, request: Request<'_>) -> Started {
        match self.trees.answer(&request) {
            Some(result) => Started::Ready(result),
            None => control::send(&request),
        }
    }

    fn read(&self, handle: Handle, offset: Option<u64>, to: Sink<'_>) -> Result<Transfer, Code> {
        transfer::read(handle, offset, to)
    }

    fn write(&self, handle: Handle, offset: Option<u64>, from: Source<'_>) -> Result<Transfer, Code> {
        transfer::write(handle, offset, from)
    }

    fn finish(&self, ticket: Ticket, length: u64) -> Result<Transfer, Code> {
        transfer::finish(ticket, length)
    }

    fn receive(&self, handle: Handle, to: Sink<'_>, peek: bool) -> Result<(Transfer, Option<Address>), Code> {
        socket::receive(handle, to, peek)
    }

    fn send(&self, handle: Handle, from: Source<'_>, more: bool) -> Result<Transfer, Code> {
        socket::send(handle, from, more)
    }

    fn accept(&self, handle: Handle) -> Result<Option<(Handle, Address)>, Code> {
        socket::accept(handle)
    }

    fn shutdown(&self, handle: Handle, how: Shutdown) -> Result<(), Code> {
        // SAFETY: no memory is named.
        unsafe { host::call(linux::__NR_shutdown, [handle.descriptor() as u64, how as u64]) }.map(drop)
    }

    fn set_option(&self, handle: Handle, option: SocketOption) -> Result<(), Code> {
        socket::set_option(handle, option)
    }

    fn watch(&self, handle: Handle) -> Result<(), Code> {
        let bits = linux::EPOLLIN | linux::EPOLLOUT | linux::EPOLLRDHUP | linux::EPOLLET;
        match add(handle.descriptor(), bits, handle.0) {
            // A listener's file is the monitor's, and is known here from an earlier handle with this descriptor.
            Err(Code(code)) if code as u32 == errno::EEXIST => {
                let (epoll, file) = (descriptor::EPOLL, handle.descriptor());
                epoll_control(epoll, linux::EPOLL_CTL_MOD, file, bits, handle.0)
            }
            result => result,
        }
    }

    fn close(&self, handle: Handle) {
        if handle.descriptor() != u32::MAX {
            close(handle.descriptor());
        }
        if handle.object() != 0 {
            control::send(&Request::Forget { object: handle.object() });
        }
    }
}

/// Closes a descriptor.
pub fn close(file: u32) {
    // SAFETY: no memory is named.
    let _ = unsafe { host::call(linux::__NR_close, [file as u64]) };
}
