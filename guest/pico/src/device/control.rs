//! The conversation with the monitor.
//!
//! Requests that do not fit the socket now wait in a queue, in order. The monitor's messages are claims:
//! one that does not decode ends the guest, an error number beyond Linux's becomes EIO. The top bit of a
//! ticket says that its answer brings a datagram socket (`socket.rs` must know).

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use abi::exit::Exit;
use abi::file::Attributes;
use abi::message::{ToGuest, ToMonitor, decode, encode, encode_into};
use abi::network::Protocol;
use abi::pico::descriptor;
use abi::request::{Reply, Request};
use abi::{Code, Handle, MESSAGE_MAX};
use linux_raw_sys::{errno, general as linux};
use machine::{Event, Started, Ticket};

use super::kind::{self, Kind};
use super::socket;
use crate::lock::Mutex;
use crate::{host, pico, space, vdso};

const DATAGRAM: u64 = 1 << 63;

/// Requests that follow the last answer within this time are a conversation, in which answers are looked
/// for before a CPU sleeps: to be woken takes longer than the monitor does.
const BRISK_NS: u64 = 200_000;
/// How long is looked.
pub const LINGER_NS: u64 = 40_000;

static NEXT: AtomicU64 = AtomicU64::new(1);
static QUEUE: Mutex<VecDeque<Vec<u8>>> = Mutex::new(VecDeque::new());
static BUFFER: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// Requests that have no answer yet.
static AWAITED: AtomicU32 = AtomicU32::new(0);
/// When the last answer came.
static ANSWERED_NS: AtomicU64 = AtomicU64::new(0);
static BRISK: AtomicBool = AtomicBool::new(false);

/// Whether an answer may come any moment.
pub fn is_brisk() -> bool {
    BRISK.load(Relaxed) && AWAITED.load(Relaxed) > 0
}

/// A ticket nobody has.
pub fn ticket() -> u64 {
    NEXT.fetch_add(1, Relaxed)
}

/// Passes a request on.
pub fn send(request: &Request<'_>) -> Started {
    let quiet = request.is_silent();
    let datagram =
        matches!(request, Request::Datagram { .. } | Request::Connect { protocol: Protocol::Udp, .. });
    let ticket = match (quiet, datagram) {
        (true, _) => 0,
        (_, true) => ticket() | DATAGRAM,
        _ => ticket(),
    };
    let Ok(message) = encode(&ToMonitor::Request { ticket, request: *request }) else {
        return Started::Ready(Err(Code(errno::EMSGSIZE as u16)));
    };
    if !quiet {
        AWAITED.fetch_add(1, Relaxed);
        let since_ns = vdso::monotonic().saturating_sub(ANSWERED_NS.load(Relaxed));
        BRISK.store(since_ns < BRISK_NS, Relaxed);
    }
    let mut queue = QUEUE.lock();
    if !queue.is_empty() || !deliver(&message) {
        if queue.is_empty() {
            super::await_room(true);
        }
        queue.push_back(message);
    }
    if quiet { Started::Ready(Ok(Reply::Done)) } else { Started::Later(Ticket(ticket)) }
}

/// Sends what waits, as far as it fits.
fn flush() {
    let mut queue = QUEUE.lock();
    while queue.front().is_some_and(|message| deliver(message)) {
        queue.pop_front();
    }
    if queue.is_empty() {
        super::await_room(false);
    }
}

/// How long the monitor may take to hear the last word.
pub const LAST_WORD_NS: u64 = 8_000_000_000;

/// Tells the monitor how the guest ends, as far as it listens: it may be busy for a while, looking at very many processes.
pub fn last_word(exit: Exit) {
    const PAUSE_NS: u64 = 1_000_000;
    // On the stack: the heap may be full, or in a state that ended the guest.
    let mut buffer = [0; 8 * 1024];
    let brief = ToMonitor::Exit(Exit::Broken { message: String::new() });
    let message = match encode_into(&ToMonitor::Exit(exit), &mut buffer) {
        Ok(message) => message.len(),
        Err(_) => encode_into(&brief, &mut buffer).map_or(0, <[u8]>::len),
    };
    let message = &buffer[..message];
    let never = core::sync::atomic::AtomicU32::new(0);
    for _ in 0..LAST_WORD_NS / PAUSE_NS {
        if deliver(message) {
            return;
        }
        host::futex_wait(&never, 0, Some(PAUSE_NS));
    }
}

