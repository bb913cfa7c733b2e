//! The stack against Linux's own, in a network namespace that the test makes for itself: one end of a pair
//! of interfaces is Linux's, the other is the stack's, through a packet socket.

mod world;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use abi::network::{Address, SocketOption};
use machine::Readiness;
use network::{Event, Socket, Stack};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket};
use world::*;

const INSIDE: &str = "EYOT_TEST_NAMESPACE";

/// Runs a test of this file in a namespace of its own.
fn in_namespace(test: &str) {
    let possible =
        Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success());
    if !possible {
        // Past the harness, which keeps what passing tests print to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no network namespace can be made here");
        return;
    }
    let own = std::env::current_exe().expect("this program");
    let status = Command::new("unshare")
        .arg("--net")
        .arg(own)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare");
    assert!(status.success(), "{test} has failed");
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {arguments}");
}

/// The stack on its interface.
struct Island {
    stack: Stack,
    wire: OwnedFd,
    sent: Sent,
    start: Instant,
    offloads: bool,
}

impl Island {
    fn new(offloads: bool) -> Self {
        assert!(std::env::var_os(INSIDE).is_some(), "only in a namespace of its own");
        ip("link add eyot0 type veth peer name linux0");
        // The kernel has no business on the stack's end.
        std::fs::write("/proc/sys/net/ipv6/conf/eyot0/disable_ipv6", "1").expect("sysctl");
        ip("link set eyot0 address 02:00:00:00:00:02 arp off up");
        ip("link set linux0 up");
        ip("link set lo up");
        ip("addr add 10.0.0.1/24 dev linux0");
        ip("-6 addr add fd00::1/64 dev linux0 nodad");
        let wire =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll)
                .expect("a packet socket");
        let address = nix::ifaddrs::getifaddrs()
            .expect("interfaces")
            .filter(|interface| interface.interface_name == "eyot0")
            .find_map(|interface| interface.address.and_then(|address| address.as_link_addr().copied()))
            .expect("the interface");
        bind(wire.as_raw_fd(), &address).expect("bind");
        let configuration = configuration(2, if offloads { OFFLOADS } else { Default::default() });
        let stack = Stack::new(&configuration, [7; 32], 0).expect("a stack");
        Self { stack, wire, sent: Sent { room: 64, ..Sent::default() }, start: Instant::now(), offloads }
    }

    fn now_ns(&self) -> u64 {
        SECOND_NS + self.start.elapsed().as_nanos() as u64
    }

    /// Moves frames and lets `act` work until it is content.
    fn drive(&mut self, mut act: impl FnMut(&mut Self, &[Event]) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        let mut buffer = vec![0; 70_000];
        loop {
            let mut events = Vec::new();
            while let Some(event) = self.stack.next_event() {
                events.push(event);
            }
            if act(self, &events) {
                return;
            }
            assert!(Instant::now() < end, "it takes too long");
            let next_ns = self.stack.poll(self.now_ns(), &mut self.sent);
            let any = !self.sent.frames.is_empty();
            while let Some((frame, work)) = self.sent.frames.pop_front() {
                for frame in device(frame, work) {
                    while send(self.wire.as_raw_fd(), &frame, MsgFlags::empty()) == Err(nix::Error::EAGAIN) {
                        thread::yield_now();
                    }
                }
            }
            let pause = next_ns.map_or(10, |next_ns| next_ns.saturating_sub(self.now_ns()) / 1_000_000);
            let pause = if any { 0 } else { pause.min(10) as u16 };
            let mut ready = [PollFd::new(self.wire.as_fd(), PollFlags::POLLIN)];
            poll(&mut ready, PollTimeout::from(pause)).expect("poll");
            while let Ok(length) = recv(self.wire.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                // What never was on a wire has no checksum yet.
                let now_ns = self.now_ns();
                self.stack.deliver(&mut buffer[..length], true, now_ns);
            }
        }
    }

    /// Drives until a program on Linux's side has ended.
    fn while_running<T: Send + 'static>(
        &mut self,
        program: impl FnOnce() -> T + Send + 'static,
        mut act: impl FnMut(&mut Self, &[Event]),
    ) -> T {
        let running = thread::spawn(program);
        self.drive(|island, events| {
            act(island, events);
            running.is_finished()
        });
        running.join().expect("the program on Linux's side")
    }
}

