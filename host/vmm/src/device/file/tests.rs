//! The file device, with a driver of a few lines: every operation, and drivers that lie.

use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;

use abi::exit::Exit;
use abi::file::Attributes;
use abi::message::{ToGuest, ToMonitor, decode, encode};
use abi::network::{Protocol, SocketOption};
use abi::request::{Reply, Request};
use abi::vm::fuse::{self, command};
use abi::{Code, Handle};
use rustix::net::SocketType;

use super::ERRANDS;
use crate::descriptor::{Kind, Pace};
use crate::testing::{MEMORY, Numbers, Rig, pair};

const FIRST: u64 = abi::pico::descriptor::FIRST_FREE as u64;

fn file(content: &[u8]) -> std::fs::File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("test", flags).unwrap());
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    file
}

fn input(operation: u32, own: &[u64], data: &[u8]) -> Vec<u8> {
    let length = fuse::IN + own.len() * 8 + data.len();
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    bytes.extend_from_slice(&operation.to_le_bytes());
    for word in [77u64, 1, 0, 0].iter().chain(own) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(data);
    bytes
}

fn control(handle: u64, what: u32, data: &[u8], room: u32) -> Vec<u8> {
    let sizes = data.len() as u64 | u64::from(room) << 32;
    input(fuse::IOCTL, &[handle, u64::from(what) << 32, 0, sizes], data)
}

impl Rig {
    fn take(&mut self, (head, places): (u16, Vec<u64>), rooms: &[usize]) -> (i32, Vec<u8>) {
        let (used, length) = self.until(|rig| rig.file.pop(ERRANDS));
        assert_eq!(used, head);
        let mut bytes: Vec<u8> =
            places.iter().zip(rooms).flat_map(|(place, room)| self.file.bytes(*place, *room)).collect();
        bytes.truncate(length as usize);
        if bytes.len() < fuse::OUT {
            return (0, vec![]);
        }
        let half = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(half(0) as usize, bytes.len());
        assert_eq!(u64::from_le_bytes(bytes[8..16].try_into().unwrap()), 77);
        (half(4), bytes[fuse::OUT..].to_vec())
    }

    fn ask(&mut self, readable: &[&[u8]], rooms: &[usize]) -> (i32, Vec<u8>) {
        let pushed = self.file.push(ERRANDS, readable, rooms);
        self.take(pushed, rooms)
    }
}

#[test]
fn registers_are_what_the_standard_says() {
    let rig = Rig::new(vec![]);
    let driver = &rig.file;
    assert_eq!(driver.read(0), u32::from_le_bytes(*b"virt"));
    assert_eq!((driver.read(4), driver.read(8)), (2, 26));
    assert_eq!(driver.read(0xc), u32::from_le_bytes(*b"EYOT"));
    let mut tag = [0; 36];
    driver.port.read(0x100, &mut tag);
    assert_eq!(&tag[..5], b"eyot\0");
    assert_eq!(driver.read(0x100 + 36), 1);
    assert_eq!(driver.read(0x70), 15);
    // Features beyond those offered are not agreed on.
    driver.write(0x70, 0);
    driver.write(0x24, 1);
    driver.write(0x20, 0x81);
    driver.write(0x70, 11);
    assert_eq!(driver.read(0x70), 3);
    // A queue that lies nowhere is not ready.
    driver.write(0x30, 1);
    driver.write(0x38, 256);
    driver.write(0x94, 0xffff_ffff);
    driver.write(0x44, 1);
    assert_eq!(driver.read(0x44), 0);
    for register in (0..0x400).step_by(4) {
        driver.write(register, 0xffff_ffff);
        driver.read(register);
    }
}

