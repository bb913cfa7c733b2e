//! A network card (virtio 1.2, 5.1): frames in and out of its queues.
//!
//! Frames that arrive may be spread over several buffers, if the card may send long ones; the first of each
//! begins with a header. What the card says of lengths and counts is checked; a frame that makes no sense
//! is dropped, a chain that was not offered ends the guest (`virtio::queue`).

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use driver::Format;
use network::{Hardware, LONGEST_FRAME, Link, Offloads, Work};

use crate::virtio::queue::{self, Queue};
use crate::virtio::{Device, Transport, Unusable};

mod feature {
    pub const CHECKSUM: u64 = 1;
    pub const GUEST_CHECKSUM: u64 = 1 << 1;
    pub const ADDRESS: u64 = 1 << 5;
    pub const GUEST_SEGMENTS_4: u64 = 1 << 7;
    pub const GUEST_SEGMENTS_6: u64 = 1 << 8;
    pub const SEGMENTS_4: u64 = 1 << 11;
    pub const SEGMENTS_6: u64 = 1 << 12;
    pub const MERGEABLE: u64 = 1 << 15;
}

/// What a driver would like; the last ones make sense only with others.
pub const WANTED: u64 = feature::CHECKSUM
    | feature::GUEST_CHECKSUM
    | feature::ADDRESS
    | feature::GUEST_SEGMENTS_4
    | feature::GUEST_SEGMENTS_6
    | feature::SEGMENTS_4
    | feature::SEGMENTS_6
    | feature::MERGEABLE;

/// In the header before every frame (`struct virtio_net_hdr`).
const NEEDS_CHECKSUM: u8 = 1;
const SEGMENTS_4: u8 = 1;
const SEGMENTS_6: u8 = 4;

const LENGTH: u16 = 256;
/// Bytes of a buffer that frames arrive in: short ones where they can be merged.
const SHORT: usize = 4096;
const LONG: usize = HEADER_MOST + LONGEST_FRAME;
const HEADER_MOST: usize = 12;
/// Buffers of each kind: as many bytes in all.
const SHORTS: usize = 128;
const LONGS: usize = 16;
/// Frames that may be on their way out.
const OUT: usize = 128;
/// Buffers that one frame may be spread over.
const SPREAD_MOST: usize = 32;

pub struct Card {
    transport: Box<dyn Transport>,
    receive: Queue,
    send: Queue,
    buffers: Vec<Vec<u8>>,
    out: Vec<Option<Vec<u8>>>,
    free: Vec<u32>,
    format: Format,
    hardware: Hardware,
    offloads: Offloads,
}

impl Card {
    /// Takes the device over.
    pub fn new(device: Device) -> Result<Self, Unusable> {
        let merges = device.has(feature::MERGEABLE);
        let format = Format::new(device.is_modern(), merges);
        let long = device.has(feature::GUEST_SEGMENTS_4) || device.has(feature::GUEST_SEGMENTS_6);
        let hardware = if device.has(feature::ADDRESS) {
            device.configuration::<6>(0)
        } else {
            [2, b'e', b'y', b'o', b't', 1]
        };
        if hardware[0] & 1 != 0 || hardware == [0; 6] {
            return Err(Unusable("its address is no card's"));
        }
        let checksum = device.has(feature::CHECKSUM);
        let offloads = Offloads {
            checksum,
            segmentation_4: checksum && device.has(feature::SEGMENTS_4),
            segmentation_6: checksum && device.has(feature::SEGMENTS_6),
        };
        let (receive, send) = (device.queue(0, LENGTH)?, device.queue(1, LENGTH)?);
        let (count, length) = if merges || !long { (SHORTS, SHORT) } else { (LONGS, LONG) };
        let buffers = (0..count.min(receive.room())).map(|_| vec![0; length]).collect();
        let transport = device.finish();
        let mut card = Self {
            transport,
            receive,
            send,
            buffers,
            out: Vec::new(),
            free: Vec::new(),
            format,
            hardware,
            offloads,
        };
        for number in 0..card.buffers.len() {
            card.offer(number as u32);
        }
        card.receive.tell();
        Ok(card)
    }

