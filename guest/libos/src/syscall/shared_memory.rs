//! Calls on System V shared memory: shmget(2), shmop(2), shmctl(2).

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use crate::lock::Mutex;
use machine::PAGE;

use super::file::attempt;
use super::memory::{anonymous_file, map_at};
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file_system::Entry as Name;
use crate::ipc::shared::{DOOMED, Segment, Use};
use crate::ipc::{Entry, READ, WRITE};
use crate::memory::{Backed, Content, Wanted, page_up};
use crate::user;

const READ_ONLY: u32 = 0o10000;
const ROUND: u32 = 0o20000;
const REMAP: u32 = 0o40000;
const EXECUTE: u32 = 0o100000;
const HUGE: u32 = 0o4000;

/// Bytes of `struct shmid64_ds`.
const DESCRIBED: usize = 112;

pub(super) fn now_s(call: &Call<'_>) -> u64 {
    call.kernel().machine.now().realtime_ns / 1_000_000_000
}

pub fn shmget(call: &mut Call<'_>) -> Outcome {
    let (key, size, flags) = (call.word(0), call.arguments[1], call.word(2));
    let identity = call.process().who();
    let (kernel, process) = (call.kernel().clone(), call.process().number);
    if flags & HUGE != 0 {
        return Err::<u64, _>(Errno::ENOMEM).into();
    }
    kernel.ipc.settle(&kernel);
    let fits = |segment: &Segment| if size > segment.size { Err(Errno::EINVAL) } else { Ok(()) };
    let make = || {
        if size == 0 || size > kernel.boot.memory {
            return Err(if size == 0 { Errno::EINVAL } else { Errno::ENOMEM });
        }
        let (file, node) = anonymous_file(&kernel);
        let inode = node.meta.lock().inode;
        let place = Name::nameless(format!("/SYSV{key:08x}").as_bytes(), node);
        Ok(Segment { file, place, inode, size, maker: process, used: Mutex::new(Use::default()) })
    };
    kernel.ipc.memory.get(key, flags, &identity, now_s(call), fits, make).map(u64::from).into()
}

pub fn shmat(call: &mut Call<'_>) -> Outcome {
    let (address, flags) = (call.arguments[1], call.word(2));
    let entry = attempt!(call.kernel().ipc.memory.find(call.word(0)));
    let writes = flags & READ_ONLY == 0;
    let identity = call.process().who();
    attempt!(entry.permits(&identity, if writes { READ | WRITE } else { READ }));
    let address = match address % PAGE {
        0 => address,
        rest if flags & ROUND != 0 => address - rest,
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    if flags & REMAP != 0 && address == 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let bits = if writes { 3 } else { 1 } | if flags & EXECUTE != 0 { 4 } else { 0 };
    let protection = machine::Protection::from_bits_truncate(bits);
    let (process, now_s) = (call.process().clone(), now_s(call));
    call.wait(async move {
        let (kernel, segment) = (&process.kernel, &entry.thing);
        let length = page_up(segment.size).ok_or(Errno::ENOMEM)?;
        segment.file.resize(kernel, length).await?;
        let handle = segment.file.promote(kernel).await?;
        let location = Some(segment.place.clone());
        let backed = Arc::new(Backed { handle, file: segment.file.clone(), location, writable: writes });
        let path = Arc::from(segment.place.path());
        let content = Content::File { backed, offset: 0, path, device: 1, inode: segment.inode };
        let wanted = Wanted { protection, shared: true, content };
        let at = map_at(&process, address, length, flags & REMAP != 0, wanted)?;
        let mut used = segment.used.lock();
        (used.attached_s, used.last) = (now_s, process.number);
        Ok(at)
    })
}

pub fn shmdt(call: &mut Call<'_>) -> Outcome {
    let (process, kernel) = (call.process(), call.kernel());
    let memory = process.memory();
    let mut space = memory.lock();
    for entry in kernel.ipc.memory.all() {
        let Some(pieces) = entry.thing.pieces_from(&space, call.arguments[0]) else { continue };
        for piece in pieces {
            attempt!(space.unmap(&*kernel.machine, process.space(), piece));
        }
        drop(space);
        let mut used = entry.thing.used.lock();
        (used.detached_s, used.last) = (now_s(call), process.number);
        drop(used);
        kernel.ipc.settle(kernel);
        return Ok(0).into();
    }
    Err::<u64, _>(Errno::EINVAL).into()
}

/// `struct shmid64_ds`.
fn describe(call: &Call<'_>, entry: &Entry<Segment>) -> [u8; DESCRIBED] {
    let mut bytes = [0; DESCRIBED];
    bytes[..48].copy_from_slice(&entry.encode());
    let used = *entry.thing.used.lock();
    let changed = entry.changed.load(Ordering::Relaxed);
    for (at, word) in [(48, entry.thing.size), (56, used.attached_s), (64, used.detached_s), (72, changed)] {
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    bytes[80..84].copy_from_slice(&entry.thing.maker.to_le_bytes());
    bytes[84..88].copy_from_slice(&used.last.to_le_bytes());
    bytes[88..96].copy_from_slice(&entry.thing.attached(call.kernel()).to_le_bytes());
    bytes
}

/// What IPC_SET sets: owner, group and mode of `struct ipc64_perm`.
pub(super) fn read_owner(call: &Call<'_>, address: u64) -> Result<(u32, u32, u32)> {
    let bytes = user::read::<24>(call.thread, address)?;
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Ok((word(4), word(8), word(20)))
}

pub fn shmctl(call: &mut Call<'_>) -> Outcome {
    let (number, command, address) = (call.word(0), call.word(1), call.arguments[2]);
    let registry = &call.kernel().ipc.memory;
    let identity = call.process().who();
    let last = registry.all().last().map_or(0, |entry| u64::from(entry.number));
    match command {
        // IPC_INFO: SHMMAX, SHMMIN, SHMMNI, SHMSEG, SHMALL
        3 => {
            let most = u64::MAX >> 8;
            let words = [most, 1, 4096, 4096, most, 0, 0, 0, 0];
            return user::write_words(call.thread, address, &words).map(|()| last).into();
        }
        // SHM_INFO
        14 => {
            let pages = registry.all().iter().map(|entry| entry.thing.size.div_ceil(PAGE)).sum();
            let words = [registry.all().len() as u64, pages, pages, 0, 0, 0];
            return user::write_words(call.thread, address, &words).map(|()| last).into();
        }
        _ => {}
    }
    let entry = attempt!(registry.find(number));
    match command {
        0 => {
            attempt!(entry.owned(&identity));
            registry.hide(&entry);
            entry.owner.lock().mode |= DOOMED;
            call.kernel().ipc.settle(call.kernel());
            Ok(0).into()
        }
        1 => {
            attempt!(entry.owned(&identity));
            let (user, group, mode) = attempt!(read_owner(call, address));
            entry.change(user, group, mode, now_s(call));
            Ok(0).into()
        }
        // IPC_STAT, SHM_STAT, SHM_STAT_ANY
        2 | 13 | 15 => {
            if command != 15 {
                attempt!(entry.permits(&identity, READ));
            }
            attempt!(user::write(call.thread, address, &describe(call, &entry)));
            Ok(if command == 2 { 0 } else { u64::from(number) }).into()
        }
        // SHM_LOCK, SHM_UNLOCK: nothing is ever swapped out.
        11 | 12 => Ok(0).into(),
        _ => Err::<u64, _>(Errno::EINVAL).into(),
    }
}
