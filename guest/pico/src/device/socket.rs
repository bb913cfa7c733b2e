//! Sockets: what preadv2 and pwritev2 cannot say.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use abi::network::{Address, SocketOption};
use abi::{Code, Handle};
use linux_raw_sys::{errno, general as linux};
use machine::{Sink, Source, Transfer};

use super::kind::{self, Kind};
use super::transfer::{self, Parts};
use crate::host;

// linux/socket.h, linux/tcp.h.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const MSG_PEEK: u32 = 2;
const MSG_TRUNC: u32 = 0x20;
const MSG_DONTWAIT: u32 = 0x40;
const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_MORE: u32 = 0x8000;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;
const SOCK_FLAGS: u32 = linux::O_NONBLOCK | linux::O_CLOEXEC;

/// `struct msghdr`.
#[repr(C)]
struct Header {
    name: u64,
    name_length: u64,
    parts: u64,
    count: u64,
    control: u64,
    control_length: u64,
    flags: u64,
}

/// A `struct sockaddr_storage`.
type Storage = [u64; 16];

/// Receives one message of at most the buffer's capacity, and at most one descriptor. The buffer is not
/// zeroed before, so that only the pages of what is received are touched.
pub fn receive_message(file: u32, buffer: &mut Vec<u8>) -> Result<Option<u32>, Code> {
    buffer.clear();
    let part = [buffer.as_mut_ptr() as u64, buffer.capacity() as u64];
    let mut control = [0u64; 4];
    let header = Header {
        name: 0,
        name_length: 0,
        parts: &raw const part as u64,
        count: 1,
        control: control.as_mut_ptr() as u64,
        control_length: 24,
        flags: 0,
    };
    let flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
    // SAFETY: the header names the buffer's capacity and locals, which the kernel writes; it answers how
    // much of the buffer that was.
    unsafe {
        let arguments = [file as u64, &raw const header as u64, flags as u64];
        let length = host::call(linux::__NR_recvmsg, arguments)?;
        buffer.set_len(length as usize);
    }
    // `struct cmsghdr`: length, level and type, then the descriptor.
    let rights = u64::from(SCM_RIGHTS) << 32 | u64::from(SOL_SOCKET);
    let granted = header.control_length >= 20 && control[0] >= 20 && control[1] == rights;
    Ok(granted.then_some(control[2] as u32))
}

/// See [`machine::Device::receive`].
pub fn receive(handle: Handle, to: Sink<'_>, peek: bool) -> Result<(Transfer, Option<Address>), Code> {
    let parts = Parts::sink(to)?;
    let datagram = kind::is_datagram(handle.descriptor());
    let mut name: Storage = [0; 16];
    let header = Header {
        name: if datagram { name.as_mut_ptr() as u64 } else { 0 },
        name_length: if datagram { size_of::<Storage>() as u64 } else { 0 },
        parts: parts.pointer(),
        count: parts.count(),
        control: 0,
        control_length: 0,
        flags: 0,
    };
    let flags = MSG_DONTWAIT | if peek { MSG_PEEK } else { 0 } | if datagram { MSG_TRUNC } else { 0 };
    // SAFETY: the header names locals and what `Parts` has checked.
    let result = unsafe {
        host::call(linux::__NR_recvmsg, [handle.descriptor() as u64, &raw const header as u64, flags as u64])
    };
    let transfer = transfer::outcome(result)?;
    Ok((transfer, address(&name)))
}

/// See [`machine::Device::send`].
pub fn send(handle: Handle, from: Source<'_>, more: bool) -> Result<Transfer, Code> {
    let parts = Parts::source(from)?;
    if !more && parts.length() > 0 {
        // Sockets are non-blocking and SIGPIPE is ignored, so a plain write does.
        return transfer::outcome(parts.write(handle.descriptor(), u64::MAX));
    }
    let mut sent = 0;
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.count() as usize;
        let flags = MSG_DONTWAIT | MSG_NOSIGNAL | if more || !last { MSG_MORE } else { 0 };
        // SAFETY: `Parts` has checked the range; the kernel reads it.
        let result = unsafe {
            let arguments = [handle.descriptor() as u64, part[0], part[1], flags as u64, 0, 0];
            host::call(linux::__NR_sendto, arguments)
        };
        match transfer::outcome(result) {
            Ok(Transfer::Done(length)) => {
                sent += length;
                if length < part[1] as usize {
                    break;
                }
            }
            other if sent == 0 => return other,
            _ => break,
        }
    }
    Ok(Transfer::Done(sent))
}

