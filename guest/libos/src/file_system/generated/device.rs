//! The nodes of /dev: memory devices, the terminal, disks, and links to one's own descriptors.

use alloc::format;
use alloc::sync::Arc;
use core::any::Any;

use abi::file::{Attributes, Change};
use machine::{Transfer, UserRange};

use crate::errno::{Errno, Result};
use crate::file::pseudo_terminal::Pair;
use crate::file::{Description, File, Pages, Promise, event, flag, kept};
use crate::file_system::node::{CHARACTER, LINK, TERMINAL_INODE, TERMINAL_NUMBER};
use crate::file_system::{Directory, Entry, Kind, Location, Meta, Node, attach};
use crate::thread::Thread;

/// Bytes made at a time for a reader.
const CHUNK: usize = 4096;
/// The device number of /dev/pts/0.
const FIRST_TERMINAL: u64 = 136 << 8;
/// Bytes of one read from /dev/random, as Linux limits it.
const READ_MAX: u64 = 32 << 20;

/// A device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Null,
    Zero,
    Full,
    Random,
    /// The controlling terminal, whichever that is for a process.
    Terminal,
    /// The terminal that the user sits at.
    Console,
    PseudoTerminalMaster,
    /// The granted disk of this number.
    Disk(usize),
    /// Behind a number that mknod(2) was given there is nothing.
    Absent,
}

/// The devices by name, with their numbers (Documentation/admin-guide/devices.txt).
const DEVICES: [(&[u8], Device, u64); 7] = [
    (b"null", Device::Null, 0x103),
    (b"zero", Device::Zero, 0x105),
    (b"full", Device::Full, 0x107),
    (b"random", Device::Random, 0x108),
    (b"urandom", Device::Random, 0x109),
    (b"tty", Device::Terminal, 0x500),
    (b"ptmx", Device::PseudoTerminalMaster, 0x502),
];

const LINKS: [(&[u8], &[u8]); 4] = [
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
];

/// Puts everything into /dev but what has content of its own.
pub fn fill_devices(devices: &Location, meta: &impl Fn(u32, u32, u32) -> Meta) {
    for (name, device, special) in DEVICES {
        let meta_here = Meta { special, ..meta(CHARACTER | 0o666, 0, 0) };
        attach(devices, name, Node::new(meta_here, Kind::Device(device)), meta);
    }
    for (name, target) in LINKS {
        let node = Node::new(meta(LINK | 0o777, 0, 0), Kind::Link(target.to_vec()));
        attach(devices, name, node, meta);
    }
    let terminals = Kind::Directory(Directory::own());
    attach(devices, b"pts", Node::new(meta(0o040755, 0, 0), terminals), meta);
}

/// Gives the island's terminal its node.
pub fn add_terminal(devices: &Location, (user, group): (u32, u32), meta: &impl Fn(u32, u32, u32) -> Meta) {
    let own =
        Meta { inode: TERMINAL_INODE, special: TERMINAL_NUMBER, ..meta(CHARACTER | 0o620, user, group) };
    attach(devices, b"pts/0", Node::new(own, Kind::Device(Device::Console)), meta);
}

impl Device {
    /// What a node of this type and number stands for.
    pub fn numbered(kind: u32, special: u64) -> Self {
        let known = DEVICES.iter().find(|(_, _, number)| kind == CHARACTER && *number == special);
        known.map_or(Self::Absent, |(_, device, _)| *device)
    }

    /// Opens the device through one of its names.
    pub async fn open(self, thread: &Arc<Thread>, entry: &Location, flags: u32) -> Result<Arc<Description>> {
        let controls = flags & flag::NO_TERMINAL == 0;
        let flags = flags & !(flag::CREATE | flag::EXCLUSIVE | flag::TRUNCATE | flag::NO_TERMINAL);
        let file: Arc<dyn File> = match self {
            Device::Terminal => {
                let control = thread.process.terminal.lock().clone();
                control.ok_or(Errno::ENXIO)?.reopen()?
            }
            Device::Console => console(thread, controls)?,
            Device::PseudoTerminalMaster => lead(thread, entry)?,
            Device::Absent => return Err(Errno::ENXIO),
            Device::Disk(number) => super::disk::open(thread, number, &entry.node)?,
            _ => Arc::new(DeviceFile { device: self, node: entry.node.clone() }),
        };
        Ok(Description::new(file, flags, Some(entry.clone())))
    }
}

