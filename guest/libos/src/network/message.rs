//! What is sent and received beside plain bytes (recv(2), unix(7)).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::lock::Mutex;
use core::net::IpAddr;

use super::address::Name;
use super::socket::Endpoint;
use crate::file::Description;
use crate::file::ring::Source;
use crate::thread::Thread;

/// Flags of send(2) and recv(2).
pub mod flag {
    pub const PEEK: u32 = 0x2;
    pub const CONTROL_TRUNCATED: u32 = 0x8;
    pub const TRUNCATED: u32 = 0x20;
    pub const DONT_WAIT: u32 = 0x40;
    pub const WAIT_ALL: u32 = 0x100;
    pub const OUT_OF_BAND: u32 = 0x1;
    pub const NO_SIGNAL: u32 = 0x4000;
    pub const MORE: u32 = 0x8000;
    pub const WAIT_FOR_ONE: u32 = 0x10000;
    pub const CLOSE_ON_EXEC: u32 = 0x4000_0000;
    pub const ERROR_QUEUE: u32 = 0x2000;
}

/// `struct ucred`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub process: u32,
    pub user: u32,
    pub group: u32,
}

impl Credentials {
    pub fn of(thread: &Arc<Thread>) -> Self {
        let identity = thread.process.identity.lock();
        Self { process: thread.process.number, user: identity.user, group: identity.group }
    }

    pub fn encode(&self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.process.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.user.to_le_bytes());
        bytes[8..].copy_from_slice(&self.group.to_le_bytes());
        bytes
    }
}

/// What travels beside the bytes.
#[derive(Clone, Default)]
pub struct Ancillary {
    /// Open files (SCM_RIGHTS).
    pub rights: Vec<Arc<Description>>,
    /// Who sent it (SCM_CREDENTIALS).
    pub credentials: Option<Credentials>,
}

impl Ancillary {
    pub fn is_empty(&self) -> bool {
        self.rights.is_empty() && self.credentials.is_none()
    }
}

/// Open files of messages that nobody took.
static FORGOTTEN: Mutex<Vec<Arc<Description>>> = Mutex::new(Vec::new());
static FORGETTING: AtomicBool = AtomicBool::new(false);

impl Drop for Ancillary {
    /// Open files go one by one: they may be sockets that hold messages with open files, and so on, deeper
    /// than a stack.
    fn drop(&mut self) {
        if self.rights.is_empty() {
            return;
        }
        FORGOTTEN.lock().append(&mut self.rights);
        // Whoever has begun goes on until there are none.
        while !FORGETTING.swap(true, Ordering::SeqCst) {
            let next = || FORGOTTEN.lock().pop();
            while let Some(open) = next() {
                drop(open);
            }
            FORGETTING.store(false, Ordering::SeqCst);
            if FORGOTTEN.lock().is_empty() {
                return;
            }
        }
    }
}

/// Something to send. The ancillary part is taken when the first byte goes.
pub struct Outgoing<'a> {
    pub from: Source<'a>,
    pub flags: u32,
    /// `struct sockaddr` of the destination, if one was given.
    pub to: Option<&'a [u8]>,
    /// Who that is, if it had to be looked up (AF_UNIX).
    pub target: Option<Arc<dyn Endpoint>>,
    pub ancillary: Ancillary,
}

/// Something received.
#[derive(Default)]
pub struct Received {
    /// Bytes that were delivered.
    pub length: usize,
    /// Bytes that the message had; more than were delivered if it was truncated.
    pub full: usize,
    pub from: Option<Name>,
    /// The address of the island's that it was sent to, where there may be several.
    pub reached: Option<IpAddr>,
    pub ancillary: Ancillary,
}

impl Received {
    pub fn bytes(length: usize) -> Self {
        Self { length, full: length, ..Self::default() }
    }
}
