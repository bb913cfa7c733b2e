//! A hostile guest at the other end of the control channel.

use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use abi::exit::Exit;
use abi::file::{Access, At, Change, Extent, Owner};
use abi::message::{ToGuest, ToMonitor, decode, encode};
use abi::network::{Protocol, datagram_header, split_datagram};
use abi::request::{Reply, Request};
use abi::{Code, Handle, MESSAGE_MAX};
use api::spec::{Allowance, Publication};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

use super::*;
use crate::caller::Caller;
use crate::tree::Rights;
use crate::tree::tests::Scratch;

/// A session and the guest's side of it.
struct Table {
    session: Session,
    guest: OwnedFd,
    ticket: u64,
    _scratch: Scratch,
}

impl Table {
    fn lay(name: &str, allowed: Vec<Allowance>, ports: Vec<Port>) -> Self {
        let scratch = Scratch::new(name);
        let volume = scratch.0.join("volume");
        fs::create_dir_all(volume.join("directory")).unwrap();
        fs::write(volume.join("file"), "data").unwrap();
        fs::write(scratch.0.join("secret"), "secret").unwrap();
        let caller = Caller::current();
        let identity = Identity::new(caller, caller.user, caller.group);
        let open = |rights| GrantedTree::open(volume.to_str().unwrap().as_bytes(), rights, identity).unwrap();
        let server = Server {
            trees: vec![open(Rights::Read), open(Rights::Write)],
            identity,
            objects: Objects::default(),
            ports,
            destinations: Arc::new(RwLock::new(Destinations::new(allowed))),
            terminal: None,
            memory_objects: 1 << 20,
            guest: rustix::process::getpid(),
        };
        let (channel, guest) = Channel::new().unwrap();
        Self { session: Session::new(channel, server).unwrap(), guest, ticket: 0, _scratch: scratch }
    }

    fn say(&mut self, bytes: &[u8]) -> Option<End> {
        send(&self.guest, bytes, SendFlags::empty()).unwrap();
        self.session.go_on().cloned()
    }

    fn ask(&mut self, request: Request) -> (Result<Reply, Code>, Option<OwnedFd>) {
        self.ticket += 1;
        let end = self.say(&encode(&ToMonitor::Request { ticket: self.ticket, request }).unwrap());
        assert_eq!(end, None);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some((ToGuest::Reply { ticket, result }, descriptor)) = hear(&self.guest) {
                assert_eq!(ticket, self.ticket);
                return (result, descriptor);
            }
            assert!(Instant::now() < deadline, "no answer to {request:?}");
            std::thread::sleep(Duration::from_millis(1));
            assert_eq!(self.session.go_on(), None);
        }
    }

    fn refused(&mut self, request: Request) -> u16 {
        self.ask(request).0.expect_err("refused").0
    }
}

fn hear(guest: &OwnedFd) -> Option<(ToGuest, Option<OwnedFd>)> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(guest, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags).ok()?;
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let descriptor = descriptors.last();
    (message.bytes > 0).then(|| (decode(&bytes[..message.bytes]).unwrap(), descriptor))
}

fn at(tree: u16, path: &str) -> At<'_> {
    At { tree: Tree(tree), path: path.as_bytes() }
}

const NOBODY: Owner = Owner { user: 0, group: 0 };

#[test]
fn garbage_ends_the_island() {
    for bytes in [&[0xff_u8; 100][..], &[0], &[9, 9, 9], &[0, 1, 200], &[0; 3]] {
        let mut table = Table::lay("garbage", Vec::new(), Vec::new());
        assert!(matches!(table.say(bytes), Some(End::Refused(_))), "{bytes:?}");
    }
    let mut table = Table::lay("garbage", Vec::new(), Vec::new());
    let mut long = encode(&ToMonitor::Exit(Exit::Status(0))).unwrap();
    long.resize(MESSAGE_MAX + 1, 0);
    assert!(matches!(table.say(&long), Some(End::Refused(_))));
}

#[test]
fn every_cut_and_every_flipped_bit_is_survived() {
    let request = Request::Create {
        at: at(1, "cut"),
        access: Access::Write,
        mode: 0o644,
        exclusive: true,
        owner: NOBODY,
    };
    let whole = encode(&ToMonitor::Request { ticket: 1, request }).unwrap();
    for cut in 0..whole.len() {
        let mut table = Table::lay("cut", Vec::new(), Vec::new());
        if cut > 0 {
            assert!(matches!(table.say(&whole[..cut]), Some(End::Refused(_))), "{cut}");
        }
    }
    for bit in 0..whole.len() * 8 {
        let mut table = Table::lay("flip", Vec::new(), Vec::new());
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        table.say(&flipped);
    }
}

