//! The socket device, with a driver of a few lines: every operation, and drivers that lie.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use abi::network::{datagram_header, split_datagram};
use abi::vm::vsock::{self, operation::*};
use rustix::net::{RecvFlags, SendFlags, SocketType, recv, send};

use super::connection::ROOM;
use super::packet::Header;
use super::{RECEIVE, SEND};
use crate::testing::{MEMORY, Numbers, Rig, pair};

const FIRST: u32 = abi::pico::descriptor::FIRST_FREE;
const BUFFER: usize = 4096;
const GUEST_ROOM: u32 = 64 * 1024;
const BOTH: u32 = vsock::NO_RECEIVE | vsock::NO_SEND;

/// The guest: buffers it has given, and what it has taken.
struct Guest {
    rig: Rig,
    given: Vec<(u16, u64)>,
    taken: u32,
}

fn header(number: u32, operation: u16) -> Header {
    Header {
        from: vsock::GUEST,
        to: vsock::HOST,
        from_port: number,
        to_port: number,
        kind: vsock::STREAM,
        operation,
        room: GUEST_ROOM,
        ..Header::default()
    }
}

impl Guest {
    fn new(granted: Vec<OwnedFd>) -> Self {
        let mut guest = Self { rig: Rig::new(granted), given: vec![], taken: 0 };
        (0..32).for_each(|_| guest.give());
        guest
    }

    fn give(&mut self) {
        let (head, places) = self.rig.socket.push(RECEIVE, &[], &[BUFFER]);
        self.given.push((head, places[0]));
    }

    fn send(&mut self, mut header: Header, data: &[u8]) {
        (header.length, header.forwarded) = (data.len() as u32, self.taken);
        self.rig.socket.push(SEND, &[&header.bytes(), data], &[]);
        self.rig.turns.turn();
        while self.rig.socket.pop(SEND).is_some() {}
    }

    /// The next packet, if one has come.
    fn look(&mut self) -> Option<(Header, Vec<u8>)> {
        let (head, length) = self.rig.socket.pop(RECEIVE)?;
        let at = self.given.iter().position(|(given, _)| *given == head).unwrap();
        let (_, place) = self.given.remove(at);
        let bytes = self.rig.socket.bytes(place, length as usize);
        self.give();
        let (header, data) = bytes.split_first_chunk().unwrap();
        let header = Header::read(header);
        assert_eq!((header.from, header.to, header.kind), (vsock::HOST, vsock::GUEST, vsock::STREAM));
        assert_eq!(header.length as usize, data.len());
        Some((header, data.to_vec()))
    }

    fn next(&mut self) -> (Header, Vec<u8>) {
        let since = std::time::Instant::now();
        loop {
            if let Some(found) = self.look() {
                return found;
            }
            self.rig.turns.turn();
            assert!(since.elapsed().as_secs() < 20, "no packet comes");
        }
    }

    fn expect(&mut self, operation: u16) -> (Header, Vec<u8>) {
        let found = self.next();
        assert_eq!(found.0.operation, operation, "{found:?}");
        found
    }

    fn connect(&mut self, number: u32) {
        self.send(header(number, REQUEST), &[]);
        let (answer, _) = self.expect(RESPONSE);
        assert_eq!((answer.from_port, answer.to_port, answer.room), (number, number, ROOM));
    }

    fn quiet(&mut self) {
        self.rig.settle();
        assert_eq!(self.look(), None);
    }

    fn is_closed(&self, number: u32) -> bool {
        self.rig.turns.outside.table.get(number.into()).is_err()
    }
}

fn stream() -> (UnixStream, OwnedFd) {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    (near, far.into())
}

#[test]
fn bytes_flow_and_directions_end() {
    let (mut near, far) = stream();
    let mut guest = Guest::new(vec![far]);
    guest.connect(FIRST);
    guest.send(header(FIRST, DATA), b"hello");
    let mut bytes = [0; 5];
    near.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    near.write_all(b"world").unwrap();
    assert_eq!(guest.expect(DATA).1, b"world");
    // Half-close, this way and that.
    guest.send(Header { flags: vsock::NO_SEND, ..header(FIRST, SHUTDOWN) }, &[]);
    assert_eq!(near.read(&mut bytes).unwrap(), 0);
    near.write_all(b"still").unwrap();
    near.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(guest.expect(DATA).1, b"still");
    assert_eq!(guest.expect(SHUTDOWN).0.flags, vsock::NO_SEND);
    guest.quiet();
    assert!(!guest.is_closed(FIRST));
    guest.send(Header { flags: BOTH, ..header(FIRST, SHUTDOWN) }, &[]);
    guest.quiet();
    assert!(guest.is_closed(FIRST));
}

