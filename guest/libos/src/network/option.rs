//! Socket options (socket(7), tcp(7), ip(7), ipv6(7)).
//!
//! What has a meaning here is a field; what the host has to know is remembered and forwarded to every
//! granted handle the socket comes to stand for; the rest is accepted, remembered and read back.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::lock::Mutex;
use abi::network::SocketOption;

use super::address::{AF_INET6, AF_UNIX};
use super::interface::INDEX;
use crate::errno::{Errno, Result};

pub const SOL_SOCKET: u32 = 1;
const SOL_IP: u32 = 0;
const SOL_TCP: u32 = 6;
const SOL_UDP: u32 = 17;
const SOL_IPV6: u32 = 41;

/// Option names at SOL_SOCKET.
pub mod name {
    pub const REUSE_ADDRESS: u32 = 2;
    pub const TYPE: u32 = 3;
    pub const ERROR: u32 = 4;
    pub const BROADCAST: u32 = 6;
    pub const SEND_BUFFER: u32 = 7;
    pub const RECEIVE_BUFFER: u32 = 8;
    pub const KEEP_ALIVE: u32 = 9;
    pub const URGENT_INLINE: u32 = 10;
    pub const LINGER: u32 = 13;
    pub const ZERO_COPY: u32 = 60;
    pub const REUSE_PORT: u32 = 15;
    pub const PASS_CREDENTIALS: u32 = 16;
    pub const PEER_CREDENTIALS: u32 = 17;
    pub const RECEIVE_TIMEOUT: u32 = 20;
    pub const SEND_TIMEOUT: u32 = 21;
    pub const ACCEPTS: u32 = 30;
    pub const SEND_BUFFER_FORCE: u32 = 32;
    pub const RECEIVE_BUFFER_FORCE: u32 = 33;
    pub const PROTOCOL: u32 = 38;
    pub const DOMAIN: u32 = 39;
}

const TCP_NODELAY: u32 = 1;
const TCP_MAXSEG: u32 = 2;
const TCP_CORK: u32 = 3;
const TCP_KEEPIDLE: u32 = 4;
const TCP_KEEPINTVL: u32 = 5;
const TCP_KEEPCNT: u32 = 6;
const TCP_INFO: u32 = 11;
const TCP_QUICKACK: u32 = 12;
const TCP_USER_TIMEOUT: u32 = 18;
const IPV6_V6ONLY: u32 = 26;
const IP_OPTIONS: u32 = 4;
const IP_PKTINFO: u32 = 8;
const IPV6_RECVPKTINFO: u32 = 49;
const IPV6_PKTINFO: u32 = 50;

const DEFAULT_BUFFER: u32 = 212_992;

/// What a program has set on a socket.
#[derive(Default)]
pub struct Options {
    pub reuse_address: AtomicBool,
    pub reuse_port: AtomicBool,
    pub only_version_6: AtomicBool,
    pub pass_credentials: AtomicBool,
    /// Urgent bytes are read in their place among the others.
    pub urgent_inline: AtomicBool,
    /// SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds; 0 for none.
    pub receive_timeout_ns: AtomicU64,
    pub send_timeout_ns: AtomicU64,
    values: Mutex<BTreeMap<(u32, u32), Vec<u8>>>,
}

/// Whether Linux has an option of this number; those without a meaning here are remembered only. Datagrams that are to
/// be cut (UDP_SEGMENT) are as before Linux 4.18.
fn is_known(domain: u32, level: u32, option: u32) -> bool {
    match level {
        // Not the peer's groups (SO_PEERGROUPS).
        SOL_SOCKET => option <= 76 && option != 59,
        SOL_TCP => domain != AF_UNIX && option <= 37,
        SOL_UDP => domain != AF_UNIX && matches!(option, 1 | 10 | 100..=102 | 104),
        SOL_IP => domain != AF_UNIX && (option <= 52 || matches!(option, 64..=84)),
        SOL_IPV6 => domain == AF_INET6 && option <= 82,
        _ => false,
    }
}

fn word(value: &[u8]) -> Result<u32> {
    let (bytes, _) = value.split_first_chunk::<4>().ok_or(Errno::EINVAL)?;
    Ok(u32::from_le_bytes(*bytes))
}

/// `struct timeval` in nanoseconds.
fn timeval(value: &[u8]) -> Result<u64> {
    let (seconds, rest) = value.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let (microseconds, _) = rest.split_first_chunk::<8>().ok_or(Errno::EINVAL)?;
    let (seconds, microseconds) = (i64::from_le_bytes(*seconds), i64::from_le_bytes(*microseconds));
    if !(0..1_000_000).contains(&microseconds) {
        return Err(Errno::EDOM);
    }
    Ok((seconds.max(0) as u64).saturating_mul(1_000_000_000).saturating_add(microseconds as u64 * 1000))
}