/// Whether the message has gone out. A monitor that is gone ends the guest.
fn deliver(message: &[u8]) -> bool {
    let arguments = [descriptor::CONTROL as u64, message.as_ptr() as u64, message.len() as u64, 0, 0, 0];
    // SAFETY: the kernel reads the message.
    match unsafe { host::call(linux::__NR_sendto, arguments) } {
        Ok(_) => true,
        Err(Code(code)) if matches!(code as u32, errno::EAGAIN | errno::EINTR | errno::ENOBUFS) => false,
        Err(_) => host::exit_group(1),
    }
}

/// Does what the control channel is ready for. One message at a time: if there are more, it stays ready.
pub fn attend(ready: u32, events: &mut Vec<Event>) {
    if ready & linux::EPOLLOUT != 0 {
        flush();
    }
    if ready & !linux::EPOLLOUT != 0 {
        receive(events);
    }
}

fn receive(events: &mut Vec<Event>) {
    let mut buffer = BUFFER.lock();
    buffer.reserve(MESSAGE_MAX);
    let file = match socket::receive_message(descriptor::CONTROL, &mut buffer) {
        Ok(_) if buffer.is_empty() => host::exit_group(1),
        Ok(file) => file,
        Err(Code(code)) if matches!(code as u32, errno::EAGAIN | errno::EINTR) => return,
        Err(_) => host::exit_group(1),
    };
    match decode::<ToGuest>(&buffer) {
        Ok(message) => events.extend(event(message, file)),
        Err(_) => pico::broken(format_args!("the monitor sent {} bytes that are no message", buffer.len())),
    }
}

fn event(message: ToGuest, file: Option<u32>) -> Option<Event> {
    Some(match message {
        ToGuest::Signal(number) => Event::Signal(number),
        ToGuest::Window(window) => Event::Window(window),
        // One that has ended meanwhile has given its memory back.
        ToGuest::OutOfMemory { process } => Event::OutOfMemory(space::of_process(process)?),
        ToGuest::Reply { ticket, result } => {
            // One answer too many is the monitor's doing, and only costs time.
            AWAITED.fetch_sub(1, Relaxed);
            ANSWERED_NS.store(vdso::monotonic(), Relaxed);
            let result = match result {
                Ok(reply) => arrived(reply, file, ticket & DATAGRAM != 0),
                Err(Code(code)) if (1..4096).contains(&code) => Err(Code(code)),
                Err(_) => Err(Code(errno::EIO as u16)),
            };
            Event::Completed { ticket: Ticket(ticket), result }
        }
    })
}

/// Puts the descriptor that came along into the reply's handle.
fn arrived(mut reply: Reply, file: Option<u32>, datagram: bool) -> Result<Reply, Code> {
    let is_directory = |attributes: &Attributes| attributes.mode & linux::S_IFMT == linux::S_IFDIR;
    match &mut reply {
        // The monitor keeps its descriptor.
        Reply::Opened { handle, attributes, .. } if file.is_none() && is_directory(attributes) => {
            *handle = Handle::new(u32::MAX, handle.object());
        }
        Reply::Opened { handle, .. } | Reply::Socket { handle, .. } => {
            let Some(file) = file else {
                // There was no room for it here.
                if handle.object() != 0 {
                    send(&Request::Forget { object: handle.object() });
                }
                return Err(Code(errno::EMFILE as u16));
            };
            *handle = Handle::new(file, handle.object());
            kind::note(file, if datagram { Kind::Datagram } else { Kind::Plain });
        }
        _ => {}
    }
    Ok(reply)
}
