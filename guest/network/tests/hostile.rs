//! Whatever arrives, nothing breaks: neither noise, nor frames that were good before a few bits changed, nor
//! segments of a peer that knows every sequence number and keeps no rule.

mod world;

use abi::network::{Address, Shutdown};
use network::{Socket, Stack};
use world::*;

/// A stack with something of everything, and its peer's last word on a connection.
struct Target {
    stack: Stack,
    sent: Sent,
    listener: Socket,
    connections: Vec<Socket>,
    datagram: Socket,
    now_ns: u64,
    /// Sequence numbers seen in what it has sent: its own, and what it acknowledges.
    sequence: u32,
    acknowledged: u32,
    /// Ports of its connections out.
    ports: Vec<u16>,
    received: usize,
}

impl Target {
    fn new(seed: u64) -> Self {
        let now_ns = 77 * SECOND_NS;
        let mut configuration = configuration(2, OFFLOADS);
        configuration.name_servers = vec![[10, 0, 0, 1].into()];
        let mut stack = Stack::new(&configuration, [seed as u8; 32], now_ns).unwrap();
        let listener = stack.listen(80, 8).unwrap();
        let datagram = stack.bind(53).unwrap();
        let mut target = Self {
            stack,
            sent: Sent { room: 64, ..Sent::default() },
            listener,
            connections: Vec::new(),
            datagram,
            now_ns,
            sequence: 0,
            acknowledged: 0,
            ports: vec![80],
            received: 0,
        };
        // Who the peer is.
        let mut arp = vec![0xff; 42];
        arp[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 8, 6]);
        arp[14..42].copy_from_slice(&[
            0, 1, 8, 0, 6, 4, 0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2,
        ]);
        target.stack.send_to(datagram, address_4(1, 9), b"", now_ns).unwrap();
        target.poll();
        target.deliver(arp);
        target
    }

    fn deliver(&mut self, mut frame: Vec<u8>) {
        self.stack.deliver(&mut frame, true, self.now_ns);
    }

    fn poll(&mut self) {
        self.stack.poll(self.now_ns, &mut self.sent);
        while let Some((frame, _)) = self.sent.frames.pop_front() {
            if frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6 {
                let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
                (self.sequence, self.acknowledged) = (word(38), word(42));
                let port = u16::from_be_bytes([frame[34], frame[35]]);
                if !self.ports.contains(&port) {
                    self.ports.push(port);
                }
            }
        }
        while self.stack.next_event().is_some() {}
    }

    /// Something that a program might do.
    fn act(&mut self, dice: &mut Dice) {
        let now_ns = self.now_ns;
        let connection = self.connections.get(dice.below(8) as usize).copied();
        let mut buffer = [0; 3000];
        match (dice.below(12), connection) {
            (0, _) if self.connections.len() < 8 => {
                let peer: Address = address_4(1, 1 + dice.below(3) as u16);
                self.connections.extend(self.stack.connect(peer, now_ns));
            }
            (1..4, Some(connection)) => {
                let _ = self.stack.send(
                    connection,
                    &pattern(dice.below(20_000) as usize),
                    dice.happens(100),
                    now_ns,
                );
            }
            (4..8, Some(connection)) => {
                let peek = dice.happens(100);
                if let Ok(Some(count)) = self.stack.receive(connection, &mut buffer, peek, now_ns) {
                    self.received += count;
                }
            }
            (8, Some(connection)) => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both][dice.below(3) as usize];
                let _ = self.stack.shutdown(connection, how, now_ns);
            }
            (9, Some(connection)) if dice.happens(300) => {
                self.stack.close(connection, now_ns);
                self.connections.retain(|other| *other != connection);
            }
            (10, _) => {
                if let Ok(Some((accepted, _))) = self.stack.accept(self.listener) {
                    self.connections.push(accepted);
                }
            }
            (11, _) => {
                let _ = self.stack.receive_from(self.datagram, &mut buffer, false);
            }
            _ => {}
        }
        for connection in &self.connections {
            let _ = self.stack.readiness(*connection);
        }
    }
}

fn near(dice: &mut Dice, at: u32) -> u32 {
    let small = dice.below(40_000) as u32;
    match dice.below(12) {
        0..5 => at,
        5 => at.wrapping_add(small),
        6 => at.wrapping_sub(small),
        7 => at.wrapping_add(1),
        8 => at.wrapping_sub(1),
        9 => at.wrapping_add(1 << 31).wrapping_sub(dice.below(3) as u32),
        10 => at.wrapping_add((1 << 30) + small),
        _ => dice.next() as u32,
    }
}

/// A segment from the peer that is well-formed and perhaps nothing else.
fn segment(dice: &mut Dice, target: &Target) -> Vec<u8> {
    let options = if dice.happens(300) { dice.below(11) as usize * 4 } else { 0 };
    let payload = if dice.happens(400) { dice.below(3000) as usize } else { 0 };
    let length = 20 + 20 + options + payload;
    let mut frame = vec![0; 14 + length];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(length as u16).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    seal(&mut frame);
    let port = target.ports[dice.below(target.ports.len() as u64) as usize];
    let flags = match dice.below(10) {
        0..5 => 16,
        5 => 2,
        6 => 17,
        7 => 18,
        8 if dice.happens(200) => 4,
        _ => dice.next() as u8,
    };
    frame[34..36].copy_from_slice(&(1 + dice.below(3) as u16).to_be_bytes());
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    let (sequence, acknowledged) = (near(dice, target.acknowledged), near(dice, target.sequence));
    frame[38..42].copy_from_slice(&sequence.to_be_bytes());
    frame[42..46].copy_from_slice(&acknowledged.to_be_bytes());
    frame[46] = ((20 + options) * 4) as u8;
    frame[47] = flags;
    let window = [0, 1, 300, u64::from(u16::MAX)][dice.below(4) as usize];
    frame[48..50].copy_from_slice(&(dice.below(window + 1) as u16).to_be_bytes());
    let mut at = 54;
    while at < 54 + options {
        let kinds: [&[u8]; 8] =
            [&[1], &[2, 4, 5, 0xb4], &[3, 3, 7], &[4, 2], &[2, 4, 0, 1], &[8, 10], &[0], &[5, 10]];
        for byte in kinds[dice.below(8) as usize] {
            if at < 54 + options {
                frame[at] = if dice.happens(20) { dice.next() as u8 } else { *byte };
                at += 1;
            }
        }
    }
    frame
}

