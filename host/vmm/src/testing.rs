//! For tests: a driver that lays rings out in memory and talks to devices through their registers, and a
//! loop without a machine.

use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use abi::message::{ToGuest, encode};
use rustix::io::IoSlice;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, sendmsg, socketpair,
};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::channel::Channel;
use crate::descriptor::Table;
use crate::device::balloon::Balloon;
use crate::device::file::File;
use crate::device::random::Random;
use crate::device::socket::Socket;
use crate::machine::End;
use crate::memory::{self, Memory};
use crate::outside::Outside;
use crate::pool::Pool;
use crate::serve::{Devices, Engine, Loop, Plugged};
use crate::transport::{Device, Port};

pub const MEMORY: u64 = 32 << 20;
const SIZE: u16 = 256;
/// Rings of one driver, and its buffers behind.
const RINGS: u64 = 0x1_0000;

/// One queue as its driver sees it.
#[derive(Clone, Copy, Default)]
pub struct Queue {
    pub size: u16,
    pub descriptors: u64,
    pub available: u64,
    pub used: u64,
    next: u16,
    pub index: u16,
    seen: u16,
}

/// A driver of one device.
pub struct Driver {
    pub port: Arc<Port>,
    pub memory: Arc<Memory>,
    pub queues: Vec<Queue>,
    /// Where the next buffer goes, and where buffers begin and end.
    next: u64,
    area: (u64, u64),
}

impl Driver {
    /// Sets a device up; rings and buffers are from `base` on.
    pub fn new(port: &Arc<Port>, memory: &Arc<Memory>, base: u64, queues: usize) -> Self {
        let mut driver = Self::beside(port, memory, base, queues);
        driver.set_up(base, queues, u64::MAX);
        driver
    }

    /// A driver whose registers are somewhere else, with rings that are laid out.
    pub fn beside(port: &Arc<Port>, memory: &Arc<Memory>, base: u64, queues: usize) -> Self {
        let buffers = base + RINGS * queues as u64;
        let mut driver = Self {
            port: port.clone(),
            memory: memory.clone(),
            queues: vec![],
            next: buffers,
            area: (buffers, base + (12 << 20)),
        };
        (0..queues).for_each(|number| driver.lay(base, number, SIZE));
        driver
    }

    /// Lays the next queue's rings out.
    fn lay(&mut self, base: u64, number: usize, size: u16) {
        let at = base + RINGS * number as u64;
        let (available, used) = (at + 0x4000, at + 0x8000);
        self.memory.write_slice(&[0; RINGS as usize], GuestAddress(at)).unwrap();
        self.queues.push(Queue { size, descriptors: at, available, used, ..Queue::default() });
    }

    pub fn set_up(&mut self, base: u64, queues: usize, wanted: u64) {
        self.write(0x70, 0);
        self.write(0x70, 1);
        self.write(0x70, 3);
        for part in 0..2 {
            self.write(0x14, part);
            let features = self.read(0x10);
            self.write(0x24, part);
            self.write(0x20, features & (wanted >> (32 * part)) as u32);
        }
        self.write(0x70, 11);
        self.queues.clear();
        for number in 0..queues {
            self.write(0x30, number as u32);
            let size = (self.read(0x34) as u16).min(SIZE);
            self.lay(base, number, size);
            let queue = self.queues[number];
            self.write(0x38, size.into());
            for (register, value) in [(0x80, queue.descriptors), (0x90, queue.available), (0xa0, queue.used)]
            {
                self.write(register, value as u32);
                self.write(register + 4, (value >> 32) as u32);
            }
            self.write(0x44, 1);
        }
        self.write(0x70, 15);
    }

