//! A front end that speaks vhost-user byte by byte: one that keeps to the rules, and QEMUs that lie.

mod descriptors;

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use abi::vm::fuse;
use rustix::event::epoll::{self, EventFlags};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, sendmsg};
use vm_memory::{FileOffset, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::{Configuration, Front, Heard};
use crate::channel::Channel;
use crate::descriptor::Table;
use crate::device::file;
use crate::host::counter;
use crate::memory::Memory;
use crate::outside::{Outside, Whom};
use crate::testing::{Driver, Numbers, pair, pool};
use crate::transport::{Device, Port};

const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const SET_MEMORY: u32 = 5;
const SET_SIZE: u32 = 8;
const SET_ADDRESSES: u32 = 9;
const SET_BASE: u32 = 10;
const GET_BASE: u32 = 11;
const SET_KICK: u32 = 12;
const SET_CALL: u32 = 13;
const GET_PROTOCOL: u32 = 15;
const SET_PROTOCOL: u32 = 16;
const ENABLE: u32 = 18;
const GET_CONFIGURATION: u32 = 24;

/// In a header: version 1, and that an answer is wanted.
const FLAGS: u32 = 1 | 8;
const HEADER: usize = 12;
/// Protocol features: several queues, answers.
const PROTOCOL: u64 = 1 | 1 << 3;
const EVERYTHING: u64 = 1 << 32 | 1 << 30;
/// What a connection is ready for when something arrived, and when no more will.
const ARRIVED: EventFlags = EventFlags::IN.union(EventFlags::OUT);
const ENDED: EventFlags = ARRIVED.union(EventFlags::RDHUP);

const LENGTH: u64 = 16 << 20;
/// Where the front end has the guest's memory.
const THEIRS: u64 = 0x7f00_0000_0000;
const RINGS: u64 = 1 << 20;
const ERRANDS: u32 = 1;
const CONTENT: &[u8] = b"what was granted";

/// QEMU, and the device it lends queues to.
struct Qemu {
    socket: UnixStream,
    front: Front,
    port: Arc<Port>,
    device: file::File,
    generation: u64,
    outside: Outside,
    memory: OwnedFd,
    kick: EventFd,
    call: EventFd,
}

fn memory(seals: SealFlags) -> OwnedFd {
    let file = memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, LENGTH).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn halves(halves: &[u32]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

fn message(request: u32, payload: &[u8]) -> Vec<u8> {
    [halves(&[request, FLAGS, payload.len() as u32]), payload.to_vec()].concat()
}

/// A table of memory: guest address, length, the front end's address, offset in the file.
fn table(regions: &[[u64; 4]]) -> Vec<u8> {
    [halves(&[regions.len() as u32, 0]), words(regions.as_flattened())].concat()
}

impl Qemu {
    fn new() -> Self {
        let mut granted = File::from(memfd_create("granted", MemfdFlags::CLOEXEC).unwrap());
        granted.write_all(CONTENT).unwrap();
        let (_, control) = pair(SocketType::SEQPACKET);
        let outside = Outside::new(Table::new([granted.into()]), Channel::new(control)).unwrap();
        let call = Arc::new(EventFd::new(0).unwrap());
        let mut device = file::File::new(pool());
        let port = Port::new(device.description(), &Arc::new(Memory::new()), &call).unwrap();
        device.attach(&port);
        let (socket, ours) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let front = Front::new(ours.into(), &port, outside.ear().unwrap(), 1, Configuration::Ours).unwrap();
        let counter = || EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK).unwrap();
        let (memory, kick, call) = (memory(SealFlags::SHRINK), counter(), counter());
        Self { socket, front, port, device, generation: 0, outside, memory, kick, call }
    }

    /// One that has agreed on features and given memory.
    fn begun() -> Self {
        let mut qemu = Self::new();
        qemu.agree();
        let memory = qemu.memory.try_clone().unwrap();
        assert!(qemu.does(SET_MEMORY, &table(&[[0, LENGTH, THEIRS, 0]]), &[memory.as_fd()]));
        qemu
    }

    fn agree(&mut self) {
        let features = self.ask(GET_FEATURES, &[], &[]).1.unwrap();
        assert_eq!(u64::from_le_bytes(features.try_into().unwrap()) & EVERYTHING, EVERYTHING);
        self.ask(SET_FEATURES, &words(&[EVERYTHING]), &[]);
        assert!(self.ask(GET_PROTOCOL, &[], &[]).1.is_some());
        self.ask(SET_PROTOCOL, &words(&[PROTOCOL | 1 << 9]), &[]);
    }

    fn say(&mut self, bytes: &[u8], files: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(files)));
        }
        sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).unwrap();
    }

    /// Says something; what became of it, and the answer.
    fn ask(&mut self, request: u32, payload: &[u8], files: &[BorrowedFd<'_>]) -> (Heard, Option<Vec<u8>>) {
        self.say(&message(request, payload), files);
        let heard = self.front.hear(ARRIVED);
        (heard, self.answer(request))
    }

    fn answer(&mut self, request: u32) -> Option<Vec<u8>> {
        let mut header = [0; HEADER];
        self.socket.read_exact(&mut header).ok()?;
        let half = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        assert_eq!(half(0), request);
        let mut body = vec![0; half(8) as usize];
        self.socket.read_exact(&mut body).unwrap();
        Some(body)
    }

    /// Whether a message was acknowledged as done.
    fn does(&mut self, request: u32, payload: &[u8], files: &[BorrowedFd<'_>]) -> bool {
        matches!(self.ask(request, payload, files), (Heard::Done, Some(answer)) if answer == [0; 8])
    }

    fn file(&self, which: &EventFd) -> OwnedFd {
        counter(which).try_clone_to_owned().unwrap()
    }

    fn addresses(driver: &Driver, queue: u32) -> Vec<u8> {
        let laid = driver.queues[queue as usize];
        let places = [laid.descriptors, laid.used, laid.available].map(|place| THEIRS + place);
        [halves(&[queue, 0]), words(&places), words(&[0])].concat()
    }

    /// Lends a queue that goes on at `next`.
    fn lend(&mut self, driver: &Driver, queue: u32, next: u16) -> bool {
        let (kick, call) = (self.file(&self.kick), self.file(&self.call));
        self.does(SET_SIZE, &halves(&[queue, driver.queues[queue as usize].size.into()]), &[])
            && self.does(SET_BASE, &halves(&[queue, next.into()]), &[])
            && self.does(SET_ADDRESSES, &Self::addresses(driver, queue), &[])
            && self.does(SET_CALL, &words(&[queue.into()]), &[call.as_fd()])
            && self.does(SET_KICK, &words(&[queue.into()]), &[kick.as_fd()])
            && self.does(ENABLE, &halves(&[queue, 1]), &[])
    }

    fn driver(&self) -> Driver {
        let file = File::from(self.memory.try_clone().unwrap());
        let range = (GuestAddress(0), LENGTH as usize, Some(FileOffset::new(file, 0)));
        let memory = Arc::new(Memory::from_ranges_with_files([range]).unwrap());
        Driver::beside(&self.port, &memory, RINGS, 2)
    }

    fn turn(&mut self) {
        self.port.look();
        self.port.process(&mut self.device, &mut self.generation, &mut self.outside);
    }

    /// Reads what was granted, through the queue.
    fn read(&mut self, driver: &mut Driver) {
        let own = words(&[abi::pico::descriptor::FIRST_FREE.into(), 0, 100, 0, 0]);
        let header = [(fuse::IN + own.len()) as u64 | u64::from(fuse::READ) << 32, 7, 1, 0, 0];
        let (head, places) = driver.push(1, &[&words(&header), &own], &[fuse::OUT + 100]);
        self.kick.write(1).unwrap();
        assert!(self.has_rung());
        self.turn();
        assert_eq!(driver.pop(1), Some((head, (fuse::OUT + CONTENT.len()) as u32)));
        assert_eq!(driver.bytes(places[0] + fuse::OUT as u64, CONTENT.len()), CONTENT);
        assert_eq!(self.call.read().unwrap(), 1);
    }

    /// Whether a bell wakes the loop.
    fn has_rung(&self) -> bool {
        let mut events = Vec::with_capacity(8);
        let zero = rustix::event::Timespec::default();
        epoll::wait(&self.outside.epoll, rustix::buffer::spare_capacity(&mut events), Some(&zero)).unwrap();
        events.iter().any(|event| event.data.u64() & 0xffff_ffff == 1)
    }

    fn is_lent(&self) -> bool {
        self.port.lock().rings.iter().any(|ring| ring.is_ready())
    }
}

#[test]
fn a_request_goes_through_a_lent_queue_and_again_after_a_stop() {
    let mut qemu = Qemu::begun();
    let mut driver = qemu.driver();
    assert!(qemu.lend(&driver, 0, 0) && qemu.lend(&driver, ERRANDS, 0));
    let mut read = 0;
    // The same bell and the same queue in each generation.
    for _ in 0..3 {
        for _ in 0..100 {
            qemu.read(&mut driver);
            read += 1;
        }
        for (queue, next) in [(0, 0), (ERRANDS, read)] {
            let answer = qemu.ask(GET_BASE, &halves(&[queue, 0]), &[]);
            assert_eq!(answer, (Heard::Done, Some(halves(&[queue, next]))));
        }
        assert!(!qemu.is_lent());
        qemu.kick.write(1).unwrap();
        assert!(!qemu.has_rung(), "a bell that was taken down is heard");
        qemu.turn();
        assert!(qemu.lend(&driver, 0, 0) && qemu.lend(&driver, ERRANDS, read as u16));
    }
    qemu.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(qemu.front.hear(ENDED), Heard::Gone);
}

#[test]
fn memory_is_a_file_that_cannot_shrink_and_is_as_long_as_it_is_said_to_be() {
    let whole = [0, LENGTH, THEIRS, 0];
    let beyond = [
        [0, LENGTH, THEIRS, 4096],
        [0, LENGTH + 4096, THEIRS, 0],
        [0, LENGTH, THEIRS, u64::MAX - 4095],
        [0, u64::MAX, THEIRS, 0],
        [0, 0, THEIRS, 0],
        [u64::MAX - 4095, LENGTH, THEIRS, 0],
        [0, LENGTH, u64::MAX - 4095, 0],
        [0, 4096, THEIRS, 1],
    ];
    for region in beyond {
        let mut qemu = Qemu::new();
        qemu.agree();
        let file = qemu.memory.try_clone().unwrap();
        assert!(!qemu.does(SET_MEMORY, &table(&[region]), &[file.as_fd()]), "{region:?}");
    }
    let (pipe, _keep) = crate::testing::pipe();
    let no_file = File::open("/proc/self/exe").unwrap().into();
    for wrong in [memory(SealFlags::empty()), memory(SealFlags::GROW), pipe, no_file] {
        let mut qemu = Qemu::new();
        qemu.agree();
        assert!(!qemu.does(SET_MEMORY, &table(&[whole]), &[wrong.as_fd()]));
    }
    // Two in one place, more regions than files, more files than regions, more than there may be.
    let file = memory(SealFlags::SHRINK);
    let halves = [[0, LENGTH / 2, THEIRS, 0], [LENGTH / 4, LENGTH / 2, THEIRS + LENGTH, 0]];
    let many: [[u64; 4]; 33] = std::array::from_fn(|at| [at as u64 * LENGTH, LENGTH, THEIRS, 0]);
    let cases: [(&[[u64; 4]], usize); 4] = [(&halves, 2), (&halves, 1), (&halves[..1], 2), (&many, 32)];
    for (regions, files) in cases {
        let mut qemu = Qemu::new();
        qemu.agree();
        assert!(!qemu.does(SET_MEMORY, &table(regions), &vec![file.as_fd(); files]), "{regions:?}");
    }
}

#[test]
fn queues_lie_in_memory_and_are_as_long_as_they_may_be() {
    let sizes: [u32; 6] = [0, 3, 2048, 32768, 65536, u32::MAX];
    for size in sizes {
        let mut qemu = Qemu::begun();
        let driver = qemu.driver();
        let taken = qemu.does(SET_SIZE, &halves(&[ERRANDS, size]), &[]);
        let kick = qemu.file(&qemu.kick);
        let begun = taken
            && qemu.does(SET_ADDRESSES, &Qemu::addresses(&driver, ERRANDS), &[])
            && qemu.does(SET_KICK, &words(&[1]), &[kick.as_fd()])
            && qemu.does(ENABLE, &halves(&[ERRANDS, 1]), &[]);
        assert!(!begun && !qemu.is_lent(), "{size}");
    }
    let outside = [0, THEIRS - 16, THEIRS + LENGTH, THEIRS + LENGTH - 16, u64::MAX - 15, RINGS];
    for (place, address) in (0..3).flat_map(|place| outside.map(|address| (place, address))) {
        let mut qemu = Qemu::begun();
        let driver = qemu.driver();
        let mut addresses = Qemu::addresses(&driver, ERRANDS);
        addresses[8 + place * 8..16 + place * 8].copy_from_slice(&address.to_le_bytes());
        let kick = qemu.file(&qemu.kick);
        let begun = qemu.does(SET_SIZE, &halves(&[ERRANDS, 256]), &[])
            && qemu.does(SET_ADDRESSES, &addresses, &[])
            && qemu.does(SET_KICK, &words(&[1]), &[kick.as_fd()])
            && qemu.does(ENABLE, &halves(&[ERRANDS, 1]), &[]);
        assert!(!begun && !qemu.is_lent(), "{place} {address:#x}");
    }
}

#[test]
fn queues_have_numbers_and_bells() {
    let mut qemu = Qemu::begun();
    let driver = qemu.driver();
    for queue in [2, 255, 256, 65535, 65536, u32::MAX] {
        for request in [SET_SIZE, SET_BASE, ENABLE] {
            assert!(!qemu.does(request, &halves(&[queue, 1]), &[]), "{request} of {queue}");
        }
        let (heard, answer) = qemu.ask(GET_BASE, &halves(&[queue, 0]), &[]);
        assert_eq!((heard, answer), (Heard::Done, None));
        let mut addresses = Qemu::addresses(&driver, 0);
        addresses[..4].copy_from_slice(&queue.to_le_bytes());
        assert!(!qemu.does(SET_ADDRESSES, &addresses, &[]));
    }
    let (kick, pipe) = (qemu.file(&qemu.kick), crate::testing::pipe());
    for request in [SET_KICK, SET_CALL] {
        assert!(!qemu.does(request, &words(&[2]), &[kick.as_fd()]));
    }
    // A queue without a bell would have to be looked at for ever.
    assert!(!qemu.does(SET_KICK, &words(&[1 | 1 << 8]), &[]));
    // A next chain beyond all.
    assert!(!qemu.does(SET_BASE, &halves(&[0, 65536]), &[]));
    // A pipe is as good as a counter for both; nothing is read from it.
    assert!(qemu.does(SET_KICK, &words(&[1]), &[pipe.0.as_fd()]));
    assert!(qemu.does(SET_CALL, &words(&[1]), &[pipe.0.as_fd()]));
    assert!(!qemu.is_lent());
    // What cannot be waited for is no bell.
    let file = qemu.memory.try_clone().unwrap();
    let (heard, _) = qemu.ask(SET_KICK, &words(&[1]), &[file.as_fd()]);
    assert!(matches!(heard, Heard::Nonsense(_)), "{heard:?}");
}

#[test]
fn a_next_chain_that_nobody_offered_breaks_the_queue_only() {
    for next in [1, 255, 300, 0x8000, 65000] {
        let mut qemu = Qemu::begun();
        let driver = qemu.driver();
        assert!(qemu.lend(&driver, ERRANDS, next));
        qemu.turn();
        let is_broken = qemu.port.lock().rings[1].is_broken();
        assert!(is_broken, "{next}");
        // After a stop it goes on where it should.
        assert!(qemu.ask(GET_BASE, &halves(&[ERRANDS, 0]), &[]).1.is_some());
        let mut driver = qemu.driver();
        assert!(qemu.lend(&driver, ERRANDS, 0));
        qemu.read(&mut driver);
    }
}

#[test]
fn features_are_those_that_were_offered() {
    for wrong in [1 << 40, 1 << 26, u64::MAX] {
        let mut qemu = Qemu::new();
        qemu.agree();
        assert!(!qemu.does(SET_FEATURES, &words(&[EVERYTHING | wrong]), &[]));
    }
    let mut qemu = Qemu::begun();
    for (offset, size) in [(40, 1), (0, 257), (u32::MAX, 1), (39, 2)] {
        let request = [halves(&[offset, size, 0]), vec![0; size as usize % 512]].concat();
        let (heard, answer) = qemu.ask(GET_CONFIGURATION, &request, &[]);
        let refused = answer.is_none_or(|answer| answer.len() < HEADER + size as usize);
        assert!(refused, "{offset} {size} {heard:?}");
    }
    // What was not agreed on: logs, inflight buffers, regions one by one, other channels, state.
    for request in [6, 7, 21, 31, 32, 37, 38, 39, 42, 43, 44, 99] {
        let mut qemu = Qemu::begun();
        let file = qemu.memory.try_clone().unwrap();
        assert!(!qemu.does(request, &words(&[0, LENGTH, THEIRS, 0, 0]), &[file.as_fd()]), "{request}");
    }
}

#[test]
fn messages_cut_short_are_an_end() {
    let payload = halves(&[ERRANDS, 256]);
    let whole = message(SET_SIZE, &payload);
    for length in 0..whole.len() {
        let mut qemu = Qemu::begun();
        qemu.say(&whole[..length], &[]);
        qemu.socket.shutdown(std::net::Shutdown::Write).unwrap();
        let heard = qemu.front.hear(ENDED);
        assert!(matches!(heard, Heard::Gone | Heard::Nonsense(_)), "{length} {heard:?}");
    }
    // Lengths that are not the message's, up to more than fits memory; versions; files that belong to nothing.
    for (at, value) in [(8, 7u32), (8, 9), (8, 4097), (8, u32::MAX), (4, 0), (4, 2), (4, u32::MAX)] {
        let mut qemu = Qemu::begun();
        let mut wrong = whole.clone();
        wrong[at..at + 4].copy_from_slice(&value.to_le_bytes());
        qemu.say(&wrong, &[]);
        qemu.socket.shutdown(std::net::Shutdown::Write).unwrap();
        let heard = qemu.front.hear(ENDED);
        assert!(matches!(heard, Heard::Nonsense(_)), "{at} {value} {heard:?}");
    }
    let mut qemu = Qemu::begun();
    let file = qemu.memory.try_clone().unwrap();
    let heard = qemu.ask(SET_SIZE, &payload, &[file.as_fd()]).0;
    assert!(matches!(heard, Heard::Nonsense(_)), "{heard:?}");
    // With more files than any message has, the message itself is lost, and so is the front end.
    let mut qemu = Qemu::begun();
    qemu.say(&whole, &[file.as_fd(); 33]);
    qemu.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(qemu.front.hear(ENDED), Heard::Gone);
}

/// What the loop is told of the connection now.
fn ready(outside: &Outside) -> Option<EventFlags> {
    let mut events = Vec::with_capacity(8);
    let zero = rustix::event::Timespec::default();
    epoll::wait(&outside.epoll, rustix::buffer::spare_capacity(&mut events), Some(&zero)).unwrap();
    events.iter().find(|event| Whom::of(event.data) == Whom::Front(0)).map(|event| event.flags)
}

#[test]
fn a_message_in_pieces_is_waited_for_by_nobody() {
    let mut qemu = Qemu::begun();
    qemu.outside.attend(&qemu.front.socket, 0).unwrap();
    // There is room for answers; that is told once.
    assert!(ready(&qemu.outside).is_some() && ready(&qemu.outside).is_none());
    let whole = message(SET_SIZE, &halves(&[ERRANDS, 256]));
    for (at, byte) in whole.iter().enumerate() {
        qemu.say(&[*byte], &[]);
        let flags = ready(&qemu.outside).expect("it is told of each piece");
        let last = at + 1 == whole.len();
        assert_eq!(qemu.front.hear(flags), if last { Heard::Done } else { Heard::Part }, "{at}");
        assert!(ready(&qemu.outside).is_none(), "a piece is told of twice");
    }
    assert_eq!(qemu.answer(SET_SIZE), Some(vec![0; 8]));
    // Several at once: the next is told of when the first was taken.
    qemu.say(&[&whole[..], &whole, &whole[..5]].concat(), &[]);
    let heard = [Heard::Done, Heard::Done, Heard::Part].map(|expected| {
        let heard = qemu.front.hear(ready(&qemu.outside).unwrap());
        qemu.outside.attend_again(&qemu.front.socket, 0);
        heard == expected
    });
    assert_eq!(heard, [true; 3]);
}

#[test]
fn a_front_end_that_takes_no_answers_is_not_answered() {
    let mut qemu = Qemu::begun();
    qemu.outside.attend(&qemu.front.socket, 0).unwrap();
    let question = message(GET_FEATURES, &[]);
    let mut answered = 0;
    loop {
        qemu.say(&question, &[]);
        let flags = ready(&qemu.outside).unwrap();
        if qemu.front.hear(flags) == Heard::Part {
            assert!(!flags.contains(EventFlags::OUT));
            break;
        }
        qemu.outside.attend_again(&qemu.front.socket, 0);
        answered += 1;
    }
    assert!(answered > 10, "{answered}");
    // Once it takes them it goes on.
    (0..answered).for_each(|_| drop(qemu.answer(GET_FEATURES).unwrap()));
    assert_eq!(qemu.front.hear(ready(&qemu.outside).unwrap()), Heard::Done);
    assert!(qemu.answer(GET_FEATURES).is_some());
}

#[test]
fn nothing_random_makes_it_panic() {
    let mut random = Numbers(0x0dd_ba11_cafe_f00d);
    let mut qemu = Qemu::begun();
    let mut driver = qemu.driver();
    for _ in 0..20_000 {
        let pick = |random: &mut Numbers, from: &[u64]| from[random.below(from.len() as u64) as usize];
        let noise = random.draw();
        let queue = pick(&mut random, &[0, 1, 1, 2, 65536]) as u32;
        let value = pick(&mut random, &[0, 1, 256, 1024, 3, noise]);
        let place = pick(&mut random, &[THEIRS, THEIRS + RINGS, THEIRS + LENGTH - 8, noise]);
        let files = [qemu.file(&qemu.kick), qemu.memory.try_clone().unwrap()];
        let file = files[usize::from(random.below(8) == 0)].as_fd();
        let (request, payload, files): (_, _, &[BorrowedFd<'_>]) = match random.below(12) {
            0 => (SET_SIZE, halves(&[queue, value as u32]), &[]),
            1 => (SET_BASE, halves(&[queue, value as u32]), &[]),
            2 => (SET_ADDRESSES, Qemu::addresses(&driver, queue & 1), &[]),
            3 => {
                (SET_ADDRESSES, [halves(&[queue, 0]), words(&[place, place + 4096, place, 0])].concat(), &[])
            }
            4 => (GET_BASE, halves(&[queue, 0]), &[]),
            5 => (SET_KICK, words(&[(queue & 3).into()]), &[file]),
            6 => (SET_CALL, words(&[(queue & 3).into()]), &[file]),
            7 => (ENABLE, halves(&[queue, (value & 1) as u32]), &[]),
            8 => (SET_MEMORY, table(&[[0, LENGTH, THEIRS, 0]]), &[files[1].as_fd()]),
            9 => (SET_MEMORY, table(&[[value << 12, LENGTH / 2, THEIRS, value << 12]]), &[files[1].as_fd()]),
            10 => (SET_FEATURES, words(&[EVERYTHING & noise]), &[]),
            _ => (
                random.below(50) as u32,
                words(&[noise, value, place, 0, noise][..random.below(6) as usize]),
                &[],
            ),
        };
        let (heard, _) = qemu.ask(request, &payload, files);
        match random.below(4) {
            0 => drop(driver.push(1, &[&words(&[noise; 5])], &[100])),
            1 => driver.put(RINGS + random.below(0x2_0000), noise),
            _ => {}
        }
        qemu.turn();
        if heard != Heard::Done || random.below(200) == 0 {
            qemu = Qemu::begun();
            driver = qemu.driver();
        }
    }
}