fn to_timeval(time_ns: u64) -> Vec<u8> {
    let mut bytes = (time_ns / 1_000_000_000).to_le_bytes().to_vec();
    bytes.extend_from_slice(&(time_ns % 1_000_000_000 / 1000).to_le_bytes());
    bytes
}

/// What the host is told of an option, if anything.
fn forwarded(level: u32, option: u32, value: &[u8]) -> Result<Option<SocketOption>> {
    Ok(Some(match (level, option) {
        (SOL_TCP, TCP_NODELAY) => SocketOption::NoDelay(word(value)? != 0),
        (SOL_TCP, TCP_CORK) => SocketOption::Cork(word(value)? != 0),
        (SOL_TCP, TCP_QUICKACK) => SocketOption::QuickAck(word(value)? != 0),
        (SOL_TCP, TCP_KEEPIDLE) => SocketOption::KeepIdle(word(value)?),
        (SOL_TCP, TCP_KEEPINTVL) => SocketOption::KeepInterval(word(value)?),
        (SOL_TCP, TCP_KEEPCNT) => SocketOption::KeepCount(word(value)?),
        (SOL_TCP, TCP_USER_TIMEOUT) => SocketOption::UserTimeout(word(value)?),
        (SOL_SOCKET, name::KEEP_ALIVE) => SocketOption::KeepAlive(word(value)? != 0),
        (SOL_SOCKET, name::SEND_BUFFER) => SocketOption::SendBuffer(word(value)?),
        (SOL_SOCKET, name::RECEIVE_BUFFER) => SocketOption::ReceiveBuffer(word(value)?),
        (SOL_SOCKET, name::LINGER) => {
            let seconds = word(value.get(4..).unwrap_or(&[]))?;
            SocketOption::Linger((word(value)? != 0).then_some(seconds.min(u32::from(u16::MAX)) as u16))
        }
        _ => return Ok(None),
    }))
}