#[test]
fn data_moves_straight() {
    let content: Vec<u8> = (0..100_000u32).map(|number| number as u8).collect();
    let mut rig = Rig::new(vec![OwnedFd::from(file(&content))]);
    let own = [FIRST, 10, 50_000, 0, 0];
    let (error, data) = rig.ask(&[&input(fuse::READ, &own, &[])], &[fuse::OUT, 4096, 60_000]);
    assert_eq!((error, data.len()), (0, 50_000));
    assert_eq!(data, content[10..50_010]);
    // The end of the file, and the file's own position.
    let own = [FIRST, 99_990, 100, 0, 0];
    assert_eq!(rig.ask(&[&input(fuse::READ, &own, &[])], &[200]).1, content[99_990..]);
    for part in [0..7, 7..14] {
        let own = [FIRST, fuse::POSITION, 7, 0, 0];
        assert_eq!(rig.ask(&[&input(fuse::READ, &own, &[])], &[16, 7]).1, content[part]);
    }
    let own = [FIRST, 3, 5, 0, 0];
    let (error, body) = rig.ask(&[&input(fuse::WRITE, &own, b"HEL"), b"LO"], &[24]);
    // The header counts what its first part holds only: a lie.
    assert_eq!((error, body.len()), (-22, 0));
    let mut whole = input(fuse::WRITE, &own, b"HELLO");
    let tail = whole.split_off(60);
    assert_eq!(rig.ask(&[&whole, &tail], &[24]), (0, vec![5, 0, 0, 0, 0, 0, 0, 0]));
    let own = [FIRST, 0, 10, 0, 0];
    assert_eq!(&rig.ask(&[&input(fuse::READ, &own, &[])], &[26]).1, b"\0\x01\x02HELLO\x08\x09");
    // Nonsense is refused.
    for (operation, own, error) in [
        (fuse::READ, [99, 0, 10, 0, 0], -9),
        (fuse::READ, [u64::MAX, 0, 10, 0, 0], -9),
        (fuse::READ, [FIRST, 1 << 63, 10, 0, 0], -22),
        (3, [0; 5], -38),
        (fuse::WRITE, [FIRST, 0, 11, 0, 0], -22),
    ] {
        assert_eq!(rig.ask(&[&input(operation, &own, &[])], &[100]).0, error);
    }
    // Closing closes once.
    assert_eq!(rig.ask(&[&input(fuse::RELEASE, &[FIRST, 0, 0], &[])], &[16]).0, 0);
    assert_eq!(rig.ask(&[&input(fuse::RELEASE, &[FIRST, 0, 0], &[])], &[16]).0, -9);
    // Without room for an answer there is none.
    assert_eq!(rig.ask(&[&input(fuse::RELEASE, &[FIRST, 0, 0], &[])], &[3]).0, 0);
    assert!(!rig.file.is_broken());
}

#[test]
fn the_monitor_answers_with_descriptors() {
    let mut rig = Rig::new(vec![]);
    let request = Request::MakeMemory { length: 5 };
    let asked =
        rig.file.push(ERRANDS, &[&control(0, command::REQUEST, &encode(&request).unwrap(), 200)], &[300]);
    // Another one meanwhile, which is answered first.
    let connect = Request::Connect { protocol: Protocol::Tcp, destination: ([1, 2, 3, 4], 5).into() };
    let other =
        rig.file.push(ERRANDS, &[&control(0, command::REQUEST, &encode(&connect).unwrap(), 200)], &[300]);
    let heard = rig.heard();
    let ToMonitor::Request { ticket: first, request } = decode(&heard).unwrap() else { panic!() };
    assert!(matches!(request, Request::MakeMemory { length: 5 }));
    let ToMonitor::Request { ticket: second, .. } = decode(&rig.heard()).unwrap() else { panic!() };
    let (near, far) = pair(SocketType::STREAM);
    let local = ([9, 9, 9, 9], 1).into();
    let reply = Reply::Socket { handle: Handle::new(u32::MAX, 8), local, peer: None };
    rig.say(&ToGuest::Reply { ticket: second, result: Ok(reply) }, Some(&near));
    let (error, body) = rig.take(other, &[300]);
    let Ok(Ok(Reply::Socket { handle, .. })) = decode::<Result<Reply, Code>>(&body[fuse::IOCTL_OUT..]) else {
        panic!()
    };
    assert_eq!((error, handle.object()), (0, 8));
    assert_eq!(rig.turns.outside.table.get(handle.descriptor().into()).unwrap().kind, Kind::Socket);
    let reply =
        Reply::Opened { handle: Handle::new(u32::MAX, 7), attributes: Attributes::default(), made: false };
    rig.say(&ToGuest::Reply { ticket: first, result: Ok(reply) }, Some(&file(b"hello").into()));
    let body = rig.take(asked, &[300]).1;
    let Ok(Ok(Reply::Opened { handle, .. })) = decode::<Result<Reply, Code>>(&body[fuse::IOCTL_OUT..]) else {
        panic!()
    };
    let own = [handle.descriptor().into(), 0, 10, 0, 0];
    assert_eq!(rig.ask(&[&input(fuse::READ, &own, &[])], &[26]).1, b"hello");
    // Options reach sockets only.
    let option = encode(&SocketOption::SendBuffer(4096)).unwrap();
    assert_eq!(rig.ask(&[&control(own[0], command::OPTION, &option, 0)], &[32]).0, -88);
    drop(far);
    // An answer nobody waits for costs nothing.
    rig.say(&ToGuest::Reply { ticket: 99, result: Ok(Reply::Done) }, None);
    rig.settle();
}