/// Serves connections by sending back what comes, until the end.
#[derive(Default)]
struct Echo {
    connections: Vec<(Socket, Vec<u8>, bool)>,
}

impl Echo {
    fn act(&mut self, island: &mut Island, listener: Socket) {
        let now_ns = island.now_ns();
        while let Some((connection, _)) = island.stack.accept(listener).expect("a listener") {
            self.connections.push((connection, Vec::new(), false));
        }
        self.connections.retain_mut(|(connection, pending, ended)| {
            let mut buffer = [0; 16 << 10];
            while pending.len() < 1 << 20 && !*ended {
                match island.stack.receive(*connection, &mut buffer, false, now_ns) {
                    Ok(Some(0)) => *ended = true,
                    Ok(Some(count)) => pending.extend_from_slice(&buffer[..count]),
                    Ok(None) => break,
                    Err(_) => {
                        island.stack.close(*connection, now_ns);
                        return false;
                    }
                }
            }
            if !pending.is_empty() {
                match island.stack.send(*connection, pending, false, now_ns) {
                    Ok(count) => drop(pending.drain(..count.unwrap_or(0))),
                    Err(_) => {
                        island.stack.close(*connection, now_ns);
                        return false;
                    }
                }
            }
            if *ended && pending.is_empty() {
                island.stack.close(*connection, now_ns);
            }
            !*ended || !pending.is_empty()
        });
    }
}

/// Sends and receives at once; what comes back has to be what went.
fn round_trip(mut stream: TcpStream, bytes: Vec<u8>) {
    let mut other = stream.try_clone().expect("a stream");
    let copy = bytes.clone();
    let writer = thread::spawn(move || {
        other.write_all(&copy).expect("written");
        other.shutdown(Shutdown::Write).expect("ended");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("read");
    writer.join().expect("the writer");
    assert!(back == bytes, "{} bytes came back", back.len());
}

fn serve(offloads: bool) {
    let mut island = Island::new(offloads);
    let listener = island.stack.listen(80, 64).unwrap();
    let mut echo = Echo::default();
    for address in [address_4(2, 80), address_6(2, 80)] {
        let start = Instant::now();
        let bytes = pattern(30 << 20);
        island.while_running(
            move || round_trip(TcpStream::connect(address).expect("connected"), bytes),
            |island, _| echo.act(island, listener),
        );
        println!("30 MiB and back, offloads {}: {:?}", island.offloads, start.elapsed());
        // Many, short ones.
        island.while_running(
            move || {
                let streams: Vec<_> =
                    (0..300).map(|_| TcpStream::connect(address).expect("connected")).collect();
                streams.into_iter().for_each(|stream| round_trip(stream, pattern(3000)));
            },
            |island, _| echo.act(island, listener),
        );
        let refused = island.while_running(
            move || {
                let closed = Address::new(address.ip(), 81);
                let reset = TcpStream::connect(closed).expect_err("nobody listens").kind();
                let probe =
                    UdpSocket::bind(if address.is_ipv4() { "10.0.0.1:0" } else { "[fd00::1]:0" }).unwrap();
                probe.connect(closed).unwrap();
                probe.send(b"?").unwrap();
                (reset, probe.recv(&mut [0; 9]).expect_err("nobody is there").kind())
            },
            |_, _| {},
        );
        assert_eq!(refused, (std::io::ErrorKind::ConnectionRefused, std::io::ErrorKind::ConnectionRefused));
    }
}

#[test]
#[ignore = "runs inside a namespace"]
fn inside_serves_linux() {
    serve(true);
}

#[test]
fn serves_linux() {
    in_namespace("inside_serves_linux");
}

#[test]
#[ignore = "runs inside a namespace"]
fn inside_serves_linux_without_offloads() {
    serve(false);
}

#[test]
fn serves_linux_without_offloads() {
    in_namespace("inside_serves_linux_without_offloads");
}

#[test]
#[ignore = "runs inside a namespace"]
fn inside_connects_to_linux() {
    let mut island = Island::new(true);
    for own in ["10.0.0.1:0", "[fd00::1]:0"] {
        let listener = TcpListener::bind(own).unwrap();
        let address = listener.local_addr().unwrap();
        let bytes = pattern(10 << 20);
        let expected = bytes.clone();
        let now_ns = island.now_ns();
        let client = island.stack.connect(address, now_ns).unwrap();
        let (mut sent, mut back, mut ended) = (0, Vec::new(), false);
        // Linux's side sends everything back.
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        });
        let (mut connected, mut writable) = (false, true);
        island.drive(|island, events| {
            let now_ns = island.now_ns();
            for event in events {
                match event {
                    Event::Connected { result, .. } => {
                        assert_eq!(*result, Ok(()));
                        connected = true;
                    }
                    Event::Ready { readiness, .. } => writable |= readiness.contains(Readiness::WRITE),
                    Event::Resolved { .. } => {}
                }
            }
            if connected && writable && sent < bytes.len() {
                sent += island.stack.send(client, &bytes[sent..], false, now_ns).unwrap().unwrap_or(0);
                writable = false;
                if sent == bytes.len() {
                    island.stack.shutdown(client, abi::network::Shutdown::Write, now_ns).unwrap();
                }
            }
            let mut buffer = [0; 64 << 10];
            while connected && !ended {
                match island.stack.receive(client, &mut buffer, false, now_ns).unwrap() {
                    None => break,
                    Some(0) => ended = true,
                    Some(count) => back.extend_from_slice(&buffer[..count]),
                }
            }
            ended
        });
        peer.join().unwrap();
        assert!(back == expected);
        let now_ns = island.now_ns();
        island.stack.close(client, now_ns);
    }
}