#[test]
fn a_pipe_is_one_way() {
    let (reader, writer) = crate::testing::pipe();
    let mut guest = Guest::new(vec![reader, writer]);
    guest.connect(FIRST);
    guest.connect(FIRST + 1);
    guest.send(header(FIRST + 1, DATA), b"through");
    assert_eq!(guest.expect(DATA).1, b"through");
    guest.send(Header { flags: BOTH, ..header(FIRST + 1, SHUTDOWN) }, &[]);
    assert_eq!(guest.expect(SHUTDOWN).0.flags, vsock::NO_SEND);
    guest.send(header(FIRST, DATA), b"wrong way");
    assert_eq!(guest.expect(RESET).0.from_port, FIRST);
}

#[test]
fn credit_holds_both_ways() {
    let (mut near, far) = stream();
    near.set_nonblocking(true).unwrap();
    let mut guest = Guest::new(vec![far]);
    guest.connect(FIRST);
    // Towards the guest: never more than its room, and on when it has some again.
    let mut written = 0;
    let mut received = 0;
    loop {
        written += near.write(&[7; 65536]).unwrap_or(0);
        guest.rig.settle();
        let before = received;
        while let Some((_, data)) = guest.look() {
            received += data.len();
            guest.rig.settle();
        }
        if received == before {
            break;
        }
    }
    assert_eq!(received, GUEST_ROOM as usize);
    assert!(written > received);
    guest.taken = received as u32;
    guest.send(header(FIRST, CREDIT_UPDATE), &[]);
    assert!(!guest.expect(DATA).1.is_empty());
    while guest.look().is_some() {}
    // From the guest: what does not fit waits, up to the room it was given.
    let mut sent = 0;
    let mut told = 0;
    while sent - told + 4096 <= ROOM {
        guest.send(header(FIRST, DATA), &[9; 4096]);
        sent += 4096;
        while let Some((update, _)) = guest.look() {
            told = update.forwarded;
        }
    }
    assert!(told < sent);
    let mut bytes = vec![0; 1 << 20];
    let mut read = 0;
    while read < sent as usize {
        read += near.read(&mut bytes).unwrap_or(0);
        guest.rig.turns.turn();
        while let Some((update, _)) = guest.look() {
            told = told.max(update.forwarded);
        }
    }
    assert!(sent - told < ROOM / 4, "{sent} {told}");
    guest.send(header(FIRST, CREDIT_REQUEST), &[]);
    let told = loop {
        let (found, _) = guest.next();
        if found.operation == CREDIT_UPDATE {
            break found.forwarded;
        }
    };
    assert_eq!(told, sent);
    // More than that is a lie.
    let mut over = 0;
    loop {
        guest.send(header(FIRST, DATA), &[9; 65536]);
        over += 65536;
        let found = guest.look();
        if found.as_ref().is_some_and(|(found, _)| found.operation == RESET) {
            break;
        }
        assert!(over < 4 * ROOM);
    }
}

#[test]
fn what_was_sent_goes_out_before_the_end() {
    let (mut near, far) = stream();
    let mut guest = Guest::new(vec![far]);
    guest.connect(FIRST);
    for _ in 0..60 {
        guest.send(header(FIRST, DATA), &[3; 4096]);
    }
    guest.send(Header { flags: BOTH, ..header(FIRST, SHUTDOWN) }, &[]);
    near.set_nonblocking(true).unwrap();
    let (mut all, mut bytes) = (0, vec![0; 65536]);
    loop {
        match near.read(&mut bytes) {
            Ok(0) => break,
            Ok(length) => all += length,
            Err(_) => drop(guest.rig.turns.turn()),
        }
    }
    assert_eq!(all, 60 * 4096);
    guest.rig.settle();
    assert!(guest.is_closed(FIRST));
}

