//! What this process may ask of the kernel once its guest runs, for ever and on all threads.
//!
//! Whoever takes the process over through a device holds what was granted to the guest and no more: this list
//! keeps it from stretching that. So nothing is opened, named, executed or traced here, no address is given to
//! a socket (sendmsg could carry one, and is missing for that), nothing is mapped to be executed, and of KVM
//! only running is left, and lending more of this process's memory to the guest. All else answers EPERM.

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter_all_threads,
};

/// Why the process could not be confined.
#[derive(Debug, thiserror::Error)]
#[error("the virtual machine's process could not be confined: {0}")]
pub struct Unconfined(String);

/// What an argument must be. All but pointers are compared in the 32 bits that the kernel looks at.
#[derive(Clone, Copy)]
enum Condition {
    Is(u8, u32),
    /// No bits but these.
    Within(u8, u32),
    /// All of these bits.
    Has(u8, u32),
    Null(u8),
    Not(u8, u32),
}

use Condition::{Has, Is, Not, Null, Within};

impl Condition {
    fn compile(self) -> Result<SeccompCondition, BackendError> {
        match self {
            Is(argument, value) => SeccompCondition::new(argument, Dword, Eq, value.into()),
            Within(argument, bits) => SeccompCondition::new(argument, Dword, MaskedEq((!bits).into()), 0),
            Has(argument, bits) => SeccompCondition::new(argument, Dword, MaskedEq(bits.into()), bits.into()),
            Null(argument) => SeccompCondition::new(argument, Qword, Eq, 0),
            Not(argument, value) => SeccompCondition::new(argument, Dword, Ne, value.into()),
        }
    }
}

/// Ways in which a call may be made: all conditions of one of them must hold.
type Ways = &'static [&'static [Condition]];

const ANY: Ways = &[];

/// ioctl(2) on a virtual CPU: to run it, and to say where it was when it cannot run on.
const KVM_RUN: u32 = 0xae80;
const KVM_GET_REGS: u32 = 0x8090_ae81;
/// On the machine: what of this process's memory is the guest's.
const KVM_SET_USER_MEMORY_REGION: u32 = 0x4020_ae46;

const TCP: u32 = libc::IPPROTO_TCP as u32;
const SOCKET: u32 = libc::SOL_SOCKET as u32;
const READ_WRITE: u32 = (libc::PROT_READ | libc::PROT_WRITE) as u32;
const PRIVATE: u32 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u32;

