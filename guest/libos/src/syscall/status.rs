//! Calls that tell what a file is, and what its file system holds: stat(2), statx(2), statfs(2).

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::file::{Attributes, Statistics};
use abi::request::{Reply, Request};

use super::file::attempt;
use super::path::{
    AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, Named, act, follow_unless, named, only,
    start,
};
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::Promise;
use crate::file_system::{self, Follow, Kind, Location, Place};
use crate::thread::Thread;
use crate::user;

/// How fresh the answer of statx(2) shall be; it always is.
const AT_STATX_SYNC_TYPE: u32 = 0x6000;

/// `struct stat` of x86-64.
fn encode_stat(a: &Attributes) -> [u8; 144] {
    let mut bytes = [0; 144];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, &a.device.to_le_bytes());
    put(8, &a.inode.to_le_bytes());
    put(16, &u64::from(a.links).to_le_bytes());
    put(24, &a.mode.to_le_bytes());
    put(28, &a.user.to_le_bytes());
    put(32, &a.group.to_le_bytes());
    put(40, &a.special.to_le_bytes());
    put(48, &a.size.to_le_bytes());
    put(56, &u64::from(a.block_size).to_le_bytes());
    put(64, &a.blocks.to_le_bytes());
    for (index, time_ns) in [a.accessed_ns, a.modified_ns, a.changed_ns].into_iter().enumerate() {
        put(72 + index * 16, &time_ns.div_euclid(1_000_000_000).to_le_bytes());
        put(80 + index * 16, &time_ns.rem_euclid(1_000_000_000).to_le_bytes());
    }
    bytes
}

/// `struct statx` (statx(2)).
fn encode_statx(a: &Attributes) -> [u8; 256] {
    let mut bytes = [0; 256];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, &0x7ff_u32.to_le_bytes());
    put(4, &a.block_size.to_le_bytes());
    put(16, &a.links.to_le_bytes());
    put(20, &a.user.to_le_bytes());
    put(24, &a.group.to_le_bytes());
    put(28, &(a.mode as u16).to_le_bytes());
    put(32, &a.inode.to_le_bytes());
    put(40, &a.size.to_le_bytes());
    put(48, &a.blocks.to_le_bytes());
    for (offset, time_ns) in [(64, a.accessed_ns), (96, a.changed_ns), (112, a.modified_ns)] {
        put(offset, &time_ns.div_euclid(1_000_000_000).to_le_bytes());
        put(offset + 8, &(time_ns.rem_euclid(1_000_000_000) as u32).to_le_bytes());
    }
    let major = |device: u64| (device >> 8 & 0xfff) as u32;
    let minor = |device: u64| (device & 0xff | device >> 12 & 0xfff00) as u32;
    put(128, &major(a.special).to_le_bytes());
    put(132, &minor(a.special).to_le_bytes());
    put(136, &major(a.device).to_le_bytes());
    put(140, &minor(a.device).to_le_bytes());
    bytes
}

#[derive(Clone, Copy)]
enum Format {
    Stat,
    Statx,
}

fn stat_at(call: &mut Call<'_>, directory: i32, path: u64, to: u64, flags: u32, format: Format) -> Outcome {
    let freshness = if matches!(format, Format::Statx) { AT_STATX_SYNC_TYPE } else { 0 };
    attempt!(only(flags, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | freshness));
    let named = if path == 0 && flags & AT_EMPTY_PATH != 0 {
        Named { start: attempt!(start(call, AT_FDCWD, b"")), path: Vec::new() }
    } else {
        let path = attempt!(user::read_path(call.thread, path));
        if path.is_empty() && flags & AT_EMPTY_PATH != 0 && directory != AT_FDCWD {
            return stat_descriptor(call, directory as u32 as u64, to, format);
        }
        Named { start: attempt!(start(call, directory, &path)), path }
    };
    let thread = call.thread.clone();
    act(call, async move {
        let entry = named
            .find(&thread, follow_unless(flags, AT_SYMLINK_NOFOLLOW), flags & AT_EMPTY_PATH != 0)
            .await?;
        write_stat(&thread, to, &file_system::attributes(&thread, &entry).await?, format)
    })
}

fn write_stat(thread: &Arc<Thread>, to: u64, attributes: &Attributes, format: Format) -> Result<()> {
    match format {
        Format::Stat => user::write(thread, to, &encode_stat(attributes)),
        Format::Statx => user::write(thread, to, &encode_statx(attributes)),
    }
}