#[test]
fn what_does_not_fit_is_given_back() {
    let mut rig = Rig::new(vec![]);
    let request = encode(&Request::MakeMemory { length: 5 }).unwrap();
    let asked = rig.file.push(ERRANDS, &[&control(0, command::REQUEST, &request, 3)], &[300]);
    let ToMonitor::Request { ticket, .. } = decode(&rig.heard()).unwrap() else { panic!() };
    let reply =
        Reply::Opened { handle: Handle::new(u32::MAX, 7), attributes: Attributes::default(), made: false };
    rig.say(&ToGuest::Reply { ticket, result: Ok(reply) }, Some(&file(b"").into()));
    assert_eq!(rig.take(asked, &[300]).0, -7);
    let heard = rig.heard();
    assert!(matches!(
        decode(&heard),
        Ok(ToMonitor::Request { ticket: 0, request: Request::Forget { object: 7 } })
    ));
    assert!(rig.turns.outside.table.get(FIRST).is_err());
    // Quiet requests are answered at once; nonsense is refused.
    let say = encode(&Request::Say { text: "hello" }).unwrap();
    assert_eq!(rig.ask(&[&control(0, command::REQUEST, &say, 50)], &[90]).0, 0);
    rig.heard();
    assert_eq!(rig.ask(&[&control(0, command::REQUEST, &[255; 9], 50)], &[90]).0, -22);
    assert_eq!(rig.ask(&[&control(0, 99, &[], 50)], &[90]).0, -25);
}

#[test]
fn news_and_the_last_word() {
    let mut rig = Rig::new(vec![]);
    let waiting = rig.file.push(ERRANDS, &[&control(0, command::EVENT, &[], 64)], &[96]);
    rig.settle();
    rig.say(&ToGuest::Signal(15), None);
    rig.say(&ToGuest::Signal(2), None);
    let news = rig.take(waiting, &[96]).1;
    assert!(matches!(decode(&news[fuse::IOCTL_OUT..]), Ok(ToGuest::Signal(15))));
    let news = rig.ask(&[&control(0, command::EVENT, &[], 64)], &[96]).1;
    assert!(matches!(decode(&news[fuse::IOCTL_OUT..]), Ok(ToGuest::Signal(2))));
    // The guest goes right after its last word.
    let exit = encode(&Exit::Status(3)).unwrap();
    rig.file.push(ERRANDS, &[&control(0, command::EXIT, &exit, 0)], &[32]);
    rig.ends.send(crate::End::Reset).unwrap();
    assert!(matches!(rig.turns.run(), crate::End::Reset));
    assert!(matches!(decode(&rig.heard()), Ok(ToMonitor::Exit(Exit::Status(3)))));
}

#[test]
fn a_failure_is_told_and_a_monitor_that_is_gone_ends_all() {
    let mut rig = Rig::new(vec![]);
    rig.ends.send(crate::End::Failed("why".into())).unwrap();
    assert!(matches!(rig.turns.run(), crate::End::Failed(_)));
    assert!(matches!(decode(&rig.heard()), Ok(ToMonitor::Exit(Exit::Broken { .. }))));
    let mut rig = Rig::new(vec![]);
    drop(std::mem::replace(&mut rig.monitor, file(b"").into()));
    assert!(matches!(rig.turns.run(), crate::End::Gone));
}

