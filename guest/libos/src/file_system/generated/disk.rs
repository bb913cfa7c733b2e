//! Disks: block devices /dev/vda, /dev/vdb and on, as Linux names and numbers those of its virtio driver.
//!
//! The machine keeps their content and takes any offset; here is what a program may expect of a block device
//! beyond that: an end that stays where it is, and questions about it by ioctl(2).

use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt::Write;

use abi::boot::{Boot, Disk};
use abi::file::{Attributes, Change, Extent};
use abi::request::Request;
use machine::{Sink, Source, Transfer, UserRange};

use super::Device;
use crate::device::Devices;
use crate::errno::{Errno, Result};
use crate::file::{File, Pages, Promise, kept};
use crate::file_system::node::BLOCK;
use crate::file_system::{Kind, Location, Meta, Node, attach};
use crate::kernel::Kernel;
use crate::thread::Thread;
use crate::user;

/// The first major number for drivers without one of their own, which is the one that virtio's disks get; and how many
/// minor numbers a disk has.
const MAJOR: u64 = 254;
const MINORS: u64 = 16;

/// ioctl(2) on a block device (linux/fs.h).
mod command {
    pub const READ_ONLY: u32 = 0x125e;
    pub const SECTORS: u32 = 0x1260;
    pub const FLUSH: u32 = 0x1261;
    pub const SECTOR: u32 = 0x1268;
    pub const DISCARD: u32 = 0x1277;
    pub const PHYSICAL: u32 = 0x127b;
    pub const BLOCK: u32 = 0x8008_1270;
    pub const LENGTH: u32 = 0x8008_1272;
}

/// Letters are all that there are names for: the machine grants no more.
fn name(number: usize) -> [u8; 3] {
    [b'v', b'd', b'a' + number as u8 % 26]
}

/// Puts the granted disks into /dev, as the service's own.
pub fn add_disks(devices: &Location, boot: &Boot, meta: &impl Fn(u32, u32, u32) -> Meta) {
    for number in 0..boot.disks.len().min(26) {
        let minor = number as u64 * MINORS;
        let special = MAJOR << 8 | minor & 0xff | (minor & !0xff) << 12;
        let own = Meta { special, ..meta(BLOCK | 0o660, boot.user, boot.group) };
        attach(devices, &name(number), Node::new(own, Kind::Device(Device::Disk(number))), meta);
    }
}

/// /proc/devices.
pub fn drivers(kernel: &Kernel) -> String {
    let mut text = String::from("Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n");
    if !kernel.boot.disks.is_empty() {
        let _ = writeln!(text, "{MAJOR:3} virtblk");
    }
    text
}

/// /proc/partitions, in blocks of 1024 bytes.
pub fn partitions(kernel: &Kernel) -> String {
    let mut text = String::from("major minor  #blocks  name\n\n");
    for (number, disk) in kernel.boot.disks.iter().enumerate() {
        let (minor, blocks, name) = (number as u64 * MINORS, disk.length / 1024, name(number));
        let _ = writeln!(text, "{MAJOR:4}  {minor:7} {blocks:10} {}", String::from_utf8_lossy(&name));
    }
    text
}

/// Opens a disk. One that takes no writes may be opened for writing all the same, as on Linux: write(2) refuses.
pub(super) fn open(thread: &Arc<Thread>, number: usize, node: &Arc<Node>) -> Result<Arc<dyn File>> {
    let disk = *thread.kernel().boot.disks.get(number).ok_or(Errno::ENXIO)?;
    Ok(Arc::new(DiskFile { disk, node: node.clone() }))
}

/// An open disk.
pub struct DiskFile {
    disk: Disk,
    node: Arc<Node>,
}

impl DiskFile {
    pub fn is_writable(&self) -> bool {
        self.disk.writable
    }

    /// How much of a write is before the disk's end.
    fn writable(&self, offset: u64, length: u64) -> Result<u64> {
        if !self.disk.writable {
            return Err(Errno::EPERM);
        }
        match self.disk.length.saturating_sub(offset) {
            0 if length > 0 => Err(Errno::ENOSPC),
            left => Ok(left.min(length)),
        }
    }
}

