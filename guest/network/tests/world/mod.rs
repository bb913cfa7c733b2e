//! Two stacks and the wire between them, in memory and with a clock of its own. The wire loses, repeats,
//! delays and spoils frames as a seed has it, and does what a device does: it completes checksums and cuts
//! long segments.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};

use machine::Readiness;
use network::{Configuration, Event, Link, Offloads, Socket, Stack, Version4, Version6, Work};

pub const MILLISECOND_NS: u64 = 1_000_000;
pub const SECOND_NS: u64 = 1_000_000_000;

pub const OFFLOADS: Offloads = Offloads { checksum: true, segmentation_4: true, segmentation_6: true };

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Whether something with a chance in a thousand happens.
    pub fn happens(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

/// Frames that a stack has sent.
#[derive(Default)]
pub struct Sent {
    pub frames: VecDeque<(Vec<u8>, Work)>,
    pub room: usize,
}

impl Link for Sent {
    fn has_room(&mut self) -> bool {
        self.frames.len() < self.room
    }

    fn transmit(&mut self, length: usize, fill: &mut dyn FnMut(&mut [u8]) -> Work) {
        // Nobody may count on a buffer being empty.
        let mut frame = vec![0xa5; length];
        let work = fill(&mut frame);
        self.frames.push_back((frame, work));
    }
}

fn add(sum: u32, bytes: &[u8]) -> u32 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).fold(sum, |sum, pair| sum + word(pair))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What comes out of the device for a frame that a stack has sent.
pub fn device(mut frame: Vec<u8>, work: Work) -> Vec<Vec<u8>> {
    let Some(cut) = work.segmentation else {
        if let Some(checksum) = work.checksum {
            let (start, at) = (usize::from(checksum.start), usize::from(checksum.start + checksum.offset));
            let sum = !fold(add(0, &frame[start..]));
            frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        return vec![frame];
    };
    let checksum = work.checksum.expect("what is cut has a checksum to be completed");
    let (headers, size) = (usize::from(cut.headers), usize::from(cut.size));
    let start = usize::from(checksum.start);
    assert_eq!(usize::from(frame[start + 12] >> 4) * 4 + start, headers);
    let payload = frame[headers..].to_vec();
    assert!(payload.len() > size, "nothing to cut");
    let whole = frame.len() - start;
    let first = u32::from_be_bytes(frame[start + 4..start + 8].try_into().unwrap());
    let count = payload.len().div_ceil(size);
    payload
        .chunks(size)
        .enumerate()
        .map(|(number, part)| {
            let mut segment = [&frame[..headers], part].concat();
            let sequence = first.wrapping_add((number * size) as u32);
            segment[start + 4..start + 8].copy_from_slice(&sequence.to_be_bytes());
            if number + 1 < count {
                segment[start + 13] &= !(1 | 8);
            }
            if cut.version_6 {
                let length = (segment.len() - 54) as u16;
                segment[18..20].copy_from_slice(&length.to_be_bytes());
            } else {
                let length = (segment.len() - 14) as u16;
                segment[16..18].copy_from_slice(&length.to_be_bytes());
                segment[24..26].fill(0);
                let sum = !fold(add(0, &segment[14..34]));
                segment[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            // The pseudo header's sum was that of the long segment.
            let at = start + usize::from(checksum.offset);
            let partial = u32::from(u16::from_be_bytes(segment[at..at + 2].try_into().unwrap()));
            let corrected = partial + (0xffff - whole as u32 % 0xffff) + (segment.len() - start) as u32;
            segment[at..at + 2].copy_from_slice(&fold(corrected).to_be_bytes());
            let sum = !fold(add(0, &segment[start..]));
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            segment
        })
        .collect()
}

/// How bad the wire is, in thousandths.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub loss: u64,
    pub duplication: u64,
    pub reordering: u64,
    pub corruption: u64,
}

pub struct Side {
    pub stack: Stack,
    pub sent: Sent,
    next_ns: Option<u64>,
    ready: HashMap<Socket, Readiness>,
    pub events: Vec<Event>,
    /// Frames that this side has put on the wire.
    pub frames: u64,
}

/// Sees the side that sends and the frame, and may change it.
pub type Watch = Box<dyn FnMut(usize, &mut [u8])>;

pub struct World {
    pub now_ns: u64,
    pub sides: [Side; 2],
    pub faults: Faults,
    pub delay_ns: u64,
    /// Long segments arrive as they were sent.
    pub joined: bool,
    pub mtu: usize,
    pub dice: Dice,
    wire: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    number: u64,
    /// Looks at each frame that a side sends.
    pub watch: Option<Watch>,
    /// Frames from a side are lost.
    pub cut: [bool; 2],
}

pub fn configuration(number: u8, offloads: Offloads) -> Configuration {
    Configuration {
        hardware: [2, 0, 0, 0, 0, number],
        mtu: 1500,
        offloads,
        version_4: Version4::Static { address: [10, 0, 0, number].into(), prefix: 24, gateway: None },
        version_6: Version6::Static {
            address: [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)].into(),
            prefix: 64,
            gateway: None,
        },
        memory: 256 << 20,
        name_servers: Vec::new(),
    }
}

pub fn address_4(number: u8, port: u16) -> abi::network::Address {
    ([10, 0, 0, number], port).into()
}

pub fn address_6(number: u8, port: u16) -> abi::network::Address {
    ([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)], port).into()
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, configuration(1, OFFLOADS), configuration(2, OFFLOADS))
    }

    pub fn with(seed: u64, first: Configuration, second: Configuration) -> Self {
        let mut dice = Dice(seed);
        let now_ns = 1_000_000 * SECOND_NS;
        let mut side = |configuration: &Configuration| {
            let mut secret = [0; 32];
            secret.fill_with(|| dice.next() as u8);
            Side {
                stack: Stack::new(configuration, secret, now_ns).expect("a sound configuration"),
                sent: Sent { room: 256, ..Sent::default() },
                next_ns: Some(now_ns),
                ready: HashMap::new(),
                events: Vec::new(),
                frames: 0,
            }
        };
        Self {
            now_ns,
            sides: [side(&first), side(&second)],
            faults: Faults::default(),
            delay_ns: 50_000,
            joined: false,
            mtu: 1500,
            dice,
            wire: BTreeMap::new(),
            number: 0,
            watch: None,
            cut: [false; 2],
        }
    }

    /// Puts a frame on the wire, towards a side.
    pub fn put(&mut self, to: usize, frame: Vec<u8>) {
        let mut at_ns = self.now_ns + self.delay_ns;
        if self.dice.happens(self.faults.reordering) {
            at_ns += self.dice.below(self.delay_ns * 4);
        }
        self.number += 1;
        self.wire.insert((at_ns, self.number), (to, frame));
    }

    fn send(&mut self, from: usize, mut frame: Vec<u8>) {
        if let Some(watch) = &mut self.watch {
            watch(from, &mut frame);
        }
        self.sides[from].frames += 1;
        if self.cut[from] || self.dice.happens(self.faults.loss) {
            return;
        }
        if self.dice.happens(self.faults.duplication) {
            self.put(1 - from, frame.clone());
        }
        if self.dice.happens(self.faults.corruption) {
            let at = self.dice.below(frame.len() as u64) as usize;
            frame[at] ^= 1 << self.dice.below(8);
        }
        self.put(1 - from, frame);
    }

    /// Lets both sides work and frames arrive until nothing is to be done now.
    fn settle(&mut self) {
        for from in 0..2 {
            loop {
                let side = &mut self.sides[from];
                side.next_ns = side.stack.poll(self.now_ns, &mut side.sent);
                let full = side.sent.frames.len() >= side.sent.room;
                while let Some((frame, work)) = self.sides[from].sent.frames.pop_front() {
                    let longest = 14 + if work.segmentation.is_some() { 65_521 } else { self.mtu };
                    assert!(frame.len() <= longest, "a frame of {} bytes", frame.len());
                    let frames = if self.joined && work.segmentation.is_some() {
                        vec![frame]
                    } else {
                        device(frame, work)
                    };
                    for frame in frames {
                        assert!(self.joined || frame.len() <= self.mtu + 14, "a segment of {}", frame.len());
                        self.send(from, frame);
                    }
                }
                if !full {
                    break;
                }
            }
            let side = &mut self.sides[from];
            while let Some(event) = side.stack.next_event() {
                if let Event::Ready { socket, readiness } = event {
                    *side.ready.entry(socket).or_insert(Readiness::empty()) |= readiness;
                }
                side.events.push(event);
            }
        }
    }

    /// One step of time, at most to `until_ns`; `false` if it is there.
    pub fn step(&mut self, until_ns: u64) -> bool {
        self.settle();
        let polls = self.sides.iter().filter_map(|side| side.next_ns);
        let arrival = self.wire.keys().next().map(|(at_ns, _)| *at_ns);
        let next_ns = polls.chain(arrival).min().unwrap_or(until_ns).max(self.now_ns);
        if next_ns >= until_ns && next_ns > self.now_ns {
            self.now_ns = until_ns;
            return false;
        }
        // Time that does not go on is nobody's: a stack that wants to be polled now has to come to an end.
        self.now_ns = next_ns.max(self.now_ns + 1);
        while let Some(entry) = self.wire.first_entry()
            && entry.key().0 <= self.now_ns
        {
            let (to, mut frame) = entry.remove();
            let verified = self.joined;
            self.sides[to].stack.deliver(&mut frame, verified, self.now_ns);
        }
        true
    }

    pub fn run(&mut self, for_ns: u64) {
        let until_ns = self.now_ns + for_ns;
        while self.step(until_ns) {}
        self.settle();
    }

    /// Runs until something is so, or fails after a time.
    pub fn until(&mut self, limit_ns: u64, mut so: impl FnMut(&mut Self) -> bool) {
        let until_ns = self.now_ns + limit_ns;
        while !so(self) {
            assert!(self.step(until_ns), "it did not happen within {limit_ns} ns");
        }
    }

    /// Takes what a socket has become ready for since this was last asked.
    pub fn ready(&mut self, side: usize, socket: Socket) -> Readiness {
        self.sides[side].ready.remove(&socket).unwrap_or(Readiness::empty())
    }

    /// A connection from the first side to a listener of the second: both ends.
    pub fn connected(&mut self, listener: Socket, to: abi::network::Address) -> (Socket, Socket) {
        let client = self.sides[0].stack.connect(to, self.now_ns).expect("a way");
        let mut server = None;
        self.until(200 * SECOND_NS, |world| {
            if server.is_none() {
                server = world.sides[1].stack.accept(listener).expect("a listener");
            }
            let connected = Event::Connected { socket: client, result: Ok(()) };
            server.is_some() && world.sides[0].events.contains(&connected)
        });
        (client, server.expect("a connection").0)
    }

    pub fn pair(&mut self) -> (Socket, Socket) {
        let listener = self.sides[1].stack.listen(80, 16).expect("a free port");
        let pair = self.connected(listener, address_4(2, 80));
        self.sides[1].stack.close(listener, self.now_ns);
        pair
    }

    pub fn send_bytes(&mut self, side: usize, socket: Socket, bytes: &[u8]) -> Option<usize> {
        self.sides[side].stack.send(socket, bytes, false, self.now_ns).expect("a connection")
    }

    /// Everything that can be received now; `true` with the end of the data.
    pub fn receive_all(&mut self, side: usize, socket: Socket) -> (Vec<u8>, bool) {
        let mut received = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            let count = self.sides[side].stack.receive(socket, &mut buffer, false, self.now_ns);
            match count.expect("a connection") {
                None => return (received, false),
                Some(0) => return (received, true),
                Some(count) => received.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Sends bytes from one end to the other until all have arrived, by events alone.
    pub fn transfer(&mut self, from: usize, sender: Socket, receiver: Socket, bytes: &[u8], limit_ns: u64) {
        let mut sent = 0;
        let mut received = Vec::with_capacity(bytes.len());
        let mut writable = true;
        let mut readable = true;
        self.until(limit_ns, |world| {
            writable |= world.ready(from, sender).contains(Readiness::WRITE);
            readable |= world.ready(1 - from, receiver).contains(Readiness::READ);
            if writable && sent < bytes.len() {
                let count = world.send_bytes(from, sender, &bytes[sent..]);
                sent += count.unwrap_or(0);
                writable = sent == bytes.len();
            }
            if readable {
                received.extend(world.receive_all(1 - from, receiver).0);
                readable = false;
            }
            received.len() == bytes.len()
        });
        assert!(received == bytes, "what arrived is not what was sent");
    }
}

/// Bytes that tell where they are.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut dice = Dice(length as u64);
    (0..length.div_ceil(8)).flat_map(|_| dice.next().to_le_bytes()).take(length).collect()
}
