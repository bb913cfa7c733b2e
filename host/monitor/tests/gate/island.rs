//! A monitor in a few lines: enough to run this binary on an island and to trace it from the start.

use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use abi::boot::{Boot, Mount, MountKind, Stream, Tree};
use abi::message::{ToMonitor, decode};
use abi::pico::{Direct, Owners, Start};
use abi::request::Request;

use crate::program::{Form, VARIABLE};

/// The guest image, as the monitor embeds it.
pub static IMAGE: &[u8] = include_bytes!(env!("EYOT_PICO_IMAGE"));

const STATE_LENGTH: u64 = 1 << 30;

/// A stopped child that is about to execute the image, and our end of its control channel.
pub struct Island {
    pub process: libc::pid_t,
    pub control: OwnedFd,
}

/// Forks a traced child that executes the image; `code` is the range of the image's code.
pub fn start(form: Form, code: std::ops::Range<u64>) -> Island {
    let program = std::env::current_exe().expect("this test has a path");
    let directory = program.parent().expect("it lies in a directory").as_os_str().as_encoded_bytes();
    let name = program.file_name().expect("it has a name").as_encoded_bytes();
    let start = Start {
        boot: boot([b"/mnt/", name].concat(), form),
        direct: [&b"/"[..], directory].into_iter().zip([Tree(0), Tree(1)]).map(direct).collect(),
        state_length: STATE_LENGTH,
        filter: eyot_monitor::filter::compile(code, true),
        spaces: 64,
        host_cpus: 1,
    };
    let start = postcard::to_allocvec(&start).expect("a start encodes");
    let mut pair = [0; 2];
    // SAFETY: plain system calls on locals; the child calls only what is safe after a fork (dup2, ptrace,
    // execveat) before it is another program, on strings made before.
    unsafe {
        let made =
            libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK, 0, pair.as_mut_ptr());
        assert_eq!(made, 0);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        let epoll = libc::epoll_create1(0);
        let wake = libc::eventfd(0, libc::EFD_NONBLOCK);
        let [ends, first] = [(); 2].map(|()| libc::epoll_create1(0));
        let [start, state] = [file(&start, 0), file(&[], STATE_LENGTH)];
        let given = [null, null, null, pair[1], start, state, epoll, wake, ends, first];
        let image = file(IMAGE, 0);
        let process = libc::fork();
        if process == 0 {
            // Out of the way first, so that nothing is overwritten before it is in its place.
            let given = given.map(|descriptor| libc::fcntl(descriptor, libc::F_DUPFD, 200));
            for (number, descriptor) in given.into_iter().enumerate() {
                libc::dup2(descriptor, number as RawFd);
            }
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            let none = [std::ptr::null::<libc::c_char>()];
            libc::syscall(
                libc::SYS_execveat,
                image,
                c"".as_ptr(),
                none.as_ptr(),
                none.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
            libc::_exit(125);
        }
        for descriptor in given[3..].iter().chain([&null, &image]) {
            libc::close(*descriptor);
        }
        Island { process, control: OwnedFd::from_raw_fd(pair[0]) }
    }
}

fn direct((path, tree): (&[u8], Tree)) -> Direct {
    Direct { tree, part: Vec::new(), path: path.to_vec(), except: Vec::new(), owners: Owners::Same }
}

fn boot(program: Vec<u8>, form: Form) -> Boot {
    Boot {
        arguments: vec![program.clone()],
        program,
        environment: vec![format!("{VARIABLE}={form:?}").into_bytes()],
        directory: b"/".to_vec(),
        hostname: b"gate".to_vec(),
        user: 0,
        group: 0,
        groups: Vec::new(),
        // One that runs, and one that hears of what comes: no slice ends, so that no kick is but the test's.
        cpus: 2,
        memory: 1 << 30,
        scratch: 1 << 26,
        mounts: [(&b"/"[..], Tree(0)), (b"/mnt", Tree(1))]
            .map(|(path, tree)| Mount { path: path.to_vec(), tree, kind: MountKind::ReadOnly })
            .to_vec(),
        disks: Vec::new(),
        streams: [Stream::Null; 3],
        published: Vec::new(),
        outgoing: false,
        trace: None,
        record: None,
        debugger: None,
        limits: Vec::new(),
        init: false,
        seed: [1; 32],
    }
}

/// A memory file with this content, or of this length.
fn file(content: &[u8], length: u64) -> RawFd {
    let name = CString::new("gate").expect("a name without NUL");
    // SAFETY: plain system calls on live memory.
    unsafe {
        let descriptor = libc::memfd_create(name.as_ptr(), 0);
        assert!(descriptor >= 0);
        let written = libc::write(descriptor, content.as_ptr().cast(), content.len());
        assert_eq!(written, content.len() as isize);
        if length > 0 {
            assert_eq!(libc::ftruncate(descriptor, length as i64), 0);
        }
        descriptor
    }
}

impl Island {
    /// What the guest has said so far, for a failure's message.
    pub fn words(&self) -> String {
        use std::os::fd::AsRawFd;
        let mut words = String::new();
        let mut buffer = vec![0u8; abi::MESSAGE_MAX];
        loop {
            // SAFETY: receives into a live buffer.
            let length = unsafe {
                libc::recv(
                    self.control.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            if length <= 0 {
                return words;
            }
            words += &match decode::<ToMonitor>(&buffer[..length as usize]) {
                Ok(ToMonitor::Request { request: Request::Say { text }, .. }) => format!("{text}\n"),
                other => format!("{other:?}\n"),
            };
        }
    }
}