#[test]
fn connects_to_linux() {
    in_namespace("inside_connects_to_linux");
}

#[test]
#[ignore = "runs inside a namespace"]
fn inside_talks_in_datagrams_and_quiet_connections() {
    let mut island = Island::new(true);
    let datagram = island.stack.bind(53).unwrap();
    let listener = island.stack.listen(80, 64).unwrap();
    let mut echo = Echo::default();
    for (own, to) in [("10.0.0.1:0", address_4(2, 53)), ("[fd00::1]:0", address_6(2, 53))] {
        island.while_running(
            move || {
                let socket = UdpSocket::bind(own).unwrap();
                for length in [0, 1, 1400, 1473, 9000, 60_000] {
                    let bytes = pattern(length);
                    socket.send_to(&bytes, to).unwrap();
                    let mut buffer = vec![0; 66_000];
                    let (count, from) = socket.recv_from(&mut buffer).unwrap();
                    assert!(buffer[..count] == bytes);
                    assert_eq!(from, to);
                }
            },
            |island, _| {
                let mut buffer = vec![0; 66_000];
                while let Some((count, from)) =
                    island.stack.receive_from(datagram, &mut buffer, false).unwrap()
                {
                    let now_ns = island.now_ns();
                    island.stack.send_to(datagram, from, &buffer[..count], now_ns).unwrap();
                }
            },
        );
        // A connection that falls asleep between its questions, with keepalives from both sides.
        let to = Address::new(to.ip(), 80);
        let mut set = false;
        island.while_running(
            move || {
                let mut stream = TcpStream::connect(to).unwrap();
                for length in [10, 100_000, 20] {
                    let bytes = pattern(length);
                    let mut writer = stream.try_clone().unwrap();
                    let copy = bytes.clone();
                    let writing = thread::spawn(move || writer.write_all(&copy).unwrap());
                    let mut back = vec![0; length];
                    stream.read_exact(&mut back).unwrap();
                    writing.join().unwrap();
                    assert!(back == bytes);
                    thread::sleep(Duration::from_millis(2500));
                }
            },
            |island, _| {
                echo.act(island, listener);
                if let Some((connection, ..)) = echo.connections.first()
                    && !set
                {
                    let now_ns = island.now_ns();
                    for option in [SocketOption::KeepIdle(1), SocketOption::KeepAlive(true)] {
                        island.stack.set_option(*connection, option, now_ns).unwrap();
                    }
                    set = true;
                }
            },
        );
    }
}

#[test]
fn talks_in_datagrams_and_quiet_connections() {
    in_namespace("inside_talks_in_datagrams_and_quiet_connections");
}
