//! System calls on descriptors that no safe wrapper offers: those whose memory is the guest's, and options.
//!
//! Nothing here waits unless it says so.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use abi::network::SocketOption;
use rustix::io::Errno;
use vmm_sys_util::eventfd::EventFd;

use crate::transport::Parts;

/// What the own position of a file is to a call.
pub const OWN: i64 = -1;

fn outcome(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| last())
}

fn last() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Nanoseconds since the epoch.
pub fn realtime_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// An event counter's descriptor.
pub fn counter(counter: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the counter owns the descriptor, and is borrowed for as long.
    unsafe { BorrowedFd::borrow_raw(counter.as_raw_fd()) }
}

/// Reads into the parts; with RWF_NOWAIT nothing that would wait for a disk.
pub fn read(file: impl AsFd, to: &Parts, offset: i64, flags: i32) -> Result<usize, Errno> {
    let (file, list) = (file.as_fd().as_raw_fd(), to.list());
    // SAFETY: the parts are mapped as long as `to` lives, and are nobody's references.
    outcome(unsafe { libc::preadv2(file, list.as_ptr(), list.len() as i32, offset, flags) })
}

/// Writes from the parts; as `read`.
pub fn write(file: impl AsFd, from: &Parts, offset: i64, flags: i32) -> Result<usize, Errno> {
    let (file, list) = (file.as_fd().as_raw_fd(), from.list());
    // SAFETY: as in `read`.
    outcome(unsafe { libc::pwritev2(file, list.as_ptr(), list.len() as i32, offset, flags) })
}

/// Receives from a socket what is there, into the first part: the way by files' calls is longer.
pub fn receive(socket: impl AsFd, to: &Parts) -> Result<usize, Errno> {
    let Some(part) = to.list().first() else { return Ok(0) };
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: as in `read`.
    outcome(unsafe { libc::recv(socket, part.iov_base, part.iov_len, libc::MSG_DONTWAIT) })
}

/// Sends the parts on a connected socket; `more` holds the last segment back for what follows. Never by
/// sendmsg, which could name an address: see `confine.rs`.
pub fn send(socket: impl AsFd, from: &Parts, more: bool) -> Result<usize, Errno> {
    let (socket, mut sent) = (socket.as_fd().as_raw_fd(), 0);
    let last = from.list().len().saturating_sub(1);
    for (number, part) in from.list().iter().enumerate() {
        let more = if more || number < last { libc::MSG_MORE } else { 0 };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | more;
        // SAFETY: as in `read`.
        match outcome(unsafe { libc::send(socket, part.iov_base, part.iov_len, flags) }) {
            Ok(done) => {
                sent += done;
                if done < part.iov_len {
                    break;
                }
            }
            Err(error) if sent == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(sent)
}

/// Gives the whole pages of the parts back to the machine: they read as zero from now on.
pub fn give_back(parts: &Parts) {
    const PAGE: usize = 4096;
    for part in parts.list() {
        let start = part.iov_base.addr().next_multiple_of(PAGE);
        let end = (part.iov_base.addr() + part.iov_len) & !(PAGE - 1);
        if start < end {
            // SAFETY: the range is within the part, which is guest memory: no reference points there, and its
            // content may change at any time anyway. It fails for nothing that is mapped.
            unsafe { libc::madvise(part.iov_base.with_addr(start), end - start, libc::MADV_DONTNEED) };
        }
    }
}

/// Has a write that nobody reads fail instead of ending the process.
pub fn ignore_broken_pipes() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Sets an option; numbers of socket(7) and tcp(7).
pub fn set_option(socket: impl AsFd, option: SocketOption) -> Result<(), Errno> {
    const TCP: i32 = libc::IPPROTO_TCP;
    const SOCKET: i32 = libc::SOL_SOCKET;
    let (level, name, value) = match option {
        SocketOption::NoDelay(on) => (TCP, libc::TCP_NODELAY, u32::from(on)),
        SocketOption::Cork(on) => (TCP, libc::TCP_CORK, u32::from(on)),
        SocketOption::KeepIdle(seconds) => (TCP, libc::TCP_KEEPIDLE, seconds),
        SocketOption::KeepInterval(seconds) => (TCP, libc::TCP_KEEPINTVL, seconds),
        SocketOption::KeepCount(count) => (TCP, libc::TCP_KEEPCNT, count),
        SocketOption::QuickAck(on) => (TCP, libc::TCP_QUICKACK, u32::from(on)),
        SocketOption::UserTimeout(milliseconds) => (TCP, libc::TCP_USER_TIMEOUT, milliseconds),
        SocketOption::SendBuffer(bytes) => (SOCKET, libc::SO_SNDBUF, bytes),
        SocketOption::ReceiveBuffer(bytes) => (SOCKET, libc::SO_RCVBUF, bytes),
        SocketOption::KeepAlive(on) => (SOCKET, libc::SO_KEEPALIVE, u32::from(on)),
        SocketOption::Linger(seconds) => {
            let value = [u32::from(seconds.is_some()), seconds.unwrap_or(0).into()];
            return set(socket.as_fd(), SOCKET, libc::SO_LINGER, &value);
        }
    };
    set(socket.as_fd(), level, name, &[value])
}

fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u32]) -> Result<(), Errno> {
    let length = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel reads the value.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    outcome(result as isize).map(drop)
}
