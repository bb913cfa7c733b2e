//! Errands: what the VMM is asked to do, through its virtio-fs device (`abi::vm::fuse`).
//!
//! Each errand has a slot with the memory that its chain names, which stays until the chain is used. Its
//! [`Then`] says what becomes of the answer. Answers are claims: what does not decode ends the guest, error
//! numbers beyond Linux's become EIO. What does not fit the queue now waits, in order.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use abi::message::{ToGuest, decode, encode};
use abi::network::SocketOption;
use abi::request::{Reply, Request};
use abi::vm::fuse::{self, command};
use abi::{Code, MESSAGE_MAX};
use machine::{Event, Ticket};
use spin::{Mutex, Once};

use super::Arrives;
use super::file::Finish;
use crate::code::{EIO, EMSGSIZE};
use crate::cpu::clock;
use crate::memory::frame::Page;
use crate::virtio::queue::{self, Part, Queue};
use crate::virtio::{Device, Transport, Unusable};
use crate::vm;

/// Descriptors of the queue.
const LENGTH: u16 = 512;
/// Room for answers that hold no data, names or lists.
const BRIEF: usize = 512;

/// Errands that follow the last answer within this time are a conversation, in which answers are looked for
/// before a CPU sleeps.
const BRISK_NS: u64 = 300_000;

/// What becomes of an answer.
pub enum Then {
    /// Nothing.
    Drop,
    /// The answer to a request, for the library OS.
    Answer(Ticket),
    /// The same, after somebody here has heard it.
    Settle(Ticket, Settled),
    /// The answer to a request, for the CPU that waits for it.
    Tell(alloc::boxed::Box<dyn FnOnce(Result<Reply, Code>) + Send>),
    /// Bytes were read for somebody, or written; called with what came and the pages it came in.
    Call(Finish),
    /// News from the monitor.
    News,
}

/// What to do when a request was answered.
pub type Settled = alloc::boxed::Box<dyn FnOnce(&Result<Reply, Code>) + Send>;

/// What an errand takes.
struct Errand {
    number: u64,
    operation: u32,
    input: Vec<u8>,
    output: Vec<u8>,
    pages: Vec<Page>,
    /// The pages are written by the device, or read by it; bytes of them.
    data: (bool, usize),
    arrives: Arrives,
    then: Then,
}

struct State {
    queue: Queue,
    slots: Vec<Option<Errand>>,
    free: Vec<u32>,
    waiting: VecDeque<Errand>,
    /// When the last answer came, and whether the last errand followed it closely.
    answered_ns: u64,
    brisk: bool,
}

struct Channel {
    transport: alloc::boxed::Box<dyn Transport>,
    state: Mutex<State>,
}

static CHANNEL: Once<Channel> = Once::new();
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A ticket nobody has.
pub fn ticket() -> Ticket {
    Ticket(NEXT.fetch_add(1, Relaxed))
}

/// Takes the device over.
pub fn begin(device: Device) -> Result<(), Unusable> {
    let queue = device.queue(1, LENGTH)?;
    let transport = device.finish();
    let slots = Vec::new();
    let state =
        State { queue, slots, free: Vec::new(), waiting: VecDeque::new(), answered_ns: 0, brisk: false };
    CHANNEL.call_once(|| Channel { transport, state: Mutex::new(state) });
    ask_for_news();
    Ok(())
}

pub fn is_there() -> bool {
    CHANNEL.get().is_some()
}

fn state() -> spin::MutexGuard<'static, State> {
    CHANNEL.get().expect("invariant: files and requests exist only with a VMM").state.lock()
}

/// The header, an operation's own structure, and what follows it.
fn input(operation: u32, own: &[u64], data: &[u8]) -> Vec<u8> {
    let length = fuse::IN + own.len() * 8 + data.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    bytes.extend_from_slice(&operation.to_le_bytes());
    // Number of the errand, the root's node, nobody in particular.
    for word in [0u64, 1, 0, 0].iter().chain(own) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(data);
    bytes
}

fn control(handle: u64, command: u32, data: &[u8], room: usize, then: Then) -> Errand {
    let sizes = data.len() as u64 | (room as u64) << 32;
    let own = [handle, u64::from(command) << 32, 0, sizes];
    Errand {
        number: ticket().0,
        operation: fuse::IOCTL,
        input: input(fuse::IOCTL, &own, data),
        output: vec![0; fuse::OUT + fuse::IOCTL_OUT + room],
        pages: Vec::new(),
        data: (false, 0),
        arrives: Arrives::Nothing,
        then,
    }
}

/// Asks the monitor.
pub fn request(request: &Request<'_>, arrives: Arrives, then: Then) -> Result<(), Code> {
    let data = encode(request).map_err(|_| EMSGSIZE)?;
    let room = match request {
        Request::List { .. }
        | Request::ReadLink { .. }
        | Request::GetExtended { .. }
        | Request::ListExtended { .. }
        | Request::Resolve { .. } => MESSAGE_MAX,
        _ => BRIEF,
    };
    start(Errand { arrives, ..control(0, command::REQUEST, &data, room, then) });
    Ok(())
}