const ALLOWED: &[(libc::c_long, Ways)] = &[
    // CPUs, and their memory.
    (libc::SYS_ioctl, &[&[Is(1, KVM_RUN)], &[Is(1, KVM_GET_REGS)], &[Is(1, KVM_SET_USER_MEMORY_REGION)]]),
    // The loop: waiting, bells and interrupts, locks between threads.
    (libc::SYS_epoll_wait, ANY),
    (libc::SYS_epoll_pwait, ANY),
    (libc::SYS_epoll_pwait2, ANY),
    (libc::SYS_epoll_ctl, ANY),
    (libc::SYS_write, ANY),
    (libc::SYS_futex, ANY),
    (libc::SYS_sched_yield, ANY),
    (libc::SYS_clock_gettime, ANY),
    (libc::SYS_restart_syscall, ANY),
    // Data. RWF_NOWAIT is the only flag.
    (libc::SYS_preadv2, &[&[Within(5, libc::RWF_NOWAIT as u32)]]),
    (libc::SYS_pwritev2, &[&[Within(5, libc::RWF_NOWAIT as u32)]]),
    (libc::SYS_writev, ANY),
    // What kind of file system a file is on: whether it may wait for a disk.
    (libc::SYS_fstatfs, ANY),
    // No address, so that a connected socket reaches its peer alone; no MSG_FASTOPEN, which connects.
    (
        libc::SYS_sendto,
        &[&[Null(4), Within(3, (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE) as u32)]],
    ),
    (libc::SYS_recvfrom, ANY),
    (libc::SYS_recvmsg, ANY),
    (libc::SYS_accept4, &[&[Is(3, (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u32)]]),
    (libc::SYS_shutdown, ANY),
    (
        libc::SYS_setsockopt,
        &[
            &[Is(1, TCP), Is(2, libc::TCP_NODELAY as u32)],
            &[Is(1, TCP), Is(2, libc::TCP_CORK as u32)],
            &[Is(1, TCP), Is(2, libc::TCP_KEEPIDLE as u32)],
            &[Is(1, TCP), Is(2, libc::TCP_KEEPINTVL as u32)],
            &[Is(1, TCP), Is(2, libc::TCP_KEEPCNT as u32)],
            &[Is(1, TCP), Is(2, libc::TCP_QUICKACK as u32)],
            &[Is(1, TCP), Is(2, libc::TCP_USER_TIMEOUT as u32)],
            &[Is(1, SOCKET), Is(2, libc::SO_KEEPALIVE as u32)],
            &[Is(1, SOCKET), Is(2, libc::SO_LINGER as u32)],
            &[Is(1, SOCKET), Is(2, libc::SO_SNDBUF as u32)],
            &[Is(1, SOCKET), Is(2, libc::SO_RCVBUF as u32)],
        ],
    ),
    // The heap, and memory that the guest gives back. Nothing that can be executed.
    (libc::SYS_mmap, &[&[Within(2, READ_WRITE), Has(3, PRIVATE)]]),
    (libc::SYS_mprotect, &[&[Within(2, READ_WRITE)]]),
    (libc::SYS_munmap, ANY),
    (libc::SYS_mremap, ANY),
    (libc::SYS_brk, ANY),
    (
        libc::SYS_madvise,
        &[
            &[Is(2, libc::MADV_DONTNEED as u32)],
            &[Is(2, libc::MADV_FREE as u32)],
            &[Is(2, libc::MADV_HUGEPAGE as u32)],
        ],
    ),
    (libc::SYS_getrandom, ANY),
    // The end of a thread, and of all.
    (libc::SYS_rt_sigprocmask, ANY),
    (libc::SYS_rt_sigreturn, ANY),
    (libc::SYS_sigaltstack, ANY),
    (libc::SYS_exit, ANY),
    (libc::SYS_exit_group, ANY),
];

/// Where QEMU runs the CPUs, memory comes over connections: files to be mapped, whose length and seals are asked. The
/// length by fstat alone: statx and newfstatat could be given a name as well, whatever their flags are.
const FOR_FRONTS: &[(libc::c_long, Ways)] = &[
    (libc::SYS_mmap, &[&[Within(2, READ_WRITE), Has(3, libc::MAP_SHARED as u32)]]),
    (libc::SYS_fstat, ANY),
    (libc::SYS_fcntl, &[&[Is(1, libc::F_GET_SEALS as u32)]]),
];

/// Answers on those connections go by sendmsg. Their numbers always mean them: they are never closed, and nothing
/// here gives a descriptor a number of its choice.
fn answers(fronts: &[u32]) -> Vec<(libc::c_long, Vec<Vec<Condition>>)> {
    if fronts.is_empty() {
        return vec![(libc::SYS_close, vec![])];
    }
    let others = fronts.iter().map(|front| Not(0, *front)).collect();
    let each = fronts.iter().map(|front| vec![Is(0, *front)]).collect();
    vec![(libc::SYS_close, vec![others]), (libc::SYS_sendmsg, each)]
}

fn compile(fronts: &[u32]) -> Result<BpfProgram, BackendError> {
    let rule = |way: &[Condition]| {
        SeccompRule::new(way.iter().map(|each| each.compile()).collect::<Result<_, _>>()?)
    };
    let mut rules: std::collections::BTreeMap<_, Vec<_>> = std::collections::BTreeMap::new();
    let more = if fronts.is_empty() { &[] } else { FOR_FRONTS };
    for (number, ways) in ALLOWED.iter().chain(more) {
        let rule = ways.iter().map(|way| rule(way)).collect::<Result<Vec<_>, _>>()?;
        rules.entry(*number).or_default().extend(rule);
    }
    for (number, ways) in answers(fronts) {
        rules.insert(number, ways.iter().map(|way| rule(way)).collect::<Result<Vec<_>, _>>()?);
    }
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refused, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

/// Confines this process. Everything it will ever need is there, its threads above all; `fronts` are the
/// connections to QEMU, if it runs the CPUs.
pub fn confine(fronts: &[u32]) -> Result<(), Unconfined> {
    let program = compile(fronts).map_err(|error| Unconfined(error.to_string()))?;
    apply_filter_all_threads(&program).map_err(|error| Unconfined(error.to_string()))
}

#[cfg(test)]
mod tests {
    //! Confinement is for ever, so each check has a process of its own: this binary, run again.

    use std::net::UdpSocket;
    use std::process::Command;

    use super::confine;

    const INSIDE: &str = "EYOT_VMM_CONFINED";

    #[test]
    fn what_is_not_on_the_list_is_refused() {
        if std::env::var_os(INSIDE).is_none() {
            let name = "confine::tests::what_is_not_on_the_list_is_refused";
            let mut inside = Command::new(std::env::current_exe().unwrap());
            let output = inside.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
            let words = String::from_utf8_lossy(&output.stdout);
            assert!(words.contains("all refused"), "{words} {}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (begun, begins) = std::sync::mpsc::channel();
        let (go, gone) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            begun.send(()).unwrap();
            gone.recv().unwrap();
            std::fs::File::open("/proc/self/exe").map_err(|error| error.raw_os_error())
        });
        begins.recv().unwrap();
        confine(&[]).unwrap();
        go.send(()).unwrap();
        let refused = Some(libc::EPERM);
        let error = |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error());
        assert_eq!(error(std::fs::File::open("/proc/self/exe").map(drop)), refused);
        assert_eq!(error(UdpSocket::bind("127.0.0.1:0").map(drop)), refused);
        assert_eq!(error(socket.connect("127.0.0.1:9")), refused);
        assert_eq!(error(socket.send_to(b"x", "127.0.0.1:9").map(drop)), refused);
        assert_eq!(error(Command::new("/bin/true").spawn().map(drop)), refused);
        assert_eq!(error(std::os::unix::net::UnixStream::pair().map(drop)), refused);
        assert_eq!(error(socket.set_ttl(9)), refused);
        assert_eq!(error(socket.set_nonblocking(true)), refused);
        // Threads of before are confined as well; the rest works on.
        assert_eq!(other.join().unwrap().err(), Some(refused));
        assert_eq!(vec![1u8; 1 << 22].len(), 1 << 22);
        println!("all refused");
        // The test's own end needs more than the list has.
        std::process::exit(0);
    }

    #[test]
    fn answers_go_on_fronts_alone_and_fronts_stay() {
        use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
        use rustix::io::{Errno, IoSlice};
        use rustix::net::{RecvFlags, SendFlags, recv, sendmsg};
        use std::os::fd::AsRawFd;
        use std::os::unix::net::UnixStream;
        use vm_memory::{FileOffset, GuestAddress};
        if std::env::var_os(INSIDE).is_none() {
            let name = "confine::tests::answers_go_on_fronts_alone_and_fronts_stay";
            let mut inside = Command::new(std::env::current_exe().unwrap());
            let output = inside.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output().unwrap();
            let words = String::from_utf8_lossy(&output.stdout);
            assert!(words.contains("all held"), "{words} {}", String::from_utf8_lossy(&output.stderr));
            return;
        }
        let pairs: [_; 3] = std::array::from_fn(|_| UnixStream::pair().unwrap());
        let [(near, front), (_near, other), (third, closed)] = pairs;
        let arrived = |socket: &UnixStream| Ok(recv(socket, &mut [0; 9], RecvFlags::DONTWAIT)?.0);
        let memory = std::fs::File::from(memfd_create("memory", MemfdFlags::CLOEXEC).unwrap());
        ftruncate(&memory, 1 << 20).unwrap();
        let (bound, aim) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let (address, number) = (aim.local_addr().unwrap(), front.as_raw_fd() as u32);
        // Seldom used numbers are no less refused than those of fronts.
        confine(&[number, 900]).unwrap();
        let answer = |socket: &dyn std::os::fd::AsFd| {
            sendmsg(socket.as_fd(), &[IoSlice::new(b"answer")], &mut Default::default(), SendFlags::empty())
        };
        assert_eq!(answer(&front), Ok(6));
        assert_eq!(arrived(&near), Ok(6));
        assert_eq!(answer(&other), Err(Errno::PERM));
        assert_eq!(answer(&bound), Err(Errno::PERM));
        let by_name = rustix::net::sendmsg_addr(
            &bound,
            &address,
            &[IoSlice::new(b"x")],
            &mut Default::default(),
            SendFlags::empty(),
        );
        assert_eq!(by_name, Err(Errno::PERM));
        // No other descriptor can take the number: it is not closed, and nothing is put there.
        assert_eq!(rustix::io::fcntl_dupfd_cloexec(&other, 0).err(), Some(Errno::PERM));
        drop(closed);
        assert_eq!(arrived(&third), Ok(0));
        drop(front);
        assert_eq!(arrived(&near), Err(Errno::AGAIN));
        // Nothing is asked of what has a name.
        assert_eq!(rustix::fs::stat("/proc/self/exe").err(), Some(Errno::PERM));
        assert_eq!(
            rustix::fs::statat(rustix::fs::CWD, "/", rustix::fs::AtFlags::EMPTY_PATH).err(),
            Some(Errno::PERM)
        );
        assert_eq!(rustix::fs::fstat(&memory).map(|found| found.st_size), Ok(1 << 20));
        // Memory comes in files, to be read and written.
        let range = |file| [(GuestAddress(0), 1 << 20, Some(FileOffset::new(file, 0)))];
        assert!(crate::memory::Memory::from_ranges_with_files(range(memory)).is_ok());
        println!("all held");
        std::process::exit(0);
    }
}