#[test]
fn listeners_offer_and_resets_are_resets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let mut guest = Guest::new(vec![listener.into()]);
    guest.connect(FIRST);
    let mut near = TcpStream::connect(address).unwrap();
    near.write_all(b"first").unwrap();
    let (offer, peer) = guest.expect(REQUEST);
    assert_eq!((offer.from_port, offer.to_port), (FIRST + 1, FIRST));
    assert_eq!(split_datagram(&peer).unwrap().0, near.local_addr().unwrap());
    guest.quiet();
    guest.send(header(FIRST + 1, RESPONSE), &[]);
    assert_eq!(guest.expect(DATA).1, b"first");
    guest.send(header(FIRST + 1, DATA), b"answer");
    let mut bytes = [0; 6];
    near.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"answer");
    // A reset closes as if data was thrown away.
    guest.send(header(FIRST + 1, RESET), &[]);
    assert!(guest.is_closed(FIRST + 1));
    assert!(near.read(&mut bytes).is_err());
    // One is refused, one is offered when the listener goes.
    let mut refused = TcpStream::connect(address).unwrap();
    let (offer, _) = guest.expect(REQUEST);
    assert_eq!(offer.from_port, FIRST + 2);
    guest.send(header(FIRST + 2, RESET), &[]);
    assert!(refused.read(&mut bytes).is_err());
    let _left = TcpStream::connect(address).unwrap();
    let number = guest.expect(REQUEST).0.from_port;
    guest.send(Header { flags: BOTH, ..header(FIRST, SHUTDOWN) }, &[]);
    guest.rig.settle();
    assert!(guest.is_closed(FIRST) && guest.is_closed(number));
    // A peer's reset is the guest's.
    let (near, far) = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    };
    far.set_nonblocking(true).unwrap();
    let mut guest = Guest::new(vec![far.into()]);
    guest.connect(FIRST);
    crate::host::set_option(&near, abi::network::SocketOption::Linger(Some(0))).unwrap();
    drop(near);
    assert_eq!(guest.expect(RESET).0.from_port, FIRST);
    assert!(!guest.is_closed(FIRST));
    guest.send(Header { flags: BOTH, ..header(FIRST, SHUTDOWN) }, &[]);
    guest.quiet();
    assert!(guest.is_closed(FIRST));
}

#[test]
fn datagrams_are_framed() {
    let (near, far) = pair(SocketType::SEQPACKET);
    let mut guest = Guest::new(vec![far]);
    guest.connect(FIRST);
    let peer = datagram_header(([1, 2, 3, 4], 53).into());
    let packet = |length: usize| [&peer[..], &vec![6; length]].concat();
    for length in [0, 100, 60_000] {
        // Outwards, in pieces.
        let packet = packet(length);
        let framed = [&(packet.len() as u32).to_le_bytes()[..], &packet].concat();
        framed.chunks(5000).for_each(|piece| guest.send(header(FIRST, DATA), piece));
        let mut buffer = vec![0; 70_000];
        let (got, _) = recv(&near, &mut buffer[..], RecvFlags::DONTWAIT).unwrap();
        assert_eq!(buffer[..got], packet);
        // Inwards, likewise.
        send(&near, &packet, SendFlags::empty()).unwrap();
        let mut arrived = vec![];
        while arrived.len() < framed.len() {
            arrived.extend(guest.expect(DATA).1);
        }
        assert_eq!(arrived, framed);
        guest.taken += framed.len() as u32;
        guest.send(header(FIRST, CREDIT_UPDATE), &[]);
    }
    drop(near);
    assert_eq!(guest.expect(SHUTDOWN).0.flags, vsock::NO_SEND);
    // A length that no packet has.
    let (_near, far) = pair(SocketType::SEQPACKET);
    let mut guest = Guest::new(vec![far]);
    guest.connect(FIRST);
    guest.send(header(FIRST, DATA), &[0xff; 8]);
    assert_eq!(guest.expect(RESET).0.from_port, FIRST);
}

#[test]
fn packets_for_nobody() {
    let (_near, far) = stream();
    let mut guest = Guest::new(vec![far, std::fs::File::open("/proc/self/exe").unwrap().into()]);
    for number in [0, 3, 7, FIRST + 1, FIRST + 2, u32::MAX] {
        guest.send(header(number, REQUEST), &[]);
        let (answer, _) = guest.expect(RESET);
        assert_eq!((answer.from_port, answer.to_port), (number, number));
    }
    // Ports that differ, another kind, data before a connection.
    guest.send(Header { from_port: 99, ..header(FIRST, REQUEST) }, &[]);
    assert_eq!(guest.expect(RESET).0.to_port, 99);
    guest.send(Header { kind: 2, ..header(FIRST, REQUEST) }, &[]);
    guest.expect(RESET);
    guest.send(header(FIRST, DATA), b"early");
    guest.expect(RESET);
    // Of another guest, or for another host.
    guest.send(Header { from: 4, ..header(FIRST, REQUEST) }, &[]);
    guest.send(Header { to: 1, ..header(FIRST, REQUEST) }, &[]);
    // Lengths that lie, and no header at all.
    let lie = Header { length: 10_000, ..header(FIRST, REQUEST) };
    guest.rig.socket.push(SEND, &[&lie.bytes(), b"x"], &[]);
    guest.rig.socket.push(SEND, &[b"short"], &[]);
    guest.rig.socket.push(SEND, &[], &[10]);
    guest.quiet();
    // Twice is once too often.
    guest.connect(FIRST);
    guest.send(header(FIRST, REQUEST), &[]);
    guest.expect(RESET);
    // A file is not closed from here.
    guest.send(header(FIRST + 1, RESET), &[]);
    assert!(!guest.is_closed(FIRST + 1));
    assert!(!guest.rig.socket.is_broken());
}