impl Options {
    /// setsockopt(2); returns what the host has to be told.
    pub fn set(&self, domain: u32, level: u32, option: u32, value: &[u8]) -> Result<Option<SocketOption>> {
        let flag = |place: &AtomicBool| -> Result<Option<SocketOption>> {
            place.store(word(value)? != 0, Ordering::Relaxed);
            Ok(None)
        };
        match (level, option) {
            (SOL_SOCKET, name::REUSE_ADDRESS) => return flag(&self.reuse_address),
            (SOL_SOCKET, name::REUSE_PORT) => return flag(&self.reuse_port),
            (SOL_SOCKET, name::PASS_CREDENTIALS) => return flag(&self.pass_credentials),
            (SOL_SOCKET, name::URGENT_INLINE) => return flag(&self.urgent_inline),
            (SOL_SOCKET, name::RECEIVE_TIMEOUT) => {
                self.receive_timeout_ns.store(timeval(value)?, Ordering::Relaxed);
                return Ok(None);
            }
            (SOL_SOCKET, name::SEND_TIMEOUT) => {
                self.send_timeout_ns.store(timeval(value)?, Ordering::Relaxed);
                return Ok(None);
            }
            (SOL_SOCKET, name::TYPE | name::ERROR | name::ACCEPTS | name::PROTOCOL | name::DOMAIN) => {
                return Err(Errno::ENOPROTOOPT);
            }
            (SOL_IPV6, IPV6_V6ONLY) if domain == AF_INET6 => return flag(&self.only_version_6),
            // Nobody would tell when the memory is free again.
            (SOL_SOCKET, name::ZERO_COPY) => return Err(Errno::EOPNOTSUPP),
            _ if is_known(domain, level, option) => {}
            (SOL_TCP | SOL_UDP | SOL_IP | SOL_IPV6, _) if domain == AF_UNIX => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::ENOPROTOOPT),
        }
        if value.len() > 256 {
            return Err(Errno::EINVAL);
        }
        let option_for_host = forwarded(level, option, value)?;
        let option = match (level, option) {
            (SOL_SOCKET, name::SEND_BUFFER_FORCE) => name::SEND_BUFFER,
            (SOL_SOCKET, name::RECEIVE_BUFFER_FORCE) => name::RECEIVE_BUFFER,
            _ => option,
        };
        self.values.lock().insert((level, option), value.to_vec());
        Ok(option_for_host.filter(|_| domain != AF_UNIX))
    }

    /// getsockopt(2), as far as the options alone know.
    pub fn get(&self, domain: u32, level: u32, option: u32) -> Result<Vec<u8>> {
        let flag = |place: &AtomicBool| Ok(u32::from(place.load(Ordering::Relaxed)).to_le_bytes().to_vec());
        match (level, option) {
            (SOL_SOCKET, name::REUSE_ADDRESS) => return flag(&self.reuse_address),
            (SOL_SOCKET, name::REUSE_PORT) => return flag(&self.reuse_port),
            (SOL_SOCKET, name::PASS_CREDENTIALS) => return flag(&self.pass_credentials),
            (SOL_SOCKET, name::URGENT_INLINE) => return flag(&self.urgent_inline),
            (SOL_SOCKET, name::RECEIVE_TIMEOUT) => {
                return Ok(to_timeval(self.receive_timeout_ns.load(Ordering::Relaxed)));
            }
            (SOL_SOCKET, name::SEND_TIMEOUT) => {
                return Ok(to_timeval(self.send_timeout_ns.load(Ordering::Relaxed)));
            }
            (SOL_IPV6, IPV6_V6ONLY) if domain == AF_INET6 => return flag(&self.only_version_6),
            _ => {}
        }
        if let Some(value) = self.values.lock().get(&(level, option)) {
            // Linux doubles buffer sizes for its own bookkeeping, and programs expect to see that.
            let doubled = level == SOL_SOCKET && matches!(option, name::SEND_BUFFER | name::RECEIVE_BUFFER);
            return match word(value) {
                Ok(size) if doubled => Ok(size.saturating_mul(2).to_le_bytes().to_vec()),
                _ => Ok(value.clone()),
            };
        }
        let value = match (level, option) {
            (SOL_SOCKET, name::SEND_BUFFER | name::RECEIVE_BUFFER) => DEFAULT_BUFFER,
            (SOL_SOCKET, name::LINGER) => return Ok(alloc::vec![0; 8]),
            (SOL_TCP, TCP_INFO) if domain != AF_UNIX => {
                let mut information = alloc::vec![0; 104];
                information[0] = 1; // TCP_ESTABLISHED
                return Ok(information);
            }
            // None came with the packets.
            (SOL_IP, IP_OPTIONS) if domain != AF_UNIX => return Ok(Vec::new()),
            (SOL_TCP, TCP_MAXSEG) => 1460,
            (SOL_TCP, TCP_KEEPIDLE) => 7200,
            (SOL_TCP, TCP_KEEPINTVL) => 75,
            (SOL_TCP, TCP_KEEPCNT) => 9,
            _ if is_known(domain, level, option) => 0,
            (SOL_TCP | SOL_UDP | SOL_IP | SOL_IPV6, _) if domain == AF_UNIX => return Err(Errno::EOPNOTSUPP),
            _ => return Err(Errno::ENOPROTOOPT),
        };
        Ok(value.to_le_bytes().to_vec())
    }

    /// What a datagram's receiver wants to know of the address it was sent to: level, kind and data of
    /// a control message (ip(7), IP_PKTINFO; ipv6(7), IPV6_RECVPKTINFO).
    pub fn packet_information(&self, reached: IpAddr) -> Option<(u32, u32, Vec<u8>)> {
        let wants =
            |key| self.values.lock().get(&key).is_some_and(|value| word(value).is_ok_and(|on| on != 0));
        let index = INDEX.to_le_bytes();
        if wants((SOL_IPV6, IPV6_RECVPKTINFO)) {
            let octets = match reached {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            return Some((SOL_IPV6, IPV6_PKTINFO, [&octets[..], &index].concat()));
        }
        match reached {
            IpAddr::V4(ip) if wants((SOL_IP, IP_PKTINFO)) => {
                Some((SOL_IP, IP_PKTINFO, [index, ip.octets(), ip.octets()].concat()))
            }
            _ => None,
        }
    }

    /// Whether closing resets the connection: SO_LINGER with no time at all.
    pub fn aborts(&self) -> bool {
        let linger = SocketOption::Linger(Some(0));
        let values = self.values.lock();
        let value = values.get(&(SOL_SOCKET, name::LINGER));
        value.is_some_and(|value| forwarded(SOL_SOCKET, name::LINGER, value) == Ok(Some(linger)))
    }

    /// What a handle has to be told that the socket comes to stand for.
    pub fn for_host(&self) -> Vec<SocketOption> {
        let values = self.values.lock();
        values
            .iter()
            .filter_map(|((level, option), value)| forwarded(*level, *option, value).ok().flatten())
            .collect()
    }

    /// A listener's options, for a connection of it.
    pub fn inherit(&self) -> Self {
        let copy = |place: &AtomicBool| AtomicBool::new(place.load(Ordering::Relaxed));
        let copy_time = |place: &AtomicU64| AtomicU64::new(place.load(Ordering::Relaxed));
        Self {
            reuse_address: copy(&self.reuse_address),
            reuse_port: copy(&self.reuse_port),
            only_version_6: copy(&self.only_version_6),
            pass_credentials: copy(&self.pass_credentials),
            urgent_inline: copy(&self.urgent_inline),
            receive_timeout_ns: copy_time(&self.receive_timeout_ns),
            send_timeout_ns: copy_time(&self.send_timeout_ns),
            values: Mutex::new(self.values.lock().clone()),
        }
    }
}
