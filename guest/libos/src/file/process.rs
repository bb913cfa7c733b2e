//! A process as a file: pidfd_open(2). It is ready to be read when the process has ended.

use alloc::sync::Arc;
use core::any::Any;

use abi::file::Attributes;
use machine::{Transfer, UserRange};

use super::pipe::anonymous;
use super::{Description, File, Promise, event, kept};
use crate::errno::{Errno, Result};
use crate::kernel::Kernel;
use crate::process::Process;
use crate::thread::Thread;
use crate::wait::WaitQueue;

/// A file that stands for a process.
pub struct ProcessFile {
    process: Arc<Process>,
}

impl ProcessFile {
    pub fn new(process: &Arc<Process>) -> Arc<Self> {
        Arc::new(Self { process: process.clone() })
    }

    /// The process that an open file stands for, which may be its directory in /proc (pidfd_send_signal(2)).
    pub fn or_directory(description: &Description, kernel: &Kernel) -> Result<Arc<Process>> {
        let place = description.location.as_ref().and_then(|location| location.node.process());
        match place {
            Some(number) => kernel.processes.lock().get(&number).cloned().ok_or(Errno::ESRCH),
            None => Self::of(description),
        }
    }

    /// The process that an open file stands for.
    pub fn of(description: &Description) -> Result<Arc<Process>> {
        let file = description.file.as_any().downcast_ref::<Self>().ok_or(Errno::EBADF)?;
        Ok(file.process.clone())
    }
}

impl File for ProcessFile {
    fn read(&self, _thread: &Arc<Thread>, _to: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }

    fn write(&self, _thread: &Arc<Thread>, _from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EINVAL)
    }

    fn events(&self) -> u32 {
        if self.process.is_over() { event::IN | event::READ_NORMAL } else { 0 }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(self.process.changes())
    }

    fn attributes(&self, thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(anonymous(thread, 0o600, 1)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
