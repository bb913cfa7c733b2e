//! Addresses and transports, as both sides name them.

use serde::{Deserialize, Serialize};

/// A transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
}

pub use core::net::SocketAddr as Address;

/// A socket option the guest may set on a granted socket (the filter checks level and name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketOption {
    /// TCP_NODELAY.
    NoDelay(bool),
    /// TCP_CORK.
    Cork(bool),
    /// TCP_QUICKACK.
    QuickAck(bool),
    /// SO_KEEPALIVE.
    KeepAlive(bool),
    /// TCP_KEEPIDLE, seconds.
    KeepIdle(u32),
    /// TCP_KEEPINTVL, seconds.
    KeepInterval(u32),
    /// TCP_KEEPCNT.
    KeepCount(u32),
    /// TCP_USER_TIMEOUT, milliseconds.
    UserTimeout(u32),
    /// SO_LINGER, seconds; `None` switches it off.
    Linger(Option<u16>),
    /// SO_SNDBUF, bytes.
    SendBuffer(u32),
    /// SO_RCVBUF, bytes.
    ReceiveBuffer(u32),
}

/// Which direction shutdown(2) ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shutdown {
    Read,
    Write,
    Both,
}