    pub fn hardware(&self) -> Hardware {
        self.hardware
    }

    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn offer(&mut self, number: u32) {
        let part = queue::writable(&mut self.buffers[number as usize]);
        // There are no more buffers than descriptors.
        let _ = self.receive.push(&[part], number);
    }

    /// Gives every frame that has arrived to `take`, with whether its checksum is known to be right.
    pub fn receive(&mut self, take: &mut dyn FnMut(&mut [u8], bool)) {
        let mut any = false;
        while let Some((number, length)) = self.receive.pop() {
            any = true;
            self.frame(number, length, take);
            self.offer(number);
        }
        if any {
            self.receive.tell();
        }
    }

    fn frame(&mut self, number: u32, length: usize, take: &mut dyn FnMut(&mut [u8], bool)) {
        let written = &mut self.buffers[number as usize][..length];
        let Some(frame) = self.format.frame(written) else { return };
        let first = &mut written[self.format.header..];
        if frame.more == 0 {
            return take(first, frame.verified);
        }
        let mut whole = first.to_vec();
        for at in 1..=frame.more {
            // The rest was used together with the first.
            let Some((number, length)) = self.receive.pop() else { return };
            if at < SPREAD_MOST {
                whole.extend_from_slice(&self.buffers[number as usize][..length]);
            }
            self.offer(number);
        }
        if frame.more < SPREAD_MOST {
            take(&mut whole, frame.verified);
        }
    }

    /// Forgets what has been sent.
    pub fn reclaim(&mut self) {
        while let Some((slot, _)) = self.send.pop() {
            self.out[slot as usize] = None;
            self.free.push(slot);
        }
    }

    /// Whether frames have not left yet, as far as is known.
    pub fn is_sending(&self) -> bool {
        self.out.len() > self.free.len()
    }

    /// Tells the device of frames to be sent.
    pub fn tell(&mut self) {
        self.send.tell();
    }

    /// Whether something has arrived.
    pub fn is_ready(&self) -> bool {
        self.receive.is_ready() || self.is_full() && self.send.is_ready()
    }

    /// Whether nothing can be sent before something has left.
    fn is_full(&self) -> bool {
        self.out.len() - self.free.len() >= OUT || self.send.room() == 0
    }

    /// Wants an interrupt for what arrives next; false if something has.
    pub fn await_next(&mut self) -> bool {
        // Who waits for room hears of it; otherwise nobody asks whether frames have left.
        let sent = !self.is_full() || self.send.await_next();
        self.receive.await_next() && sent
    }

    pub fn look_away(&mut self) {
        self.receive.look_away();
        self.send.look_away();
    }

    pub fn acknowledge(&self) {
        self.transport.acknowledge();
    }
}

impl Link for Card {
    fn has_room(&mut self) -> bool {
        if self.is_full() {
            self.reclaim();
        }
        !self.is_full()
    }

    fn transmit(&mut self, length: usize, fill: &mut dyn FnMut(&mut [u8]) -> Work) {
        let mut frame = vec![0; self.format.header + length];
        let work = fill(&mut frame[self.format.header..]);
        if let Some(checksum) = work.checksum {
            frame[0] = NEEDS_CHECKSUM;
            frame[6..8].copy_from_slice(&checksum.start.to_le_bytes());
            frame[8..10].copy_from_slice(&checksum.offset.to_le_bytes());
        }
        if let Some(segmentation) = work.segmentation {
            frame[1] = if segmentation.version_6 { SEGMENTS_6 } else { SEGMENTS_4 };
            frame[2..4].copy_from_slice(&segmentation.headers.to_le_bytes());
            frame[4..6].copy_from_slice(&segmentation.size.to_le_bytes());
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.out.push(None);
            self.out.len() as u32 - 1
        });
        // There was room.
        let _ = self.send.push(&[queue::readable(&frame)], slot);
        self.out[slot as usize] = Some(frame);
    }
}
