//! A guest and the devices of its virtual machine: whatever it writes to registers and memory, and whenever, nothing
//! breaks, the loop comes to rest, and the monitor hears messages only, of which no more than a bound wait.

use std::cell::Cell;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use abi::exit::Exit;
use abi::message::{ToGuest, ToMonitor, decode, encode};
use abi::request::{Reply, Request};
use abi::vm::fuse::{self, command};
use abi::vm::vsock::{self, operation};
use abi::{Code, Handle};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::SocketType;
use vmm::testing::{Bare, pair, pipe};

const MEMORY: usize = 1 << 20;
/// Devices, in the order that steps name them.
const FILE: u8 = 0;
const SOCKET: u8 = 1;
const RANDOM: u8 = 2;
const BALLOON: u8 = 3;
/// Steps of a script.
const REGISTER: u8 = 0;
const STORE: u8 = 1;
const TURN: u8 = 2;
const READ: u8 = 3;
const REPLY: u8 = 4;

/// What is granted: a file, a stream, packets, both ends of pipes, a listener. Their other ends.
struct Granted {
    own: Vec<OwnedFd>,
    others: (UnixStream, OwnedFd, OwnedFd, OwnedFd, UnixStream),
}

impl Granted {
    fn new() -> Self {
        thread_local!(static NEXT: Cell<u32> = const { Cell::new(0) });
        let number = NEXT.replace(NEXT.get() + 1);
        let name = format!("eyot-fuzz-{}-{:?}-{number}", std::process::id(), std::thread::current().id());
        let name = SocketAddr::from_abstract_name(name).expect("it is short");
        let listener = UnixListener::bind_addr(&name).expect("nobody has the name");
        let peer = UnixStream::connect_addr(&name).expect("somebody listens");
        let mut file = File::from(memfd_create("file", MemfdFlags::CLOEXEC).expect("there is memory"));
        file.write_all(&[7; 5000]).expect("there is memory");
        let (mut near, far) = UnixStream::pair().expect("there are descriptors");
        for stream in [&near, &far] {
            stream.set_nonblocking(true).expect("a socket can");
        }
        listener.set_nonblocking(true).expect("a socket can");
        near.write_all(&[8; 3000]).expect("there is room");
        let (packets, other) = pair(SocketType::SEQPACKET);
        rustix::net::send(&packets, &[9; 900], rustix::net::SendFlags::empty()).expect("there is room");
        let ((reader, one), (two, writer)) = (pipe(), pipe());
        let own = vec![file.into(), far.into(), other, reader, writer, listener.into()];
        Self { own, others: (near, packets, one, two, peer) }
    }
}

/// Takes so many bytes off the front, or zeros where there are none.
fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (first, rest) = bytes.split_at(N.min(bytes.len()));
    *bytes = rest;
    let mut taken = [0; N];
    taken[..first.len()].copy_from_slice(first);
    taken
}

/// Plays a script.
pub fn run(bytes: &[u8]) {
    play(bytes);
}

/// What the monitor and the other ends of what was granted have got.
struct Played {
    messages: Vec<Vec<u8>>,
    others: (UnixStream, OwnedFd, OwnedFd, OwnedFd, UnixStream),
}