impl File for DiskFile {
    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        Ok(thread.kernel().machine.read(self.disk.handle, Some(offset.unwrap_or(0)), Sink::User(to))?)
    }

    fn write(&self, thread: &Arc<Thread>, from: &[UserRange], offset: Option<u64>) -> Result<Transfer> {
        let (offset, mut ranges) = (offset.unwrap_or(0), from.to_vec());
        let total = from.iter().fold(0u64, |sum, range| sum.saturating_add(range.length));
        user::limit(&mut ranges, self.writable(offset, total)?);
        Ok(thread.kernel().machine.write(self.disk.handle, Some(offset), Source::User(&ranges))?)
    }

    fn read_kernel(&self, thread: &Arc<Thread>, to: &mut [u8], offset: u64) -> Result<usize> {
        match thread.kernel().machine.read(self.disk.handle, Some(offset), Sink::Kernel(to))? {
            Transfer::Done(length) => Ok(length),
            _ => Err(Errno::EIO),
        }
    }

    fn write_kernel_at(&self, thread: &Arc<Thread>, from: &[u8], offset: u64) -> Result<Transfer> {
        let from = &from[..self.writable(offset, from.len() as u64)? as usize];
        Ok(thread.kernel().machine.write(self.disk.handle, Some(offset), Source::Kernel(from))?)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Option<u64> {
        Some(self.disk.length)
    }

    fn attributes(&self, _thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(self.node.attributes()))
    }

    fn change(&self, _thread: &Arc<Thread>, change: Change) -> Promise<()> {
        // A device has no size to change (ftruncate(2)).
        kept(Err(if change.size.is_some() { Errno::EINVAL } else { Errno::EPERM }))
    }

    /// What takes no writes has none to wait for.
    fn synchronise(&self, thread: &Arc<Thread>, extent: Extent) -> Promise<()> {
        if !self.disk.writable {
            return kept(Ok(()));
        }
        let request = Request::Synchronise { handle: self.disk.handle, extent };
        Devices::promise(thread.kernel(), request).then(|_| Ok(()))
    }

    fn allocate(&self, _thread: &Arc<Thread>, _mode: u32, _offset: u64, _length: u64) -> Promise<()> {
        kept(Err(Errno::EOPNOTSUPP))
    }

    /// Whether parts are holes is not known of a disk: all of it is data.
    fn seek_data(&self, _thread: &Arc<Thread>, offset: u64, hole: bool) -> Promise<u64> {
        let length = self.disk.length;
        kept(if offset >= length { Err(Errno::ENXIO) } else { Ok(if hole { length } else { offset }) })
    }

    fn pages(&self, _thread: &Arc<Thread>) -> Promise<Option<Pages>> {
        kept(Ok(Some(Pages { handle: self.disk.handle })))
    }

    fn control(&self, thread: &Arc<Thread>, command: u32, argument: u64) -> Promise<u64> {
        const PAGE: u32 = machine::PAGE as u32;
        let answer = |bytes: &[u8]| kept(user::write(thread, argument, bytes).map(|()| 0));
        let Disk { length, sector, physical, writable, .. } = self.disk;
        match command {
            command::READ_ONLY => answer(&u32::from(!writable).to_le_bytes()),
            command::SECTORS => answer(&(length / 512).to_le_bytes()),
            command::LENGTH => answer(&length.to_le_bytes()),
            command::SECTOR => answer(&sector.to_le_bytes()),
            command::PHYSICAL => answer(&physical.to_le_bytes()),
            command::BLOCK => answer(&PAGE.to_le_bytes()),
            command::FLUSH if !thread.process.identity.lock().privileged() => kept(Err(Errno::EACCES)),
            command::FLUSH => self.synchronise(thread, Extent::File).then(|()| Ok(0)),
            command::DISCARD => kept(Err(Errno::EOPNOTSUPP)),
            _ => kept(Err(Errno::ENOTTY)),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