#[test]
fn a_last_word_and_a_closed_channel_end_the_conversation() {
    let mut table = Table::lay("end", Vec::new(), Vec::new());
    let word = encode(&ToMonitor::Exit(Exit::Status(3))).unwrap();
    assert_eq!(table.say(&word), Some(End::Claim(Exit::Status(3))));
    let Table { mut session, guest, .. } = Table::lay("gone", Vec::new(), Vec::new());
    drop(guest);
    assert_eq!(session.finish(), Some(&End::Gone));
}

#[test]
fn paths_do_not_lead_out() {
    let mut table = Table::lay("paths", Vec::new(), Vec::new());
    for path in ["..", "../secret", "/etc/passwd", "directory/../../secret", "./file", "a//b", "directory/"] {
        let einval = 22;
        assert_eq!(table.refused(Request::Attributes { at: at(1, path) }), einval, "{path}");
        assert_eq!(table.refused(Request::Open { at: at(1, path), access: Access::Read }), einval, "{path}");
        assert_eq!(table.refused(Request::Remove { at: at(1, path), directory: false }), einval, "{path}");
        assert_eq!(
            table.refused(Request::Rename { from: at(1, "file"), to: at(1, path), flags: 0 }),
            einval,
            "{path}"
        );
    }
    assert_eq!(table.refused(Request::Attributes { at: at(7, "file") }), 9);
    assert_eq!(table.refused(Request::Rename { from: at(0, "file"), to: at(1, "x"), flags: 0 }), 18);
    assert_eq!(table.refused(Request::HardLink { from: at(1, "file"), to: at(0, "x") }), 18);
    let create = Request::Create {
        at: at(0, "x"),
        access: Access::Write,
        mode: 0o644,
        exclusive: true,
        owner: NOBODY,
    };
    assert_eq!(table.refused(create), 30);
}

#[test]
fn a_directory_keeps_its_descriptor_here() {
    let mut table = Table::lay("directory", Vec::new(), Vec::new());
    let (reply, descriptor) = table.ask(Request::Open { at: at(1, "directory"), access: Access::Read });
    let Ok(Reply::Opened { handle, .. }) = reply else { panic!("{reply:?}") };
    assert!(descriptor.is_none());
    assert_eq!(handle.descriptor(), u32::MAX);
    for extent in [Extent::Data, Extent::File, Extent::FileSystem] {
        assert!(table.ask(Request::Synchronise { handle, extent }).0.is_ok());
    }
    let (reply, descriptor) = table.ask(Request::Open { at: at(1, "file"), access: Access::Read });
    assert!(reply.is_ok() && descriptor.is_some());
}

#[test]
fn forged_handles_name_nothing() {
    let mut table = Table::lay("handles", Vec::new(), Vec::new());
    let (reply, _) = table.ask(Request::Open { at: at(0, "file"), access: Access::Read });
    let Ok(Reply::Opened { handle, .. }) = reply else { panic!("{reply:?}") };
    for object in [0, 2, 77, u32::MAX] {
        let forged = Handle::new(0, object);
        assert_eq!(table.refused(Request::HandleAttributes { handle: forged }), 9);
        assert_eq!(table.refused(Request::Synchronise { handle: forged, extent: Extent::Data }), 9);
        assert_eq!(
            table.refused(Request::SendDatagram { handle: forged, destination: at_port(9), data: b"x" }),
            9
        );
    }
    // A file opened for reading is neither resized nor changed.
    let resize = Change { size: Some(0), ..Change::default() };
    assert_eq!(table.refused(Request::HandleChange { handle, change: resize }), 22);
    let change = Change { mode: Some(0o777), ..Change::default() };
    assert_eq!(table.refused(Request::HandleChange { handle, change }), 30);
    assert_eq!(table.refused(Request::Allocate { handle, mode: 0, offset: 0, length: 10 }), 9);
    assert_eq!(table.refused(Request::TerminalSettings { handle }), 25);
    assert_eq!(table.refused(Request::SendDatagram { handle, destination: at_port(9), data: b"x" }), 88);
    let forget =
        encode(&ToMonitor::Request { ticket: 0, request: Request::Forget { object: handle.object() } })
            .unwrap();
    assert_eq!((table.say(&forget), table.say(&forget)), (None, None));
    assert_eq!(table.refused(Request::HandleAttributes { handle }), 9);
}