#[test]
fn without_buffers_nothing_is_lost() {
    let (mut near, far) = stream();
    let mut guest = Guest { rig: Rig::new(vec![far]), given: vec![], taken: 0 };
    guest.send(header(FIRST, REQUEST), &[]);
    for _ in 0..2000 {
        guest.send(header(1, REQUEST), &[]);
    }
    near.write_all(b"hello").unwrap();
    guest.rig.settle();
    // A buffer too small for a header is given back unused.
    guest.rig.socket.push(RECEIVE, &[], &[20]);
    guest.rig.settle();
    assert_eq!(guest.rig.socket.pop(RECEIVE).unwrap().1, 0);
    guest.give();
    let (mut strays, mut data) = (0, vec![]);
    while data.is_empty() {
        let (found, more) = guest.next();
        strays += usize::from(found.operation == RESET);
        data = more;
    }
    assert_eq!((strays, &data[..]), (super::STRAYS, &b"hello"[..]));
}

#[test]
fn ten_thousand_connections() {
    let most = 10_000.min((rustix_limit() as usize).saturating_sub(200) / 2);
    if most < 10_000 {
        eprintln!("SKIPPED in part: only {most} connections fit this process's limit of descriptors");
    }
    let mut near = vec![];
    let mut far = vec![];
    for _ in 0..most {
        let (one, other) = stream();
        near.push(one);
        far.push(other);
    }
    let mut guest = Guest::new(far);
    for number in 0..most as u32 {
        guest.connect(FIRST + number);
    }
    for (number, near) in near.iter_mut().enumerate() {
        near.write_all(&(number as u32).to_le_bytes()).unwrap();
    }
    for _ in 0..most {
        let (found, data) = guest.expect(DATA);
        assert_eq!(data, (found.from_port - FIRST).to_le_bytes());
        guest.send(header(found.from_port, DATA), &data);
    }
    for (number, near) in near.iter_mut().enumerate() {
        let mut bytes = [0; 4];
        near.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, (number as u32).to_le_bytes());
    }
    for number in 0..most as u32 {
        guest.send(Header { flags: BOTH, ..header(FIRST + number, SHUTDOWN) }, &[]);
    }
    guest.quiet();
    assert!((0..most as u32).all(|number| guest.is_closed(FIRST + number)));
}

fn rustix_limit() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(u64::MAX)
}

#[test]
fn nothing_random_makes_it_panic_or_hang() {
    let mut random = Numbers(0xfeed_beef_1234_5678);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let (mut near, far) = stream();
    near.set_nonblocking(true).unwrap();
    let (packets, other) = pair(SocketType::SEQPACKET);
    let mut guest = Guest::new(vec![far, other, listener.into()]);
    let mut peers = vec![];
    for round in 0..4000 {
        let number = [FIRST, FIRST + 1, FIRST + 2, FIRST + 3 + random.below(20) as u32, random.draw() as u32];
        let mut sent = header(number[random.below(5) as usize], random.below(9) as u16);
        sent.flags = random.below(4) as u32;
        sent.room = [GUEST_ROOM, 0, u32::MAX, random.draw() as u32][random.below(4) as usize];
        guest.taken = random.draw() as u32;
        if random.below(30) == 0 {
            sent.to_port = random.draw() as u32;
        }
        // A close of the three would end the test early.
        if sent.operation == RESET || sent.operation == SHUTDOWN && sent.flags == 3 {
            sent.to_port |= 16;
            sent.from_port |= 16;
        }
        let data = vec![random.draw() as u8; random.below(3000) as usize];
        guest.send(sent, &data);
        match random.below(6) {
            0 => drop(near.write(&[1; 3000])),
            1 => drop(near.read(&mut [0; 9000])),
            2 => drop(send(&packets, &[2; 900], SendFlags::DONTWAIT)),
            3 if round % 10 == 0 => peers.push(TcpStream::connect(address)),
            4 => {
                let words = (
                    random.below(MEMORY),
                    random.draw() as u32,
                    random.below(8) as u16,
                    random.below(300) as u16,
                );
                let index = random.below(256) as u16;
                guest.rig.socket.descriptor(SEND, index, words);
                guest.rig.socket.offer(SEND, index);
            }
            _ => {}
        }
        guest.rig.turns.turn();
        while guest.rig.socket.pop(RECEIVE).is_some() {
            guest.rig.socket.push(RECEIVE, &[], &[random.below(5000) as usize]);
        }
        if guest.rig.socket.is_broken() || round % 500 == 499 {
            guest.rig.socket.set_up(16 << 20, 3, u64::MAX);
            (0..32).for_each(|_| guest.give());
        }
    }
}