#[test]
fn threads_read_what_would_wait() {
    let mut path = std::env::temp_dir();
    path.push(format!("eyot-vmm-{}", std::process::id()));
    std::fs::write(&path, vec![5; 300_000]).unwrap();
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut rig = Rig::new(vec![file.try_clone().unwrap().into()]);
    // As if the file system could not tell; larger than what is done at once nevertheless.
    let granted = rig.turns.outside.table.get_mut(FIRST).unwrap();
    (granted.reads, granted.writes) = (Pace::Unknown, Pace::Unknown);
    let data = vec![9; 100_000];
    let own = [FIRST, 50_000, data.len() as u64, 0, 0];
    let pushed = rig.file.push(ERRANDS, &[&input(fuse::WRITE, &own, &data)], &[24]);
    assert_eq!(rig.take(pushed, &[24]).1[..4], 100_000u32.to_le_bytes());
    let own = [FIRST, 0, 300_000, 0, 0];
    let read = rig.ask(&[&input(fuse::READ, &own, &[])], &[16, 300_000]).1;
    let mut content = vec![];
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    assert_eq!((read.len(), read == content), (300_000, true));
    // A reset meanwhile: what a thread finishes afterwards is not given back.
    let own = [FIRST, 0, 300_000, 0, 0];
    for _ in 0..20 {
        rig.file.push(ERRANDS, &[&input(fuse::READ, &own, &[])], &[16, 300_000]);
        rig.turns.turn();
        rig.file.set_up(1 << 20, 2, u64::MAX);
        rig.settle();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!rig.file.is_broken() && rig.file.pop(ERRANDS).is_none());
    // Waiting errands do not hold up others.
    for _ in 0..50 {
        rig.file.push(ERRANDS, &[&control(0, command::EVENT, &[], 64)], &[96]);
    }
    assert_eq!(rig.ask(&[&input(fuse::READ, &own, &[])], &[16, 300_000]).1.len(), 300_000);
}

#[test]
fn rules_of_the_queue() {
    // A chain that loops, one that points outside, one that mixes directions, an indirect table of nothing.
    let cases: &[&[(u64, u32, u16, u16)]] = &[
        &[(0x10_0000, 16, 1, 1), (0x10_0000, 16, 1, 0)],
        &[(MEMORY - 8, 64, 2, 0)],
        &[(u64::MAX - 3, 64, 0, 0)],
        &[(0x10_0000, 64, 3, 1), (0x10_0000, 64, 0, 0)],
        &[(0x10_0000, 0, 4, 0)],
        &[(0x10_0000, 17, 4, 0)],
        &[(MEMORY - 16, u32::MAX, 4, 0)],
        &[(0x10_0000, u32::MAX, 0, 0)],
        &[(0, 0, 3, 1), (0, 0, 2, 0)],
    ];
    for chain in cases {
        let mut rig = Rig::new(vec![]);
        for (number, words) in chain.iter().enumerate() {
            rig.file.descriptor(ERRANDS, number as u16, *words);
        }
        rig.file.offer(ERRANDS, 0);
        assert_eq!(rig.until(|rig| rig.file.pop(ERRANDS)), (0, 0), "{chain:?}");
        assert!(!rig.file.is_broken());
    }
    // An index that jumps, a head that is none, a head that is under way: the queue is broken until a reset.
    let breaks: [fn(&mut Rig); 3] = [
        |rig| rig.file.put(rig.file.queues[ERRANDS].available + 2, 9999u16),
        |rig| rig.file.offer(ERRANDS, 300),
        |rig| {
            let (head, _) = rig.file.push(ERRANDS, &[&control(0, command::EVENT, &[], 64)], &[96]);
            rig.file.offer(ERRANDS, head);
        },
    ];
    for case in breaks {
        let mut rig = Rig::new(vec![OwnedFd::from(file(b"hello"))]);
        case(&mut rig);
        rig.settle();
        assert!(rig.file.is_broken());
        rig.file.set_up(1 << 20, 2, u64::MAX);
        let own = [FIRST, 0, 5, 0, 0];
        assert_eq!(rig.ask(&[&input(fuse::READ, &own, &[])], &[26]).1, b"hello");
    }
}