pub fn set_option(descriptor: u32, option: SocketOption) {
    if let Ok(data) = encode(&option) {
        start(control(descriptor.into(), command::OPTION, &data, 0, Then::Drop));
    }
}

fn ask_for_news() {
    start(control(0, command::EVENT, &[], BRIEF, Then::News));
}

/// Closes a descriptor.
pub fn release(descriptor: u32) {
    let input = input(fuse::RELEASE, &[descriptor.into(), 0, 0], &[]);
    let output = vec![0; fuse::OUT];
    start(Errand {
        number: ticket().0,
        operation: fuse::RELEASE,
        input,
        output,
        pages: Vec::new(),
        data: (false, 0),
        arrives: Arrives::Nothing,
        then: Then::Drop,
    });
}

/// Reads into pages, at an offset or ([`fuse::POSITION`]) at the file's own position.
pub fn read(descriptor: u32, offset: u64, length: usize, pages: Vec<Page>, finish: Finish) {
    let own = [descriptor.into(), offset, length as u64, 0, 0];
    start(Errand {
        number: ticket().0,
        operation: fuse::READ,
        input: input(fuse::READ, &own, &[]),
        output: vec![0; fuse::OUT],
        pages,
        data: (true, length),
        arrives: Arrives::Nothing,
        then: Then::Call(finish),
    });
}

/// Writes from pages.
pub fn write(descriptor: u32, offset: u64, length: usize, pages: Vec<Page>, finish: Finish) {
    let own = [descriptor.into(), offset, length as u64, 0, 0];
    let mut input = input(fuse::WRITE, &own, &[]);
    let total = (input.len() + length) as u32;
    input[..4].copy_from_slice(&total.to_le_bytes());
    start(Errand {
        number: ticket().0,
        operation: fuse::WRITE,
        input,
        output: vec![0; fuse::OUT + fuse::WRITE_OUT],
        pages,
        data: (false, length),
        arrives: Arrives::Nothing,
        then: Then::Call(finish),
    });
}

/// Starts an errand; its number.
fn start(errand: Errand) -> u64 {
    let number = errand.number;
    let mut state = state();
    state.brisk = clock::monotonic().saturating_sub(state.answered_ns) < BRISK_NS;
    let offered = if state.waiting.is_empty() { state.offer(errand) } else { Err(errand) };
    match offered {
        Ok(()) => state.queue.tell(),
        Err(errand) => state.waiting.push_back(errand),
    }
    number
}

