//! A network card (virtio 1.2, 5.1): frames in and out of its queues.
//!
//! Frames that arrive may be spread over several buffers, if the card may send long ones; the first of each
//! begins with a header. What the card says of lengths and counts is checked; a frame that makes no sense
//! is dropped, a chain that was not offered ends the guest (`virtio::queue`).
//!
//! A card that has several pairs of queues is asked to use one for each processor; the pairs share the buffers that
//! frames arrive in. A frame leaves by the pair that its connection's number chooses, not by one that the sending
//! processor has: pairs are emptied independently of each other, so the order that the stack's lock gives frames ends
//! at the card, and two segments of a connection that left by two pairs could overtake one another. The card sees
//! each connection at one pair, too, and has what belongs to it arrive there (virtio 1.2, 5.1.6.5.5).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;

use driver::{Format, Pairs, pairs as rule};
use network::{Hardware, LONGEST_FRAME, Link, Offloads, Work};

use crate::boot;
use crate::boot::serial::Line;
use crate::cpu::clock;
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
pub const WANTED: u64 = ALONE | rule::FEATURES;
/// The same of a card with one pair of queues.
const ALONE: u64 = feature::CHECKSUM
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
/// Buffers of each kind, for all pairs together: each pair has room for the longest frame.
const SHORTS: usize = rule::MOST as usize * LONG.div_ceil(SHORT);
const LONGS: usize = 16;
/// Frames that may be on their way out.
const OUT: usize = 128;
/// Buffers that one frame may be spread over.
const SPREAD_MOST: usize = 32;
/// Descriptors of the control queue, and how long the card may take for an answer there.
const CONTROL: u16 = 4;
const PATIENCE_NS: u64 = 1_000_000_000;

struct Pair {
    receive: Queue,
    send: Queue,
}

impl Pair {
    fn new(device: &Device, number: u16) -> Result<Self, Unusable> {
        let (receive, send) = (device.queue(2 * number, LENGTH)?, device.queue(2 * number + 1, LENGTH)?);
        Ok(Self { receive, send })
    }
}

pub struct Card {
    transport: Arc<dyn Transport>,
    pairs: Vec<Pair>,
    buffers: Vec<Vec<u8>>,
    /// Frames on their way out, by slot, whichever pair they leave by.
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
        let (pairs, control) = queues(&device)?;
        let transport = device.finish();
        if let Some(control) = control
            && let Err(Unusable(why)) = ask(control, pairs.len() as u16)
        {
            say(why);
            // Whatever it does with the request, it forgets it.
            return Self::new(Device::begin(transport, ALONE)?);
        }
        let (count, length) = if merges || !long { (SHORTS, SHORT) } else { (LONGS, LONG) };
        let room = pairs.iter().map(|pair| pair.receive.room()).min().unwrap_or(0);
        let each = (count / pairs.len()).min(room);
        let buffers = (0..each * pairs.len()).map(|_| vec![0; length]).collect();
        let mut card = Self {
            transport: transport.into(),
            pairs,
            buffers,
            out: Vec::new(),
            free: Vec::new(),
            format,
            hardware,
            offloads,
        };
        for number in 0..card.buffers.len() {
            card.offer(number / each, number as u32);
        }
        card.pairs.iter_mut().for_each(|pair| pair.receive.tell());
        Ok(card)
    }

    pub fn hardware(&self) -> Hardware {
        self.hardware
    }

    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Lends one of its buffers to a pair.
    fn offer(&mut self, pair: usize, number: u32) {
        let part = queue::writable(&mut self.buffers[number as usize]);
        // There are no more buffers than descriptors.
        let _ = self.pairs[pair].receive.push(&[part], number);
    }

    /// Gives every frame that has arrived to `take`, with whether its checksum is known to be right.
    pub fn receive(&mut self, take: &mut dyn FnMut(&mut [u8], bool)) {
        for pair in 0..self.pairs.len() {
            let mut any = false;
            while let Some((number, length)) = self.pairs[pair].receive.pop() {
                any = true;
                self.frame(pair, number, length, take);
                self.offer(pair, number);
            }
            if any {
                self.pairs[pair].receive.tell();
            }
        }
    }

    fn frame(&mut self, pair: usize, number: u32, length: usize, take: &mut dyn FnMut(&mut [u8], bool)) {
        let written = &mut self.buffers[number as usize][..length];
        let Some(frame) = self.format.frame(written) else { return };
        let first = &mut written[self.format.header..];
        if frame.more == 0 {
            return take(first, frame.verified);
        }
        let mut whole = first.to_vec();
        for at in 1..=frame.more {
            // The rest was used together with the first.
            let Some((number, length)) = self.pairs[pair].receive.pop() else { return };
            if at < SPREAD_MOST {
                whole.extend_from_slice(&self.buffers[number as usize][..length]);
            }
            self.offer(pair, number);
        }
        if frame.more < SPREAD_MOST {
            take(&mut whole, frame.verified);
        }
    }

    /// Forgets what has been sent.
    pub fn reclaim(&mut self) {
        for pair in &mut self.pairs {
            while let Some((slot, _)) = pair.send.pop() {
                self.out[slot as usize] = None;
                self.free.push(slot);
            }
        }
    }

    /// Whether frames have not left yet, as far as is known.
    pub fn is_sending(&self) -> bool {
        self.out.len() > self.free.len()
    }

    /// Tells the device of frames to be sent.
    pub fn tell(&mut self) {
        self.pairs.iter_mut().for_each(|pair| pair.send.tell());
    }

    /// Whether something has arrived.
    pub fn is_ready(&self) -> bool {
        let full = self.is_full();
        self.pairs.iter().any(|pair| pair.receive.is_ready() || full && pair.send.is_ready())
    }

    /// Whether nothing can be sent before something has left.
    fn is_full(&self) -> bool {
        let full = |pair: &Pair| pair.send.room() == 0;
        self.out.len() - self.free.len() >= OUT || self.pairs.iter().any(full)
    }

    /// Wants an interrupt for what arrives next; false if something has.
    pub fn await_next(&mut self) -> bool {
        // Who waits for room hears of it; otherwise nobody asks whether frames have left.
        let full = self.is_full();
        let quiet = |pair: &mut Pair| (!full || pair.send.await_next()) & pair.receive.await_next();
        // Of every pair, whatever the others have.
        self.pairs.iter_mut().fold(true, |all, pair| quiet(pair) & all)
    }

    pub fn look_away(&mut self) {
        for pair in &mut self.pairs {
            pair.receive.look_away();
            pair.send.look_away();
        }
    }

    /// Where interrupts are acknowledged.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }
}

