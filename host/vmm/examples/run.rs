//! Runs a kernel with a monitor that knows no files: for trying things out. The last word is printed.
use std::io::Write;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::time::Instant;

use abi::boot::{Boot, Mount, MountKind, Stream, Tree};
use abi::message::{ToGuest, ToMonitor, decode, encode};
use abi::{Code, Handle};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};

fn main() {
    let kernel = std::fs::read(std::env::args().nth(1).expect("a kernel")).unwrap();
    let cpus = std::env::args().nth(2).map_or(1, |word| word.parse().unwrap());
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    let begin = Instant::now();
    std::thread::spawn(move || monitor(ours, begin));
    let mounts = vec![Mount { path: b"/".to_vec(), tree: Tree(0), kind: MountKind::Overlay }];
    let boot = Boot {
        program: b"/bin/true".to_vec(),
        arguments: vec![b"true".to_vec()],
        environment: vec![],
        directory: b"/".to_vec(),
        hostname: b"try".to_vec(),
        user: 0,
        group: 0,
        groups: vec![],
        cpus,
        memory: 256 << 20,
        scratch: 64 << 20,
        mounts,
        streams: [Stream::Null, Stream::Pipe(Handle(8)), Stream::Null],
        published: vec![],
        outgoing: false,
        trace: None,
        seed: [7; 32],
    };
    let start = abi::vm::Start { boot, kilohertz: None, realtime_ns: 0 };
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("start", flags).unwrap());
    file.write_all(&encode(&start).unwrap()).unwrap();
    let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let output = OwnedFd::from(writer).into_raw_fd() as u32;
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::stdout()));
    let settings = vmm::RunSettings {
        kernel: &kernel,
        control: theirs.into_raw_fd() as u32,
        start: file.into_raw_fd() as u32,
        device: device.into_raw_fd() as u32,
        granted: output..output + 1,
    };
    let status = vmm::run(&settings);
    eprintln!("status {status} after {:?}", begin.elapsed());
}

fn monitor(socket: OwnedFd, begin: Instant) {
    let mut buffer = vec![0; abi::MESSAGE_MAX];
    while let Ok((length, _)) = recv(&socket, &mut buffer[..], RecvFlags::empty()) {
        let Ok(message) = decode::<ToMonitor>(&buffer[..length]) else { return };
        eprintln!("{:?} {message:?}", begin.elapsed());
        if let ToMonitor::Request { ticket, .. } = message
            && ticket != 0
        {
            let reply = encode(&ToGuest::Reply { ticket, result: Err(Code(2)) }).unwrap();
            send(&socket, &reply, SendFlags::empty()).unwrap();
        }
    }
}