#[test]
fn memory_objects_are_counted() {
    let mut table = Table::lay("memory", Vec::new(), Vec::new());
    assert_eq!(table.refused(Request::MakeMemory { length: 2 << 20 }), 12);
    let (reply, _) = table.ask(Request::MakeMemory { length: 1 << 20 });
    let Ok(Reply::Opened { handle, .. }) = reply else { panic!("{reply:?}") };
    assert_eq!(table.refused(Request::MakeMemory { length: 1 }), 12);
    let grow = Change { size: Some(2 << 20), ..Change::default() };
    assert_eq!(table.refused(Request::HandleChange { handle, change: grow }), 12);
    let shrink = Change { size: Some(4096), ..Change::default() };
    assert!(table.ask(Request::HandleChange { handle, change: shrink }).0.is_ok());
    assert!(table.ask(Request::MakeMemory { length: 4096 }).0.is_ok());
}

fn at_port(port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn only_granted_destinations_are_connected_to() {
    let granted = TcpListener::bind(at_port(0)).unwrap();
    let other = TcpListener::bind(at_port(0)).unwrap();
    let (granted_at, other_at) = (granted.local_addr().unwrap(), other.local_addr().unwrap());
    let allowed = vec![Allowance::Address(granted_at.ip(), granted_at.port())];
    let mut table = Table::lay("connect", allowed, Vec::new());
    let connect = |destination| Request::Connect { protocol: Protocol::Tcp, destination };
    let (reply, descriptor) = table.ask(connect(granted_at));
    assert!(
        matches!(reply, Ok(Reply::Socket { peer: Some(peer), .. }) if peer == granted_at)
            && descriptor.is_some()
    );
    granted.accept().unwrap();
    assert_eq!(table.refused(connect(other_at)), 101);
    assert_eq!(table.refused(connect("[::ffff:127.0.0.1]:9".parse().unwrap())), 101);
    assert_eq!(table.refused(Request::Connect { protocol: Protocol::Udp, destination: other_at }), 101);
}

fn published(protocol: Protocol) -> (Port, std::net::SocketAddr) {
    let free = TcpListener::bind(at_port(0)).unwrap().local_addr().unwrap();
    let publication = Publication { address: Some(free.ip()), host_port: free.port(), port: 80, protocol };
    (crate::plan::bind_all(&[publication]).unwrap().remove(0), free)
}

#[test]
fn a_port_listens_exactly_while_the_guest_does() {
    let (port, outside) = published(Protocol::Tcp);
    let mut table = Table::lay("listen", Vec::new(), vec![port]);
    assert_eq!(table.refused(Request::Listen { port: 81, backlog: 5 }), 99);
    for _ in 0..2 {
        assert!(TcpStream::connect(outside).is_err());
        let (reply, descriptor) = table.ask(Request::Listen { port: 80, backlog: 5 });
        let Ok(Reply::Socket { handle, local, .. }) = reply else { panic!("{reply:?}") };
        assert_eq!(local.port(), 80);
        assert!(TcpStream::connect(outside).is_ok());
        drop(descriptor);
        let request = Request::Forget { object: handle.object() };
        table.say(&encode(&ToMonitor::Request { ticket: 0, request }).unwrap());
    }
    assert!(TcpStream::connect(outside).is_err());
}

#[test]
fn datagrams_go_to_who_was_heard_from_and_nowhere_else() {
    let (port, outside) = published(Protocol::Udp);
    let mut table = Table::lay("datagrams", Vec::new(), vec![port]);
    assert_eq!(table.refused(Request::Datagram { port: 0 }), 101);
    let (reply, descriptor) = table.ask(Request::Datagram { port: 80 });
    let (Ok(Reply::Socket { handle, .. }), Some(guest)) = (reply, descriptor) else { panic!("no socket") };
    let (friend, stranger) = (UdpSocket::bind(at_port(0)).unwrap(), UdpSocket::bind(at_port(0)).unwrap());
    for socket in [&friend, &stranger] {
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    }
    friend.send_to(b"hello", outside).unwrap();
    let mut packet = [0; 100];
    rustix::io::ioctl_fionbio(&guest, false).unwrap();
    let length = rustix::io::read(&guest, &mut packet).unwrap();
    let (peer, data) = split_datagram(&packet[..length]).unwrap();
    assert_eq!((peer, data), (friend.local_addr().unwrap(), &b"hello"[..]));
    for to in [friend.local_addr().unwrap(), stranger.local_addr().unwrap()] {
        let packet = [&datagram_header(to)[..], b"reply"].concat();
        rustix::io::write(&guest, &packet).unwrap();
    }
    assert_eq!(friend.recv(&mut packet).unwrap(), 5);
    assert!(stranger.recv(&mut packet).is_err());
    let refused = Request::SendDatagram { handle, destination: stranger.local_addr().unwrap(), data: b"x" };
    assert_eq!(table.refused(refused), 1);
    let sent = Request::SendDatagram { handle, destination: friend.local_addr().unwrap(), data: b"x" };
    assert!(matches!(table.ask(sent).0, Ok(Reply::Number(1))));
}

#[test]
fn a_guest_that_does_not_listen_is_not_listened_to() {
    let mut table = Table::lay("flood", Vec::new(), Vec::new());
    let request = Request::List { at: at(1, ""), cookie: 0 };
    let mut sent = 0;
    for ticket in 1..20_000 {
        let bytes = encode(&ToMonitor::Request { ticket, request }).unwrap();
        match send(&table.guest, &bytes, SendFlags::DONTWAIT) {
            Ok(_) => sent += 1,
            Err(_) if table.session.go_on().is_none() && !table.session.is_listening() => break,
            Err(_) => {}
        }
    }
    assert!(sent < 15_000, "{sent} requests were taken without an answer being read");
    let mut answers = 0;
    while answers < sent {
        match hear(&table.guest) {
            Some(_) => answers += 1,
            None => assert_eq!(table.session.go_on(), None),
        }
    }
}

#[test]
fn descriptors_of_a_guest_are_not_kept() {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
    use std::os::fd::AsFd;
    let mut table = Table::lay("descriptors", Vec::new(), Vec::new());
    let (read, write) = rustix::pipe::pipe().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [write.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let request = Request::Attributes { at: at(1, "file") };
    let bytes = encode(&ToMonitor::Request { ticket: 1, request }).unwrap();
    sendmsg(&table.guest, &[std::io::IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
    assert_eq!(table.session.go_on(), None);
    drop(write);
    // The end of the pipe shows that no copy of the other side is left.
    assert_eq!(rustix::io::read(&read, &mut [0; 1]).unwrap(), 0);
}

#[test]
fn what_was_given_back_holds_nothing() {
    let mut table = Table::lay("given-back", Vec::new(), Vec::new());
    let (reply, file) = table.ask(Request::MakeMemory { length: 1 << 16 });
    let (Ok(Reply::Opened { handle, .. }), Some(file)) = (reply, file) else { panic!("no memory") };
    rustix::io::pwrite(&file, &[1; 1 << 16], 0).unwrap();
    let request = Request::Forget { object: handle.object() };
    table.say(&encode(&ToMonitor::Request { ticket: 0, request }).unwrap());
    assert!(rustix::io::pwrite(&file, &[1; 4096], 0).is_err());
    assert_eq!(rustix::fs::fstat(&file).unwrap().st_blocks, 0);
}

#[test]
fn datagram_sockets_end_when_they_are_given_back() {
    let allowed = vec![Allowance::Address(at_port(9).ip(), 9)];
    let mut table = Table::lay("many-datagrams", allowed, Vec::new());
    let mut kept = Vec::new();
    for _ in 0..600 {
        let (reply, descriptor) = table.ask(Request::Datagram { port: 0 });
        let (Ok(Reply::Socket { handle, .. }), Some(guest)) = (reply, descriptor) else {
            panic!("no socket")
        };
        let request = Request::Forget { object: handle.object() };
        table.say(&encode(&ToMonitor::Request { ticket: 0, request }).unwrap());
        kept.push(guest);
    }
    let named = |name: &str| name.trim() == "eyot-datagrams";
    let deadline = Instant::now() + Duration::from_secs(10);
    let alive = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        tasks
            .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| named(&name)))
            .count()
    };
    // Another test may have a socket or two of its own.
    while alive() > 20 {
        assert!(Instant::now() < deadline, "{} threads stay behind", alive());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nothing_lends_its_owners_rights_to_what_is_written() {
    use std::os::unix::fs::PermissionsExt;
    let mut table = Table::lay("set-user", Vec::new(), Vec::new());
    let path = table._scratch.0.join("volume/file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert!(table.ask(Request::Open { at: at(1, "file"), access: Access::Read }).0.is_ok());
    assert_eq!(mode(), 0o6755);
    assert!(table.ask(Request::Open { at: at(1, "file"), access: Access::ReadWrite }).0.is_ok());
    assert_eq!(mode(), 0o755);
}