#[test]
fn nothing_random_makes_it_panic_or_hang() {
    let mut random = Numbers(0x1234_5678_9abc_def1);
    let mut rig = Rig::new(vec![OwnedFd::from(file(&[1; 10_000]))]);
    for round in 0..3000 {
        match random.below(8) {
            0 => {
                for _ in 0..random.below(6) {
                    let index = random.below(256) as u16;
                    let address = [random.below(MEMORY), random.draw(), MEMORY - random.below(64)];
                    let length =
                        [random.below(5000) as u32, random.draw() as u32, 0][random.below(3) as usize];
                    let words = (
                        address[random.below(3) as usize],
                        length,
                        random.below(8) as u16,
                        random.below(300) as u16,
                    );
                    rig.file.descriptor(ERRANDS, index, words);
                }
                rig.file.offer(ERRANDS, random.below(257) as u16);
            }
            1 if random.below(10) == 0 => {
                let at = rig.file.queues[ERRANDS].used + random.below(2000);
                rig.file.put(at, random.draw());
            }
            _ => {
                let own: Vec<u64> = (0..5)
                    .map(|_| [FIRST, random.below(20_000), random.draw()][random.below(3) as usize])
                    .collect();
                let operation = [15, 16, 39, 39, 39, random.below(50) as u32][random.below(6) as usize];
                let data: Vec<u8> = (0..random.below(200)).map(|_| random.draw() as u8).collect();
                let mut bytes = if operation == 39 {
                    control(own[0], random.below(5) as u32, &data, random.below(300) as u32)
                } else {
                    input(operation, &own, &data)
                };
                for _ in 0..random.below(3) {
                    let at = random.below(bytes.len() as u64) as usize;
                    bytes[at] = random.draw() as u8;
                }
                let cut = random.below(bytes.len() as u64) as usize;
                rig.file.push(
                    ERRANDS,
                    &[&bytes[..cut], &bytes[cut..]],
                    &[random.below(40) as usize, random.below(9000) as usize],
                );
            }
        }
        rig.turns.turn();
        // A last word that was found by chance is let out.
        if rig.file.is_broken() || round % 200 == 199 {
            rig.file.set_up(1 << 20, 2, random.draw() | 1 << 32);
        }
        let mut buffer = [0; 65536];
        let _ = rustix::net::recv(&rig.monitor, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT);
    }
}

#[test]
fn memory_that_changes_meanwhile_is_only_memory() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use vm_memory::{Bytes, GuestAddress};
    let mut rig = Rig::new(vec![OwnedFd::from(file(&[1; 10_000]))]);
    let (memory, over) = (rig.file.memory.clone(), std::sync::Arc::new(AtomicBool::new(false)));
    let until = over.clone();
    let scribbler = std::thread::spawn(move || {
        let mut numbers = Numbers(0x5555_1234_9999_0001);
        while !until.load(Ordering::Relaxed) {
            // Both rings of the queue, and the buffers behind.
            let at = (1 << 20) + [0x1_0000, 0x2_0000][numbers.below(2) as usize] + numbers.below(0xc000);
            let value = [numbers.draw() as u8, 1, 2, 0][numbers.below(4) as usize];
            memory.write_obj(value, GuestAddress(at)).unwrap();
        }
    });
    let since = std::time::Instant::now();
    let mut broken = 0;
    while since.elapsed().as_millis() < 1500 {
        for offset in 0..20 {
            let own = [FIRST, offset * 100, 900, 0, 0];
            rig.file.push(ERRANDS, &[&input(fuse::READ, &own, &[])], &[16, 900]);
            rig.file.push(ERRANDS, &[&control(0, command::EVENT, &[], 64)], &[96]);
        }
        rig.turns.turn();
        if rig.file.is_broken() {
            broken += 1;
            rig.file.set_up(1 << 20, 2, u64::MAX);
        }
    }
    over.store(true, Ordering::Relaxed);
    scribbler.join().unwrap();
    assert!(broken > 0);
    rig.file.set_up(1 << 20, 2, u64::MAX);
    let own = [FIRST, 0, 5, 0, 0];
    assert_eq!(rig.ask(&[&input(fuse::READ, &own, &[])], &[26]).1, [1; 5]);
}