/// The pairs of queues that are to be used, and the control queue if there is something to be asked.
fn queues(device: &Device) -> Result<(Vec<Pair>, Option<Queue>), Unusable> {
    let mut pairs = vec![Pair::new(device, 0)?];
    if !device.has(rule::FEATURES) {
        return Ok((pairs, None));
    }
    let judged = Pairs::judge(device.configuration(rule::PLACE), boot::processors().len());
    let several = judged.map_err(Unusable).and_then(|Pairs { used, control }| {
        if used == 1 {
            return Ok(None);
        }
        let control = device.queue(control, CONTROL)?;
        // Who lacks some of what it says it has is asked for the rest.
        pairs.extend((1..used).map_while(|number| Pair::new(device, number).ok()));
        Ok(Some(control))
    });
    let control = several.unwrap_or_else(|Unusable(why)| {
        say(why);
        None
    });
    Ok((pairs, control))
}

/// Asks a card to use so many pairs.
fn ask(mut control: Queue, count: u16) -> Result<(), Unusable> {
    // These stay with the card, should it be late.
    let command = Box::leak(Box::new(rule::command(count)));
    let answer = Box::leak(Box::new([rule::UNANSWERED]));
    let parts = [queue::readable(&command.0), queue::readable(&command.1), queue::writable(answer)];
    control.look_away();
    control.push(&parts, 0).map_err(|_| Unusable("its control queue is too short"))?;
    control.tell();
    let until_ns = clock::monotonic() + PATIENCE_NS;
    while clock::monotonic() < until_ns {
        if control.pop().is_some() {
            return rule::accepted(answer[0]).map_err(Unusable);
        }
        core::hint::spin_loop();
    }
    Err(Unusable("it does not say whether it takes more"))
}

/// Says why there is one pair.
fn say(why: &str) {
    // There is nobody to tell of a line that does not work.
    let _ = write!(Line, "eyot: of a network card's pairs of queues one is used: {why}\r\n");
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
        let pair = match self.pairs.len() {
            1 => 0,
            count => network::flow(&frame[self.format.header..]) as usize % count,
        };
        // There was room.
        let _ = self.pairs[pair].send.push(&[queue::readable(&frame)], slot);
        self.out[slot as usize] = Some(frame);
    }
}