#[test]
fn the_last_word_comes_behind_what_was_written() {
    use abi::exit::Exit;
    use abi::message::{ToMonitor, decode, encode};
    use abi::vm::fuse;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut guest = Guest::new(vec![writer.into()]);
    guest.connect(FIRST);
    for _ in 0..40 {
        guest.send(header(FIRST, DATA), &[4; 4096]);
    }
    // What the file device gets afterwards is done afterwards.
    guest.rig.socket.push(SEND, &[&Header { length: 3, ..header(FIRST, DATA) }.bytes(), b"end"], &[]);
    let exit = encode(&Exit::Status(0)).unwrap();
    let mut bytes = vec![];
    for half in
        [72 + exit.len() as u32, fuse::IOCTL, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, fuse::command::EXIT, 0, 0]
    {
        bytes.extend(half.to_le_bytes());
    }
    bytes.extend((exit.len() as u64).to_le_bytes());
    bytes.extend(exit);
    guest.rig.file.push(1, &[&bytes], &[64]);
    guest.rig.settle();
    assert!(recv(&guest.rig.monitor, &mut [0; 100][..], RecvFlags::DONTWAIT).is_err());
    let mut all = vec![0; 40 * 4096 + 3];
    let mut done = 0;
    while done < all.len() {
        done += reader.read(&mut all[done..]).unwrap();
        guest.rig.settle();
    }
    assert!(all.ends_with(b"end"));
    assert!(matches!(decode(&guest.rig.heard()), Ok(ToMonitor::Exit(Exit::Status(0)))));
}

#[test]
fn a_release_closes_a_connection_as_well() {
    let (mut near, far) = stream();
    let mut guest = Guest::new(vec![far]);
    guest.connect(FIRST);
    guest.rig.socket.push(SEND, &[&Header { length: 4, ..header(FIRST, DATA) }.bytes(), b"last"], &[]);
    let mut bytes = vec![];
    for half in [64, abi::vm::fuse::RELEASE, 1, 0, 0, 0, 0, 0, 0, 0, FIRST, 0, 0, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    guest.rig.file.push(1, &[&bytes], &[16]);
    guest.quiet();
    assert!(guest.is_closed(FIRST));
    let mut all = vec![];
    near.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last");
}

#[test]
fn a_listener_rests_until_there_are_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use std::process::Command;
    /// The limit is the whole process's, so the test has one of its own.
    const INSIDE: &str = "EYOT_FEW_DESCRIPTORS";
    if std::env::var_os(INSIDE).is_none() {
        let name = "device::socket::tests::a_listener_rests_until_there_are_descriptors";
        let mut inside = Command::new(std::env::current_exe().unwrap());
        let output = inside.args(["--exact", name]).env(INSIDE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let [(_one, first), (_two, second), (_three, third)] = [stream(), stream(), stream()];
    let mut guest = Guest::new(vec![listener.into(), first, second, third]);
    (0..4).for_each(|number| guest.connect(FIRST + number));
    // Something was closed already, and its number is taken by the peer.
    guest.send(header(FIRST + 1, RESET), &[]);
    guest.quiet();
    let _peer = TcpStream::connect(address).unwrap();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limit }).unwrap();
    guest.quiet();
    // However often it is looked at, it waits once.
    for _ in 0..100 {
        guest.send(header(FIRST, CREDIT_REQUEST), &[]);
        guest.expect(CREDIT_UPDATE);
    }
    guest.quiet();
    assert_eq!(guest.rig.turns.devices.socket.device.short.len(), 1);
    setrlimit(Resource::Nofile, limit).unwrap();
    guest.quiet();
    guest.send(header(FIRST + 2, RESET), &[]);
    guest.expect(REQUEST);
}