    pub fn read(&self, register: u64) -> u32 {
        let mut bytes = [0; 4];
        self.port.read(register, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub fn write(&self, register: u64, value: u32) {
        self.port.write(register, &value.to_le_bytes());
    }

    pub fn is_broken(&self) -> bool {
        self.read(0x70) & 0x40 != 0
    }

    pub fn put<T: vm_memory::ByteValued>(&self, address: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    pub fn get<T: vm_memory::ByteValued>(&self, address: u64) -> T {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// Memory for a buffer. It is used again some time later.
    pub fn room(&mut self, length: usize) -> u64 {
        if self.next + length as u64 > self.area.1 {
            self.next = self.area.0;
        }
        let at = self.next;
        self.next += (length as u64).next_multiple_of(16);
        at
    }

    pub fn descriptor(&mut self, queue: usize, index: u16, words: (u64, u32, u16, u16)) {
        let at = self.queues[queue].descriptors + u64::from(index % self.queues[queue].size) * 16;
        let (address, length, flags, next) = words;
        self.put(at, address);
        self.put(at + 8, length);
        self.put(at + 12, flags);
        self.put(at + 14, next);
    }

    /// Makes a chain available whose descriptors are there already.
    pub fn offer(&mut self, queue: usize, head: u16) {
        let ring = &mut self.queues[queue];
        let at = ring.available + 4 + u64::from(ring.index % ring.size) * 2;
        ring.index = ring.index.wrapping_add(1);
        let (index, available) = (ring.index, ring.available);
        self.put(at, head);
        self.put(available + 2, index);
    }

    /// Offers a chain: parts that are read, parts that are written. Its head, and where the latter are.
    pub fn push(&mut self, queue: usize, readable: &[&[u8]], writable: &[usize]) -> (u16, Vec<u64>) {
        let count = (readable.len() + writable.len()) as u16;
        let first = self.queues[queue].next;
        self.queues[queue].next = first.wrapping_add(count);
        let size = self.queues[queue].size;
        let (mut places, mut number) = (vec![], 0);
        let mut part = |driver: &mut Self, address, length, flags: u16| {
            let more = u16::from(number + 1 < count);
            let index = first.wrapping_add(number);
            driver.descriptor(queue, index, (address, length, flags | more, index.wrapping_add(1) % size));
            number += 1;
        };
        for bytes in readable {
            let address = self.room(bytes.len());
            self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
            part(self, address, bytes.len() as u32, 0);
        }
        for length in writable {
            let address = self.room(*length);
            places.push(address);
            part(self, address, *length as u32, 2);
        }
        self.offer(queue, first % size);
        (first % size, places)
    }

    /// The next used chain and what was written.
    pub fn pop(&mut self, queue: usize) -> Option<(u16, u32)> {
        let ring = self.queues[queue];
        if self.get::<u16>(ring.used + 2) == ring.seen {
            return None;
        }
        let at = ring.used + 4 + u64::from(ring.seen % ring.size) * 8;
        self.queues[queue].seen = ring.seen.wrapping_add(1);
        Some((self.get::<u32>(at) as u16, self.get(at + 4)))
    }

    pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }
}

/// A loop without a machine, and the monitor's end.
pub struct Bare {
    pub turns: Loop,
    pub memory: Arc<Memory>,
    /// Files, sockets, random numbers, the balloon.
    pub ports: [Arc<Port>; 4],
    pub monitor: OwnedFd,
    pub ends: Sender<End>,
}

/// Threads that wait for disks. They never end, so all loops share them.
pub fn pool() -> Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| Pool::new().unwrap()).clone()
}

impl Bare {
    pub fn new(granted: Vec<OwnedFd>, memory: Memory) -> Self {
        let memory = Arc::new(memory);
        let (monitor, control) = pair(SocketType::SEQPACKET);
        let outside = Outside::new(Table::new(granted), Channel::new(control)).unwrap();
        let call = Arc::new(EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).unwrap());
        let plugged = |description| Port::new(description, &memory, &call).unwrap();
        let (mut file, socket, balloon) = (File::new(pool()), Socket::new(), Balloon::new(&memory));
        let ports = [file.description(), socket.description(), Random.description(), balloon.description()];
        let ports = ports.map(plugged);
        file.attach(&ports[0]);
        let (ends, receiver) = channel();
        let devices = Devices {
            file: Plugged::new(file, ports[0].clone()),
            socket: Plugged::new(socket, ports[1].clone()),
            random: Plugged::new(Random, ports[2].clone()),
            balloon: Some(Plugged::new(balloon, ports[3].clone())),
        };
        let turns = Loop::new(outside, devices, Engine::Cpus(receiver));
        Self { turns, memory, ports, monitor, ends }
    }

    /// With so many bytes of memory, a multiple of a page, that are given a page at a time.
    pub fn small(granted: Vec<OwnedFd>, length: usize) -> Self {
        Self::new(granted, Memory::from_ranges(&[(GuestAddress(0), length)]).unwrap())
    }

    /// A CPU writes to a device's registers.
    pub fn write(&self, device: usize, register: u64, bytes: &[u8]) {
        self.ports[device % self.ports.len()].write(register, bytes);
    }

    pub fn read(&self, device: usize, register: u64, bytes: &mut [u8]) {
        self.ports[device % self.ports.len()].read(register, bytes);
    }

    /// A CPU writes to memory, as far as there is some.
    pub fn store(&self, address: u64, bytes: &[u8]) {
        let _ = self.memory.write(bytes, GuestAddress(address));
    }

    pub fn turn(&mut self) -> bool {
        self.turns.turn()
    }

    /// Messages that the monitor has not taken.
    pub fn waiting(&self) -> usize {
        self.turns.outside.channel.waiting()
    }

    /// The next message to the monitor.
    pub fn hear(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; abi::MESSAGE_MAX];
        let (length, _) = recv(&self.monitor, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// Says something for the monitor; whether there was room for it.
    pub fn say(&self, message: &ToGuest, file: Option<&OwnedFd>) -> bool {
        use std::os::fd::AsFd;
        let bytes = encode(message).unwrap();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = file.map(|file| [file.as_fd()]);
        if let Some(files) = &files {
            control.push(SendAncillaryMessage::ScmRights(files));
        }
        sendmsg(&self.monitor, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).is_ok()
    }
}

/// A loop without a machine, with drivers.
pub struct Rig {
    bare: Bare,
    pub file: Driver,
    pub socket: Driver,
}

impl Deref for Rig {
    type Target = Bare;

    fn deref(&self) -> &Bare {
        &self.bare
    }
}

impl DerefMut for Rig {
    fn deref_mut(&mut self) -> &mut Bare {
        &mut self.bare
    }
}

pub fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, kind, flags, None).unwrap()
}

impl Rig {
    pub fn new(granted: Vec<OwnedFd>) -> Self {
        let bare = Bare::new(granted, memory::make(MEMORY).unwrap());
        let [files, sockets, ..] = &bare.ports;
        let file = Driver::new(files, &bare.memory, 1 << 20, 2);
        let socket = Driver::new(sockets, &bare.memory, 16 << 20, 3);
        Self { bare, file, socket }
    }

    /// Turns until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.turns.turn() {
                return;
            }
        }
        panic!("the loop does not come to rest");
    }

    /// Turns until something is there.
    pub fn until<T>(&mut self, mut there: impl FnMut(&mut Self) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            self.turns.turn();
            if let Some(found) = there(self) {
                return found;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "it never comes");
        }
    }

    /// The next message to the monitor.
    pub fn heard(&mut self) -> Vec<u8> {
        self.until(|rig| rig.hear())
    }
}

/// Random numbers (xorshift), the same in every run.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }
}

/// A pipe whose ends do not wait.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}
