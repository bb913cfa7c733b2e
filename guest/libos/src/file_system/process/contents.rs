//! /proc/PID/mem: a process's memory, read and written at its addresses (proc_pid_mem(5)).

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;

use abi::file::Attributes;
use machine::{Transfer, UserRange};

use crate::errno::{Errno, Result};
use crate::file::{File, Promise, kept};
use crate::foreign;
use crate::memory::Memory;
use crate::thread::Thread;

/// Bytes that go through a buffer at once, at most.
const PIECE: u64 = 64 << 10;

/// The memory that the process had when the file was opened.
pub struct Contents {
    memory: Arc<Memory>,
    attributes: Attributes,
}

impl Contents {
    pub fn new(memory: Arc<Memory>, attributes: Attributes) -> Self {
        Self { memory, attributes }
    }
}

impl File for Contents {
    fn read(&self, _thread: &Arc<Thread>, _to: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EIO)
    }

    fn write(&self, _thread: &Arc<Thread>, _from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        Err(Errno::EIO)
    }

    fn transfer_aside(
        &self,
        thread: &Arc<Thread>,
        ranges: &[UserRange],
        offset: u64,
        writes: bool,
    ) -> Option<Promise<u64>> {
        let (thread, memory, ranges) = (thread.clone(), self.memory.clone(), ranges.to_vec());
        Some(Promise::later(async move { transfer(&thread, &memory, ranges, offset, writes).await }))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn attributes(&self, _thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(self.attributes))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Copies between the caller's ranges and memory at an address; as far as that can be reached, if it can at all.
async fn transfer(
    thread: &Arc<Thread>,
    memory: &Memory,
    ranges: Vec<UserRange>,
    address: u64,
    writes: bool,
) -> Result<u64> {
    let (machine, own) = (&*thread.kernel().machine, thread.process.space());
    let mut done = 0;
    for range in ranges {
        let mut at = range.address;
        while at < range.end() {
            let wanted = (range.end() - at).min(PIECE);
            let mut buffer = vec![0; wanted as usize];
            let there = address.wrapping_add(done);
            let length = if writes {
                machine.copy_in(own, at, &mut buffer)?;
                foreign::write(thread, memory, there, &buffer).await
            } else {
                foreign::read(thread, memory, there, &mut buffer).await
            };
            // What is nobody's any more has an end.
            let Some(length) = length else { return Ok(done) };
            if !writes {
                machine.copy_out(own, &buffer[..length], at)?;
            }
            done += length as u64;
            at += length as u64;
            if (length as u64) < wanted {
                return if done == 0 { Err(Errno::EIO) } else { Ok(done) };
            }
        }
    }
    Ok(done)
}
