//! Moving data between two open files without the program (sendfile(2), copy_file_range(2)).
//!
//! Data goes through a buffer of the library OS's. Positions given by address are read and written back;
//! otherwise those of the descriptions count.

use alloc::sync::Arc;
use alloc::vec;

use machine::Transfer;

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Description, flag};
use crate::file_system::{DIRECTORY, Identity, REGULAR, TYPE, happened};
use crate::thread::Thread;
use crate::user::{self, TRANSFER_MAX};
use crate::wait::{self, Patience};

const CHUNK: u64 = 128 * 1024;

fn position(thread: &Arc<Thread>, description: &Description, address: u64) -> Result<u64> {
    let position = if address == 0 { *description.position.lock() } else { user::read_u64(thread, address)? };
    if position > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(position) }
}

fn settle(thread: &Arc<Thread>, description: &Description, address: u64, position: u64) -> Result<()> {
    if address == 0 {
        *description.position.lock() = position;
        Ok(())
    } else {
        user::write_words(thread, address, &[position])
    }
}

/// copy_file_range(2): between regular files only, and not between parts of one file that overlap.
pub async fn copy_range(
    thread: &Arc<Thread>,
    source: &Arc<Description>,
    source_address: u64,
    target: &Arc<Description>,
    target_address: u64,
    count: u64,
) -> Result<u64> {
    for file in [source, target] {
        match file.file.attributes(thread).await?.mode & TYPE {
            REGULAR => {}
            DIRECTORY => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    for address in [source_address, target_address] {
        let given = if address == 0 { 0 } else { user::read_u64(thread, address)? };
        given.checked_add(count).ok_or(Errno::EOVERFLOW)?;
    }
    if Identity::of(source) == Identity::of(target) {
        let from = position(thread, source, source_address)?;
        let count = count.min(source.file.attributes(thread).await?.size.saturating_sub(from));
        let to = position(thread, target, target_address)?;
        if from < to.saturating_add(count) && to < from.saturating_add(count) {
            return Err(Errno::EINVAL);
        }
    }
    copy(thread, source, source_address, target, target_address, count).await
}

/// Copies at most `count` bytes; says how many.
pub async fn copy(
    thread: &Arc<Thread>,
    source: &Arc<Description>,
    source_address: u64,
    target: &Arc<Description>,
    target_address: u64,
    count: u64,
) -> Result<u64> {
    let mut from = position(thread, source, source_address)?;
    let seekable = target.file.seekable();
    let mut to = if seekable { position(thread, target, target_address)? } else { 0 };
    let count = count.min(i64::MAX as u64 - from.max(to));
    let mut buffer = vec![0; count.min(CHUNK) as usize];
    let mut done = 0;
    let mut outcome = Ok(());
    'copying: while done < count {
        // A CPU is not kept for as long as large files take, nor a signal waiting.
        if done > 0 {
            if thread.interrupted() {
                break;
            }
            wait::give_way().await;
        }
        let wanted = (count - done).min(CHUNK) as usize;
        let length = match source.file.read_kernel(thread, &mut buffer[..wanted], from) {
            Ok(0) => break,
            Ok(length) => length,
            Err(errno) => {
                outcome = Err(errno);
                break;
            }
        };
        let mut written = 0;
        while written < length {
            if seekable
                && let Some(promise) = target.file.prepare_write(thread, to + (length - written) as u64)
                && let Err(errno) = promise.await
            {
                outcome = Err(errno);
                break 'copying;
            }
            let piece = &buffer[written..length];
            let transfer = if seekable {
                target.file.write_kernel_at(thread, piece, to)
            } else {
                target.file.write_kernel(thread, piece)
            };
            match transfer {
                Ok(Transfer::Done(count)) => {
                    written += count;
                    to += count as u64;
                    from += count as u64;
                    done += count as u64;
                }
                Ok(Transfer::NotReady) if target.nonblocking() => {
                    outcome = Err(Errno::EAGAIN);
                    break 'copying;
                }
                Ok(Transfer::NotReady) => {
                    let Some(queue) = target.file.queue() else { return Err(Errno::EIO) };
                    let _outside = thread.kernel().scheduler.wait_outside();
                    let writable = || (target.file.events() & 0x1c != 0).then_some(());
                    if let Err(errno) = wait::until(thread, &[queue], Patience::Forever, writable).await {
                        outcome = Err(errno);
                        break 'copying;
                    }
                }
                Ok(Transfer::Later(_)) => return Err(Errno::EIO),
                Err(errno) => {
                    outcome = Err(errno);
                    break 'copying;
                }
            }
        }
    }
    if done == 0 {
        outcome?;
    }
    settle(thread, source, source_address, from)?;
    source.tell(happened::ACCESS);
    target.tell(happened::MODIFY);
    if seekable {
        settle(thread, target, target_address, to)?;
    }
    Ok(done)
}

/// sendfile(2), copy_file_range(2): through the library OS's own memory.
pub fn sendfile(call: &mut Call<'_>) -> Outcome {
    let [to, from, offset, count, ..] = call.arguments;
    let files = &call.process().files;
    let (source, target) = (attempt!(files.get(from)), attempt!(files.get(to)));
    attempt!(source.readable());
    attempt!(target.writable());
    if !source.file.seekable() || target.flags() & flag::APPEND != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let (thread, count) = (call.thread.clone(), count.min(TRANSFER_MAX));
    call.wait(async move { copy(&thread, &source, offset, &target, 0, count).await })
}

pub fn copy_file_range(call: &mut Call<'_>) -> Outcome {
    let [from, from_offset, to, to_offset, count, ..] = call.arguments;
    if call.word(5) != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let files = &call.process().files;
    let (source, target) = (attempt!(files.get(from)), attempt!(files.get(to)));
    attempt!(source.readable());
    attempt!(target.writable());
    if target.flags() & flag::APPEND != 0 {
        return Err::<u64, _>(Errno::EBADF).into();
    }
    let (thread, count) = (call.thread.clone(), count.min(TRANSFER_MAX));
    call.wait(async move { copy_range(&thread, &source, from_offset, &target, to_offset, count).await })
}
