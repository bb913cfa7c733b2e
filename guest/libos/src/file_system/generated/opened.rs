//! An open generated file: it tells of the moment at which it is read from its beginning.
//!
//! Whoever goes on reading sees the rest of what the first read was the beginning of, so that nothing is seen twice
//! or by halves. Programs that watch a figure keep such a file open and begin anew (proc(5)).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};

use abi::file::{Attributes, Change};
use machine::{Transfer, UserRange};

use super::Generator;
use crate::errno::{Errno, Result};
use crate::file::{File, Promise, kept};
use crate::lock::Mutex;
use crate::thread::Thread;

pub struct GeneratedFile {
    generator: Generator,
    content: Arc<Mutex<Vec<u8>>>,
    /// Nobody has read what it held when it was opened.
    fresh: AtomicBool,
    attributes: Attributes,
}

impl GeneratedFile {
    pub fn new(generator: Generator, content: Vec<u8>, attributes: Attributes) -> Arc<Self> {
        let content = Arc::new(Mutex::new(content));
        Arc::new(Self { generator, content, fresh: AtomicBool::new(true), attributes })
    }
}

/// Hands out what there is from an offset on.
fn hand_out(thread: &Arc<Thread>, content: &[u8], to: &[UserRange], offset: u64) -> Result<usize> {
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut left = content.get(offset..).unwrap_or(&[]);
    let available = left.len();
    for range in to {
        let wanted = usize::try_from(range.length).unwrap_or(usize::MAX);
        let (now, later) = left.split_at(left.len().min(wanted));
        thread.kernel().machine.copy_out(thread.process.space(), now, range.address)?;
        left = later;
    }
    Ok(available - left.len())
}

impl File for GeneratedFile {
    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        self.fresh.store(false, Ordering::SeqCst);
        hand_out(thread, &self.content.lock(), to, offset.unwrap_or(0)).map(Transfer::Done)
    }

    /// A read from the beginning, but for the first one, finds what is so by then.
    fn transfer_aside(
        &self,
        thread: &Arc<Thread>,
        ranges: &[UserRange],
        offset: u64,
        writes: bool,
    ) -> Option<Promise<u64>> {
        if writes || offset != 0 || self.fresh.load(Ordering::SeqCst) {
            return None;
        }
        let (generator, content) = (self.generator, self.content.clone());
        let (thread, ranges) = (thread.clone(), ranges.to_vec());
        Some(Promise::later(async move {
            let new = generator.content(&thread).await?;
            let done = hand_out(&thread, &new, &ranges, 0)?;
            *content.lock() = new;
            Ok(done as u64)
        }))
    }

    /// Writes are taken where the mode says so, and change nothing.
    fn write(&self, _thread: &Arc<Thread>, from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        if self.attributes.mode & 0o200 == 0 {
            return Err(Errno::EROFS);
        }
        let total: u64 = from.iter().map(|range| range.length).sum();
        Ok(Transfer::Done(total as usize))
    }

    fn read_kernel(&self, _thread: &Arc<Thread>, to: &mut [u8], offset: u64) -> Result<usize> {
        let content = self.content.lock();
        let left = content.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        let length = left.len().min(to.len());
        to[..length].copy_from_slice(&left[..length]);
        Ok(length)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn attributes(&self, _thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(self.attributes))
    }

    fn change(&self, _thread: &Arc<Thread>, change: Change) -> Promise<()> {
        // O_TRUNC is how shells open what they write to.
        let harmless = Change { size: None, ..change } == Change::default();
        kept(if harmless { Ok(()) } else { Err(Errno::EPERM) })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
