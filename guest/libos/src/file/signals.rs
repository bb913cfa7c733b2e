//! Signals as a file: signalfd(2).

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::file::Attributes;
use machine::{Transfer, UserRange};

use super::pipe::anonymous;
use super::ring::Sink;
use super::{File, Promise, event, kept};
use crate::errno::{Errno, Result};
use crate::process::Process;
use crate::signal::{self, Information, Set, UNBLOCKABLE};
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// Bytes of `struct signalfd_siginfo`.
const RECORD: usize = 128;

/// A file that signals are read from.
pub struct SignalFile {
    process: Arc<Process>,
    wanted: AtomicU64,
}

impl SignalFile {
    pub fn new(process: &Arc<Process>, wanted: Set) -> Arc<Self> {
        Arc::new(Self { process: process.clone(), wanted: AtomicU64::new(wanted & !UNBLOCKABLE) })
    }

    fn readable(&self, pending: Set) -> u32 {
        if pending & self.wanted.load(Ordering::SeqCst) != 0 { event::IN | event::READ_NORMAL } else { 0 }
    }

    /// Sets which signals the file is for.
    pub fn set_wanted(&self, wanted: Set) {
        self.wanted.store(wanted & !UNBLOCKABLE, Ordering::SeqCst);
        self.process.kernel.signal_files.notify();
    }
}

/// `struct signalfd_siginfo` (signalfd(2)), as far as we know what belongs there.
fn encode(information: &Information) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let (process, user) = information.sender();
    put(0, &u32::from(information.number).to_le_bytes());
    put(8, &information.code.to_le_bytes());
    put(12, &process.to_le_bytes());
    put(16, &user.to_le_bytes());
    if let Some((timer, overruns)) = information.timer_expiry() {
        put(24, &timer.to_le_bytes());
        put(32, &overruns.to_le_bytes());
    }
    put(44, &(information.value() as u32).to_le_bytes());
    put(48, &information.value().to_le_bytes());
    put(72, &information.address().to_le_bytes());
    bytes
}

impl File for SignalFile {
    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        let mut to = Sink::user(thread, to);
        if offset.is_some() {
            return Err(Errno::ESPIPE);
        }
        let room = to.length() / RECORD * RECORD;
        if room == 0 {
            return Err(Errno::EINVAL);
        }
        let wanted = self.wanted.load(Ordering::SeqCst);
        let mut done = 0;
        while done < room {
            let Some(information) = signal::take(thread, wanted) else { break };
            if to.copy(done, &encode(&information))? < RECORD {
                return Err(Errno::EFAULT);
            }
            done += RECORD;
        }
        Ok(if done == 0 { Transfer::NotReady } else { Transfer::Done(done) })
    }

    fn write(&self, _thread: &Arc<Thread>, _from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }

    /// Whoever looks sees its own signals, also through a file that it has inherited.
    fn events_for(&self, thread: &Arc<Thread>) -> u32 {
        let pending = thread.signals.pending() | thread.process.signals.pending_set();
        self.readable(pending)
    }

    /// Where nobody looks, the maker's signals count, for whichever thread.
    fn events(&self) -> u32 {
        let threads = self.process.threads.lock();
        let pending = threads
            .values()
            .fold(self.process.signals.pending_set(), |pending, thread| pending | thread.signals.pending());
        self.readable(pending)
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.process.kernel.signal_files)
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(anonymous(thread, 0o600, 1)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