fn seal(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let mut sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn segments_that_keep_no_rule() {
    let mut received = 0;
    // More of them with SEEDS=100000.
    let seeds = std::env::var("SEEDS").map_or(300, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        let mut dice = Dice(seed);
        let mut target = Target::new(seed);
        for _ in 0..400 {
            let frame = segment(&mut dice, &target);
            target.deliver(frame);
            if dice.happens(700) {
                target.poll();
            }
            if dice.happens(500) {
                target.act(&mut dice);
            }
            target.now_ns += match dice.below(20) {
                0 => dice.below(3 * SECOND_NS),
                1 => dice.below(100 * MILLISECOND_NS),
                _ => dice.below(100_000),
            };
        }
        received += target.received;
        for connection in std::mem::take(&mut target.connections) {
            target.stack.close(connection, target.now_ns);
        }
        target.stack.close(target.listener, target.now_ns);
        for _ in 0..100 {
            target.now_ns += 10 * SECOND_NS;
            target.poll();
        }
        assert_eq!(target.stack.usage(), (0, 0), "seed {seed}");
    }
    assert!(received > 10_000, "only {received} bytes have ever arrived");
}

/// Frames of a session that does a bit of everything, with the side that they go to.
fn session() -> Vec<(usize, Vec<u8>)> {
    use std::sync::{Arc, Mutex};
    let frames = Arc::new(Mutex::new(Vec::new()));
    let mut world = World::new(1);
    let seen = frames.clone();
    world.watch = Some(Box::new(move |from, frame| seen.lock().unwrap().push((1 - from, frame.to_vec()))));
    let (client, server) = world.pair();
    world.transfer(0, client, server, &pattern(5000), SECOND_NS);
    let one = world.sides[0].stack.bind(0).unwrap();
    let _two = world.sides[1].stack.bind(53).unwrap();
    let now_ns = world.now_ns;
    for destination in [address_4(2, 53), address_6(2, 53), address_4(2, 54), address_6(2, 54)] {
        world.sides[0].stack.send_to(one, destination, &pattern(4000), now_ns).unwrap();
    }
    world.run(SECOND_NS);
    world.sides[0].stack.close(client, world.now_ns);
    world.run(SECOND_NS);
    world.sides[1].stack.close(server, world.now_ns);
    world.run(SECOND_NS);
    // An echo, an error report, an advertisement, a lease.
    let mut others: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut echo = vec![0; 60];
    echo[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    echo[14..34].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    echo[34..36].copy_from_slice(&[8, 0]);
    seal(&mut echo);
    others.push((1, echo));
    let frames = frames.lock().unwrap().clone();
    others.into_iter().chain(frames).collect()
}

#[test]
fn good_frames_with_a_few_bits_changed() {
    let frames = session();
    assert!(frames.len() > 30);
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut world = World::new(seed);
        world.faults = Faults { loss: 0, duplication: 0, reordering: 100, corruption: 0 };
        let (client, server) = world.pair();
        for _ in 0..300 {
            let (to, mut frame) = frames[dice.below(frames.len() as u64) as usize].clone();
            for _ in 0..dice.below(4) {
                let at = dice.below(frame.len().min(90) as u64) as usize;
                frame[at] =
                    if dice.happens(500) { dice.next() as u8 } else { frame[at] ^ 1 << dice.below(8) };
            }
            if dice.happens(200) {
                frame.truncate(dice.below(frame.len() as u64 + 1) as usize);
            }
            if dice.happens(500) && frame.len() > 34 && frame[12..14] == [8, 0] {
                seal(&mut frame);
            }
            let now_ns = world.now_ns;
            world.sides[to].stack.deliver(&mut frame, dice.happens(500), now_ns);
            if dice.happens(100) {
                world.run(dice.below(SECOND_NS));
            }
        }
        // A neighbour that was believed for a while may be a lie.
        world.transfer(0, client, server, &pattern(2000), 300 * SECOND_NS);
    }
}

#[test]
fn noise() {
    let mut dice = Dice(9);
    let mut target = Target::new(9);
    for _ in 0..200_000 {
        let mut frame: Vec<u8> = (0..dice.below(120)).map(|_| dice.next() as u8).collect();
        if frame.len() > 14 {
            frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
            let kind = [[8, 0], [0x86, 0xdd], [8, 6]][dice.below(3) as usize];
            frame[12..14].copy_from_slice(&kind);
            frame[14] = if kind[0] == 8 { 0x40 | frame[14] & 15 } else { 0x60 };
        }
        target.deliver(frame);
        if dice.happens(50) {
            target.poll();
        }
    }
}