#[test]
fn registers_take_whatever_is_written() {
    let mut numbers = Numbers(0x0dd0_0ff1_ce00_0001);
    let mut rig = Rig::new(vec![]);
    for _ in 0..40_000 {
        let registers =
            [0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4];
        let register = match numbers.below(10) {
            0 => numbers.below(0x1000),
            number => registers[(numbers.below(registers.len() as u64) + number) as usize % registers.len()],
        };
        let values = [
            0,
            1,
            2,
            3,
            11,
            15,
            256,
            1 << 20,
            numbers.draw(),
            numbers.below(MEMORY),
            MEMORY - numbers.below(99),
        ];
        let value = values[numbers.below(values.len() as u64) as usize];
        let width = [4, 4, 4, 1, 2, 8][numbers.below(6) as usize];
        for driver in [&rig.file, &rig.socket] {
            driver.port.write(register, &value.to_le_bytes()[..width]);
            let mut bytes = [0; 8];
            driver.port.read(register, &mut bytes[..width]);
        }
        rig.turns.turn();
    }
    rig.file.set_up(1 << 20, 2, u64::MAX);
    assert_eq!(rig.ask(&[&input(fuse::RELEASE, &[99, 0, 0], &[])], &[16]).0, -9);
}

/// As many as wait for the monitor or a disk at once: a queue's length, and those begun in the last turn.
const LADEN: usize = 2 * 1024;

#[test]
fn resets_do_not_pile_up_what_waits_for_the_monitor() {
    let mut rig = Rig::new(vec![]);
    let list = encode(&Request::Say { text: &"x".repeat(2000) }).unwrap();
    for _ in 0..40 {
        (0..256).for_each(|_| drop(rig.file.push(ERRANDS, &[&control(0, command::REQUEST, &list, 64)], &[])));
        rig.turns.turn();
        rig.file.set_up(1 << 20, 2, u64::MAX);
        rig.turns.turn();
    }
    assert!(rig.turns.outside.channel.waiting() <= LADEN);
    // It goes on as soon as the monitor has taken enough.
    let time = control(0, command::TIME, &[], 8);
    rig.file.push(ERRANDS, &[&time], &[fuse::OUT + fuse::IOCTL_OUT + 8]);
    let mut buffer = [0; 4096];
    rig.until(|rig| {
        let _ = rustix::net::recv(&rig.monitor, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT);
        rig.file.pop(ERRANDS)
    });
}

#[test]
fn resets_do_not_pile_up_what_waits_for_a_disk() {
    // A pipe for a slow disk: who reads it waits.
    let (reader, writer) = crate::testing::pipe();
    let mut rig = Rig::new(vec![]);
    // Its own threads: other tests' devices serve nobody while as much waits for theirs.
    rig.turns.devices.file.device.pool = crate::pool::Pool::new().unwrap();
    let number = rig.turns.outside.table.keep(reader, Kind::File).unwrap().into();
    rig.turns.outside.table.get_mut(number).unwrap().reads = Pace::Unknown;
    let own = [number, fuse::POSITION, 100, 0, 0];
    for _ in 0..40 {
        for _ in 0..128 {
            rig.file.push(ERRANDS, &[&input(fuse::READ, &own, &[])], &[fuse::OUT + 100]);
        }
        rig.turns.turn();
        rig.file.set_up(1 << 20, 2, u64::MAX);
        rig.turns.turn();
    }
    assert!(rig.turns.devices.file.device.pool.waiting() <= LADEN);
    drop(writer);
    assert_eq!(rig.ask(&[&input(fuse::READ, &own, &[])], &[fuse::OUT + 100]), (0, vec![]));
}

#[test]
fn there_is_one_last_word() {
    let mut rig = Rig::new(vec![]);
    for status in 0..200 {
        let data = encode(&Exit::Status(status)).unwrap();
        assert_eq!(rig.ask(&[&control(0, command::EXIT, &data, 0)], &[fuse::OUT + fuse::IOCTL_OUT]).0, 0);
    }
    rig.settle();
    let heard = rig.heard();
    let said = decode::<ToMonitor<'_>>(&heard);
    assert!(matches!(said, Ok(ToMonitor::Exit(Exit::Status(0)))), "{said:?}");
    let mut buffer = [0; 64];
    let more = rustix::net::recv(&rig.monitor, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT);
    assert_eq!(more.err(), Some(rustix::io::Errno::AGAIN));
}