fn listen(machine: &Bare, messages: &mut Vec<Vec<u8>>) {
    while let Some(message) = machine.hear() {
        assert!(decode::<ToMonitor<'_>>(&message).is_ok(), "the monitor was sent {message:02x?}");
        messages.push(message);
    }
}

fn play(mut bytes: &[u8]) -> Played {
    let Granted { own, others } = Granted::new();
    let mut messages = Vec::new();
    let mut machine = Bare::small(own, MEMORY);
    while let Some((step, rest)) = bytes.split_first() {
        bytes = rest;
        match step % 5 {
            REGISTER => {
                let [device, low, high] = take(&mut bytes);
                let register = u64::from(u16::from_le_bytes([low, high & 3]));
                machine.write(device.into(), register, &take::<4>(&mut bytes));
            }
            STORE => {
                let [low, middle, high, length] = take(&mut bytes);
                let (data, rest) = bytes.split_at(usize::from(length).min(bytes.len()));
                bytes = rest;
                machine.store(u32::from_le_bytes([low, middle, high, 0]).into(), data);
            }
            TURN => {
                machine.turn();
                // Sometimes the monitor takes nothing.
                if step & 0x80 == 0 {
                    listen(&machine, &mut messages);
                }
            }
            READ => {
                let [device, low, high, width] = take(&mut bytes);
                let register = u64::from(u16::from_le_bytes([low, high & 3]));
                machine.read(device.into(), register, &mut [0; 8][..usize::from(width % 9)]);
            }
            _ => {
                let [ticket, what] = take(&mut bytes);
                let result = match what % 4 {
                    0 => Ok(Reply::Done),
                    1 => Ok(Reply::Bytes(vec![what; usize::from(what)])),
                    2 => Ok(Reply::Socket {
                        handle: Handle::new(0, what.into()),
                        local: ([1, 2, 3, 4], 5).into(),
                        peer: None,
                    }),
                    _ => Err(Code(u16::from(what) << 8)),
                };
                let (file, _other) = pair(SocketType::SEQPACKET);
                machine.say(
                    &ToGuest::Reply { ticket: ticket.into(), result },
                    Some(&file).filter(|_| what & 4 == 0),
                );
            }
        }
        assert!(machine.waiting() <= 2048);
    }
    let rests = (0..2000).any(|_| {
        listen(&machine, &mut messages);
        !machine.turn()
    });
    assert!(rests, "the loop does not come to rest");
    Played { messages, others }
}

/// A script in the making, and where its next buffer goes.
struct Script {
    steps: Vec<u8>,
    buffer: u32,
}

const SIZE: u32 = 16;
const BUFFERS: u32 = 0x4_0000;

fn rings(device: u8, queue: u8) -> u32 {
    u32::from(device) * 0x1_0000 + u32::from(queue) * 0x1000
}

impl Script {
    fn new() -> Self {
        Self { steps: Vec::new(), buffer: BUFFERS }
    }

    fn register(&mut self, device: u8, register: u16, value: u32) {
        self.steps.extend([&[REGISTER, device][..], &register.to_le_bytes(), &value.to_le_bytes()].concat());
    }

    fn store(&mut self, address: u32, bytes: &[u8]) {
        for (number, bytes) in (0..).zip(bytes.chunks(255)) {
            let [low, middle, high, _] = (address + number * 255).to_le_bytes();
            self.steps.extend([STORE, low, middle, high, bytes.len() as u8]);
            self.steps.extend(bytes);
        }
    }

    fn set_up(&mut self, device: u8, queues: u8) {
        // Version 1, and indirect descriptors.
        let agreed =
            [(0x70, 0), (0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1), (0x24, 0), (0x20, 1 << 28), (0x70, 11)];
        let laid = |queue: u8| {
            let at = rings(device, queue);
            let places = [(0x80, at), (0x90, at + 0x400), (0xa0, at + 0x800)];
            [(0x30, queue.into()), (0x38, SIZE)].into_iter().chain(places).chain([(0x44, 1)])
        };
        for (register, value) in agreed.into_iter().chain((0..queues).flat_map(laid)).chain([(0x70, 15)]) {
            self.register(device, register, value);
        }
    }

    /// Offers the queue's chain of that number, of two descriptors.
    fn offer(&mut self, device: u8, queue: u8, number: u8, input: &[u8], room: u32) {
        let (at, index) = (rings(device, queue), u32::from(number) * 2);
        let mut descriptors = Vec::new();
        let next = if room > 0 { 1 | (index + 1) << 16 } else { 0 };
        for (length, flags) in [(input.len() as u32, next), (room, 2)] {
            for half in [self.buffer, 0, length, flags] {
                descriptors.extend(half.to_le_bytes());
            }
            if flags == next {
                self.store(self.buffer, input);
            }
            self.buffer += length.next_multiple_of(16);
        }
        // What only receives begins with the second.
        let head = if input.is_empty() { index + 1 } else { index };
        self.store(at + index * 16, &descriptors);
        self.store(at + 0x404 + u32::from(number) * 2, &(head as u16).to_le_bytes());
        self.store(at + 0x402, &(u16::from(number) + 1).to_le_bytes());
    }

    fn turn(&mut self) {
        self.steps.push(TURN);
    }
}

fn errand(what: u32, own: &[u64], data: &[u8]) -> Vec<u8> {
    let length = (fuse::IN + own.len() * 8 + data.len()) as u64;
    let words = [length | u64::from(what) << 32, 7, 1, 0, 0];
    let words = words.iter().chain(own).flat_map(|word| word.to_le_bytes());
    words.chain(data.iter().copied()).collect()
}

fn control(what: u32, data: &[u8]) -> Vec<u8> {
    errand(fuse::IOCTL, &[0, u64::from(what) << 32, 0, data.len() as u64 | 200 << 32], data)
}

fn packet(number: u64, operation: u16, flags: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [vsock::GUEST.to_le_bytes(), vsock::HOST.to_le_bytes()].concat();
    let kind = u32::from(vsock::STREAM) | u32::from(operation) << 16;
    for half in [number as u32, number as u32, data.len() as u32, kind, flags, 4096, 0] {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend(data);
    bytes
}

/// Drivers that keep to the rules.
pub fn scripts() -> Vec<Vec<u8>> {
    const FIRST: u64 = abi::pico::descriptor::FIRST_FREE as u64;
    let request = encode(&Request::Resolve { message: b"question" }).expect("it encodes");
    let quiet = encode(&Request::Say { text: "a sentence" }).expect("it encodes");
    let exit = encode(&Exit::Status(1)).expect("it encodes");
    let mut files = Script::new();
    files.set_up(FILE, 2);
    let errands = [
        errand(fuse::READ, &[FIRST, 0, 100, 0, 0], &[]),
        errand(fuse::WRITE, &[FIRST, 10, 3, 0, 0], b"abc"),
        control(command::TIME, &[]),
        control(command::REQUEST, &request),
        control(command::REQUEST, &quiet),
        control(command::EVENT, &[]),
        control(command::EXIT, &exit),
        errand(fuse::RELEASE, &[FIRST, 0, 0], &[]),
    ];
    for (number, input) in (0..).zip(&errands) {
        files.offer(FILE, 1, number, input, 300);
        files.turn();
        files.steps.extend([REPLY, 1, number]);
    }
    let mut sockets = Script::new();
    sockets.set_up(SOCKET, 3);
    (0..8).for_each(|number| sockets.offer(SOCKET, 0, number, &[], 1000));
    let packets = [
        packet(FIRST + 1, operation::REQUEST, 0, &[]),
        packet(FIRST + 1, operation::DATA, 0, b"bytes"),
        packet(FIRST + 2, operation::REQUEST, 0, &[]),
        packet(FIRST + 2, operation::DATA, 0, b"\x03\0\0\0abc"),
        packet(FIRST + 5, operation::REQUEST, 0, &[]),
        packet(FIRST + 6, operation::RESPONSE, 0, &[]),
        packet(FIRST + 1, operation::SHUTDOWN, 3, &[]),
        packet(FIRST + 5, operation::RESET, 0, &[]),
    ];
    for (number, input) in (0..).zip(&packets) {
        sockets.offer(SOCKET, 1, number, input, 0);
        sockets.turn();
    }
    let mut others = Script::new();
    others.set_up(RANDOM, 1);
    others.offer(RANDOM, 0, 0, &[], 40);
    others.turn();
    others.set_up(BALLOON, 3);
    others.offer(BALLOON, 0, 0, &[0xf0, 0, 0, 0, 0xf1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], 0);
    others.offer(BALLOON, 2, 0, &[], 8192);
    others.turn();
    // An indirect table: its one descriptor is to be filled.
    let table: Vec<u8> = [0xf_0000u32, 0, 64, 2].iter().flat_map(|half| half.to_le_bytes()).collect();
    others.set_up(RANDOM, 1);
    others.offer(RANDOM, 0, 0, &table, 0);
    others.store(rings(RANDOM, 0) + 12, &[4]);
    others.turn();
    others.steps.extend([READ, RANDOM, 0x70, 0, 4]);
    let last = |message: &Vec<u8>| matches!(decode(message), Ok(ToMonitor::Exit(Exit::Status(1))));
    assert!(play(&files.steps).messages.iter().any(last), "nothing was said");
    let mut sent = [0; 9];
    let length = play(&sockets.steps).others.0.read(&mut sent).expect("nothing was sent");
    assert_eq!(sent[..length], *b"bytes");
    let both = [&files.steps[..], &sockets.steps].concat();
    vec![files.steps, sockets.steps, others.steps, both]
}