/// Opens a new pseudo-terminal: its follower's name appears in /dev/pts beside /dev/ptmx.
fn lead(thread: &Arc<Thread>, entry: &Location) -> Result<Arc<dyn File>> {
    let devices = entry.parent.lock().clone().ok_or(Errno::ENXIO)?;
    let terminals = match devices.node.directory()?.children.lock().get(&b"pts"[..]) {
        Some(Some(terminals)) => terminals.clone(),
        _ => return Err(Errno::ENXIO),
    };
    let mut children = terminals.node.directory()?.children.lock();
    // Number 0 is the island's own terminal, if it has one.
    let name = |number: u32| format!("{number}").into_bytes();
    let number = (1..).find(|number| !children.contains_key(&name(*number))).ok_or(Errno::ENOSPC)?;
    let kernel = thread.kernel();
    let pair = Pair::new(kernel, number);
    let (user, now_ns) = (thread.process.identity.lock().user, kernel.machine.now().realtime_ns as i64);
    let meta = Meta::new(kernel.file_systems.next_number(), CHARACTER | 0o620, user, 5, now_ns);
    let special = FIRST_TERMINAL | u64::from(number & 0xff) | u64::from(number & !0xff) << 12;
    let node = Node::new(Meta { special, ..meta }, Kind::Terminal(Arc::downgrade(&pair)));
    let follower = Entry::new(&name(number), Some(terminals.clone()), node);
    children.insert(name(number), Some(follower.clone()));
    Ok(pair.lead(&entry.node, follower))
}

/// The user's terminal, which becomes the session's if that has none.
fn console(thread: &Arc<Thread>, controls: bool) -> Result<Arc<dyn File>> {
    let control = thread.kernel().console.get().ok_or(Errno::ENXIO)?;
    if controls {
        control.offer(&thread.process);
    }
    control.reopen()
}

/// An open memory device.
pub struct DeviceFile {
    device: Device,
    node: Arc<Node>,
}

impl DeviceFile {
    fn fill(&self, thread: &Arc<Thread>, chunk: &mut [u8]) {
        if self.device == Device::Random {
            thread.kernel().entropy.fill(chunk);
        }
    }

    /// Takes so many bytes, if it has room for any.
    fn swallow(&self, length: usize) -> Result<Transfer> {
        if self.device == Device::Full && length != 0 {
            return Err(Errno::ENOSPC);
        }
        Ok(Transfer::Done(length))
    }
}

impl File for DeviceFile {
    fn read(&self, thread: &Arc<Thread>, to: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        if self.device == Device::Null {
            return Ok(Transfer::Done(0));
        }
        let mut chunk = [0; CHUNK];
        let mut done = 0;
        for range in to {
            let mut at = 0;
            while at < range.length && done < READ_MAX {
                let length = (range.length - at).min(CHUNK as u64) as usize;
                self.fill(thread, &mut chunk[..length]);
                let address = range.address.wrapping_add(at);
                thread.kernel().machine.copy_out(thread.process.space(), &chunk[..length], address)?;
                at += length as u64;
                done += length as u64;
            }
        }
        Ok(Transfer::Done(done as usize))
    }

    fn write(&self, _thread: &Arc<Thread>, from: &[UserRange], _offset: Option<u64>) -> Result<Transfer> {
        self.swallow(from.iter().map(|range| range.length as usize).sum())
    }

    fn write_kernel_at(&self, _thread: &Arc<Thread>, from: &[u8], _offset: u64) -> Result<Transfer> {
        self.swallow(from.len())
    }

    fn read_kernel(&self, thread: &Arc<Thread>, to: &mut [u8], _offset: u64) -> Result<usize> {
        if self.device == Device::Null {
            return Ok(0);
        }
        to.fill(0);
        self.fill(thread, to);
        Ok(to.len())
    }

    fn seekable(&self) -> bool {
        true
    }

    fn keeps_position(&self) -> bool {
        false
    }

    fn events(&self) -> u32 {
        event::IN | event::OUT | event::READ_NORMAL | event::WRITE_NORMAL
    }

    fn attributes(&self, _thread: &Arc<Thread>) -> Promise<Attributes> {
        kept(Ok(self.node.attributes()))
    }

    fn change(&self, _thread: &Arc<Thread>, change: Change) -> Promise<()> {
        // A device has no size to change (ftruncate(2)).
        kept(Err(if change.size.is_some() { Errno::EINVAL } else { Errno::EPERM }))
    }

    fn pages(&self, _thread: &Arc<Thread>) -> Promise<Option<Pages>> {
        kept(if self.device == Device::Zero { Ok(None) } else { Err(Errno::ENODEV) })
    }

    /// RNDGETENTCNT: never short of random numbers.
    fn control(&self, thread: &Arc<Thread>, command: u32, argument: u64) -> Promise<u64> {
        if self.device != Device::Random || command != 0x8004_5200 {
            return kept(Err(Errno::ENOTTY));
        }
        kept(crate::user::write(thread, argument, &256_u32.to_le_bytes()).map(|()| 0))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