fn stat_descriptor(call: &mut Call<'_>, number: u64, to: u64, format: Format) -> Outcome {
    let description = attempt!(call.process().files.any(number));
    let attributes = match description.file.attributes(call.thread) {
        Promise::Kept(Some(known)) => {
            return known.and_then(|known| write_stat(call.thread, to, &known, format)).into();
        }
        later => later,
    };
    let thread = call.thread.clone();
    act(call, async move {
        let attributes = attributes.await?;
        drop(description);
        write_stat(&thread, to, &attributes, format)
    })
}

pub fn stat(call: &mut Call<'_>) -> Outcome {
    stat_at(call, AT_FDCWD, call.arguments[0], call.arguments[1], 0, Format::Stat)
}
pub fn lstat(call: &mut Call<'_>) -> Outcome {
    stat_at(call, AT_FDCWD, call.arguments[0], call.arguments[1], AT_SYMLINK_NOFOLLOW, Format::Stat)
}
pub fn fstat(call: &mut Call<'_>) -> Outcome {
    stat_descriptor(call, call.arguments[0], call.arguments[1], Format::Stat)
}
pub fn newfstatat(call: &mut Call<'_>) -> Outcome {
    stat_at(call, call.int(0), call.arguments[1], call.arguments[2], call.word(3), Format::Stat)
}
pub fn statx(call: &mut Call<'_>) -> Outcome {
    if call.word(3) & 0x8000_0000 != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    stat_at(call, call.int(0), call.arguments[1], call.arguments[4], call.word(2), Format::Statx)
}

/// `struct statfs`.
fn write_statistics(thread: &Arc<Thread>, to: u64, s: &Statistics) -> Result<()> {
    let words = [
        s.kind,
        s.block_size,
        s.blocks,
        s.blocks_free,
        s.blocks_available,
        s.files,
        s.files_free,
        0x2a,
        s.name_length,
        s.block_size,
        0,
        0,
        0,
        0,
        0,
    ];
    user::write_words(thread, to, &words)
}

async fn statistics(thread: &Arc<Thread>, entry: &Location) -> Result<Statistics> {
    let kernel = thread.kernel();
    let place = match &entry.node.kind {
        Kind::Host(leaf) if !leaf.overlay => Some(leaf.place.clone()),
        Kind::Directory(directory) if !directory.overlay => directory.place(),
        _ => None,
    };
    let ask = async |place: Place| {
        let reply = kernel.devices.request(kernel, Request::Statistics { at: place.at() }).await?;
        if let Reply::Statistics(statistics) = reply { Ok(statistics) } else { Err(Errno::EIO) }
    };
    if let Some(place) = place {
        return ask(place).await;
    }
    // An overlay has what lies below as well, where nothing can be added.
    let below = match &entry.node.kind {
        Kind::Host(leaf) => Some(leaf.place.clone()),
        Kind::Directory(directory) => directory.place(),
        _ => None,
    };
    let taken = match below {
        Some(place) => ask(place).await.map_or(0, |below| {
            below.blocks.saturating_sub(below.blocks_free).saturating_mul(below.block_size) / 4096
        }),
        None => 0,
    };
    let (total, free) = (kernel.boot.scratch / 4096, kernel.file_systems.left() / 4096);
    Ok(Statistics {
        kind: 0x0102_1994,
        block_size: 4096,
        blocks: total.saturating_add(taken),
        blocks_free: free,
        blocks_available: free,
        files: 1 << 20,
        files_free: 1 << 20,
        name_length: 255,
    })
}

pub fn statfs(call: &mut Call<'_>) -> Outcome {
    let named = attempt!(named(call, AT_FDCWD, call.arguments[0]));
    let (thread, to) = (call.thread.clone(), call.arguments[1]);
    act(call, async move {
        let entry = named.find(&thread, Follow::Yes, false).await?;
        let statistics = statistics(&thread, &entry).await?;
        write_statistics(&thread, to, &statistics)
    })
}

pub fn fstatfs(call: &mut Call<'_>) -> Outcome {
    let description = attempt!(call.process().files.any(call.arguments[0]));
    let (thread, to) = (call.thread.clone(), call.arguments[1]);
    act(call, async move {
        let entry = description.location.clone().unwrap_or_else(|| thread.kernel().file_systems.root());
        let statistics = statistics(&thread, &entry).await?;
        write_statistics(&thread, to, &statistics)
    })
}