/// See [`machine::Device::accept`].
pub fn accept(handle: Handle) -> Result<Option<(Handle, Address)>, Code> {
    let mut name: Storage = [0; 16];
    let mut length = size_of::<Storage>() as u32;
    let (name_at, length_at) = (name.as_mut_ptr() as u64, &raw mut length as u64);
    // SAFETY: the kernel writes the two locals.
    let result = unsafe {
        let arguments = [handle.descriptor() as u64, name_at, length_at, SOCK_FLAGS as u64];
        host::call(linux::__NR_accept4, arguments)
    };
    match result {
        Ok(file) => {
            kind::note(file as u32, Kind::Plain);
            let unknown = Address::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
            Ok(Some((Handle::new(file as u32, 0), address(&name).unwrap_or(unknown))))
        }
        Err(Code(code)) if code as u32 == errno::EAGAIN => Ok(None),
        Err(code) => Err(code),
    }
}

/// The address in a `struct sockaddr_storage`, if it is one of ours.
fn address(name: &Storage) -> Option<Address> {
    let byte = |at: usize| (name[at / 8] >> (at % 8 * 8)) as u8;
    let port = u16::from_be_bytes([byte(2), byte(3)]);
    match name[0] as u16 {
        AF_INET => {
            let ip = Ipv4Addr::from(core::array::from_fn::<u8, 4, _>(|at| byte(4 + at)));
            Some(Address::V4(SocketAddrV4::new(ip, port)))
        }
        AF_INET6 => {
            let ip = Ipv6Addr::from(core::array::from_fn::<u8, 16, _>(|at| byte(8 + at)));
            Some(Address::V6(SocketAddrV6::new(ip, port, (name[0] >> 32) as u32, name[3] as u32)))
        }
        _ => None,
    }
}

/// See [`machine::Device::set_option`]; numbers of socket(7) and tcp(7).
pub fn set_option(handle: Handle, option: SocketOption) -> Result<(), Code> {
    let (level, name, value) = match option {
        SocketOption::NoDelay(on) => (IPPROTO_TCP, 1, [on as u32, 0]),
        SocketOption::Cork(on) => (IPPROTO_TCP, 3, [on as u32, 0]),
        SocketOption::KeepIdle(seconds) => (IPPROTO_TCP, 4, [seconds, 0]),
        SocketOption::KeepInterval(seconds) => (IPPROTO_TCP, 5, [seconds, 0]),
        SocketOption::KeepCount(count) => (IPPROTO_TCP, 6, [count, 0]),
        SocketOption::QuickAck(on) => (IPPROTO_TCP, 12, [on as u32, 0]),
        SocketOption::UserTimeout(milliseconds) => (IPPROTO_TCP, 18, [milliseconds, 0]),
        SocketOption::SendBuffer(bytes) => (SOL_SOCKET, 7, [bytes, 0]),
        SocketOption::ReceiveBuffer(bytes) => (SOL_SOCKET, 8, [bytes, 0]),
        SocketOption::KeepAlive(on) => (SOL_SOCKET, 9, [on as u32, 0]),
        SocketOption::Linger(seconds) => {
            (SOL_SOCKET, 13, [seconds.is_some() as u32, seconds.unwrap_or(0) as u32])
        }
    };
    let length = if matches!(option, SocketOption::Linger(_)) { 8 } else { 4 };
    // SAFETY: the kernel reads the local.
    let set = unsafe {
        let value = value.as_ptr() as u64;
        host::call(linux::__NR_setsockopt, [handle.descriptor() as u64, level as u64, name, value, length])
    };
    set.map(drop)
}