impl State {
    #[allow(clippy::result_large_err, reason = "what does not fit goes back to who queues it")]
    fn offer(&mut self, mut errand: Errand) -> Result<(), Errand> {
        const PAGE: usize = machine::PAGE as usize;
        let (written, length) = errand.data;
        let mut pages: Vec<Part> = Vec::new();
        for (number, page) in errand.pages.iter().enumerate() {
            let length = PAGE.min(length - (number * PAGE).min(length)) as u32;
            match pages.last_mut() {
                // Pages that lie together are one part.
                Some(last) if last.address + u64::from(last.length) == page.address() => {
                    last.length += length
                }
                _ if length > 0 => pages.push(Part { address: page.address(), length, writable: written }),
                _ => {}
            }
        }
        let (input, output) = (queue::readable(&errand.input), queue::writable(&mut errand.output));
        let parts = if written {
            [&[input, output], &pages[..]].concat()
        } else {
            [&[input][..], &pages, &[output]].concat()
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        if self.queue.push(&parts, slot).is_err() {
            self.free.push(slot);
            return Err(errand);
        }
        self.slots[slot as usize] = Some(errand);
        Ok(())
    }

    /// Takes everything that is finished.
    fn take(&mut self) -> Vec<(Errand, usize)> {
        let mut finished = Vec::new();
        while let Some((slot, written)) = self.queue.pop() {
            self.answered_ns = clock::monotonic();
            if let Some(errand) = self.slots.get_mut(slot as usize).and_then(Option::take) {
                self.free.push(slot);
                finished.push((errand, written));
            }
        }
        while let Some(errand) = self.waiting.pop_front() {
            if let Err(errand) = self.offer(errand) {
                self.waiting.push_front(errand);
                break;
            }
        }
        self.queue.tell();
        finished
    }
}

/// What a finished errand brought: bytes of its body, or an error.
fn outcome(errand: &Errand, written: usize) -> Result<usize, Code> {
    let header: &[u8; fuse::OUT] = errand.output.first_chunk().expect("invariant: every answer has a header");
    driver::outcome(header, written).unwrap_or_else(|lie| vm::broken(format_args!("{lie}")))
}

/// The data of a control errand's answer.
fn answer(errand: &Errand, written: usize) -> Result<&[u8], Code> {
    let length = outcome(errand, written)?;
    let body = errand.output.get(fuse::OUT + fuse::IOCTL_OUT..fuse::OUT + length);
    body.ok_or(EIO)
}

/// The answer to a request.
fn reply(errand: &Errand, written: usize) -> Result<Reply, Code> {
    let bytes = answer(errand, written)?;
    match decode::<Result<Reply, Code>>(bytes) {
        Ok(Ok(reply)) => super::arrived(reply, errand.arrives),
        Ok(Err(code)) if (1..4096).contains(&code.0) => Err(code),
        Ok(Err(_)) => Err(EIO),
        Err(_) => vm::broken(format_args!("the monitor sent {} bytes that are no answer", bytes.len())),
    }
}

/// Does what has to be done with what is finished, and adds what the library OS is to know; whether anything was.
pub fn collect(events: &mut Vec<Event>) -> bool {
    let Some(channel) = CHANNEL.get() else { return false };
    let finished = {
        let mut state = channel.state.lock();
        if !state.queue.is_ready() {
            return false;
        }
        state.take()
    };
    let any = !finished.is_empty();
    finished.into_iter().for_each(|finished| conclude(finished, events));
    any
}

fn conclude((errand, written): (Errand, usize), events: &mut Vec<Event>) {
    match &errand.then {
        Then::Answer(ticket) => {
            let event = Event::Completed { ticket: *ticket, result: reply(&errand, written) };
            events.push(event);
        }
        Then::Settle(..) => {
            let result = reply(&errand, written);
            if let Then::Settle(ticket, settled) = errand.then {
                settled(&result);
                events.push(Event::Completed { ticket, result });
            }
        }
        Then::News => {
            match answer(&errand, written).map(decode::<ToGuest>) {
                Ok(Ok(ToGuest::Signal(number))) => events.push(Event::Signal(number)),
                Ok(Ok(ToGuest::Window(window))) => events.push(Event::Window(window)),
                _ => vm::broken(format_args!("the monitor sent news that are none")),
            }
            ask_for_news();
        }
        Then::Drop => {}
        Then::Tell(..) => {
            let reply = reply(&errand, written);
            if let Then::Tell(tell) = errand.then {
                tell(reply);
            }
        }
        Then::Call(_) => {
            let result = moved(&errand, written);
            if let Then::Call(finish) = errand.then {
                finish(result, errand.pages, events);
            }
        }
    }
}

/// Bytes that were read or written.
fn moved(errand: &Errand, written: usize) -> Result<usize, Code> {
    let length = outcome(errand, written)?;
    let moved = match errand.operation {
        fuse::READ => length,
        fuse::WRITE => {
            let size = errand.output.get(fuse::OUT..fuse::OUT + 4).ok_or(EIO)?;
            u32::from_le_bytes(size.try_into().map_err(|_| EIO)?) as usize
        }
        _ => 0,
    };
    // More than was asked for is a lie that costs only whoever believes it.
    Ok(moved.min(errand.data.1))
}

/// Wants an interrupt for what finishes next; false if something has.
pub fn await_next() -> bool {
    let Some(channel) = CHANNEL.get() else { return true };
    channel.state.lock().queue.await_next()
}

/// Whether something is finished.
pub fn is_ready() -> bool {
    CHANNEL.get().is_some_and(|channel| channel.state.lock().queue.is_ready())
}

/// Whether an answer may come any moment.
pub fn is_brisk() -> bool {
    CHANNEL.get().is_some_and(|channel| channel.state.lock().brisk)
}

pub fn look_away() {
    if let Some(channel) = CHANNEL.get() {
        channel.state.lock().queue.look_away();
    }
}

pub fn acknowledge() {
    if let Some(channel) = CHANNEL.get() {
        channel.transport.acknowledge();
    }
}

/// Asks for the time, in nanoseconds since the epoch.
pub fn time() -> Result<u64, Code> {
    let number = start(control(0, command::TIME, &[], size_of::<u64>(), Then::Drop));
    let mut events = Vec::new();
    loop {
        let finished = state().take();
        for (errand, written) in finished {
            if errand.number == number {
                super::wait::leave(events);
                let bytes = answer(&errand, written)?.try_into().map_err(|_| EIO)?;
                return Ok(u64::from_le_bytes(bytes));
            }
            conclude((errand, written), &mut events);
        }
    }
}

/// Tells the monitor how the guest ends, and waits until that was heard, though not for ever: the guest may be
/// broken, or the monitor gone; whether it was heard.
pub fn last_word(exit: &abi::exit::Exit) -> bool {
    const PATIENCE_NS: u64 = 1_000_000_000;
    let Some(channel) = CHANNEL.get() else { return false };
    let Ok(data) = encode(exit) else { return false };
    let errand = control(0, command::EXIT, &data, 0, Then::Drop);
    let number = errand.number;
    let until_ns = clock::monotonic() + PATIENCE_NS;
    let mut said = Some(errand);
    while clock::monotonic() < until_ns {
        // Others may hold the lock for ever, if one of them is broken.
        let Some(mut state) = channel.state.try_lock() else { continue };
        if let Some(errand) = said.take() {
            said = state.offer(errand).err();
            state.queue.tell();
        }
        if state.take().iter().any(|(errand, _)| errand.number == number) {
            return true;
        }
    }
    false
}
