//! What a packet costs with few and with many connections, what a quiet connection holds, and how fast two
//! stacks back to back are with and without a device that cuts segments. Run it with `--release`.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

use network::{Configuration, Event, LONGEST_FRAME, Link, Offloads, Socket, Stack, Version4, Version6, Work};

const SECOND_NS: u64 = 1_000_000_000;

/// Frames in buffers that are used again.
#[derive(Default)]
struct Queue {
    sent: VecDeque<(Vec<u8>, usize, bool)>,
    free: Vec<Vec<u8>>,
}

impl Link for Queue {
    fn has_room(&mut self) -> bool {
        self.sent.len() < 256
    }

    fn transmit(&mut self, length: usize, fill: &mut dyn FnMut(&mut [u8]) -> Work) {
        let mut buffer = self.free.pop().unwrap_or_else(|| vec![0; LONGEST_FRAME]);
        let work = fill(&mut buffer[..length]);
        self.sent.push_back((buffer, length, work.checksum.is_some()));
    }
}

struct Pair {
    stacks: [Stack; 2],
    queues: [Queue; 2],
    now_ns: u64,
    frames: u64,
}

impl Pair {
    fn new(offloads: Offloads) -> Self {
        let stack = |number: u8| {
            let configuration = Configuration {
                hardware: [2, 0, 0, 0, 0, number],
                mtu: 1500,
                offloads,
                version_4: Version4::Static { address: [10, 0, 0, number].into(), prefix: 8, gateway: None },
                version_6: Version6::Absent,
                memory: 256 << 20,
                name_servers: Vec::new(),
            };
            Stack::new(&configuration, [number; 32], 0).expect("a sound configuration")
        };
        Self { stacks: [stack(1), stack(2)], queues: Default::default(), now_ns: SECOND_NS, frames: 0 }
    }

    /// One way there: poll, and deliver what came of it.
    fn carry(&mut self, from: usize) -> bool {
        self.stacks[from].poll(self.now_ns, &mut self.queues[from]);
        let mut any = false;
        while let Some((mut buffer, length, verified)) = self.queues[from].sent.pop_front() {
            self.frames += 1;
            any = true;
            self.stacks[1 - from].deliver(&mut buffer[..length], verified, self.now_ns);
            self.queues[from].free.push(buffer);
        }
        any
    }

    fn exchange(&mut self) {
        while self.carry(0) | self.carry(1) {
            self.now_ns += 1000;
        }
    }

    /// Sends the one segment that there is to send; what else comes before it is delivered.
    fn segment(&mut self) -> (Vec<u8>, usize) {
        loop {
            self.stacks[0].poll(self.now_ns, &mut self.queues[0]);
            while let Some((mut buffer, length, verified)) = self.queues[0].sent.pop_front() {
                if length > 1000 {
                    return (buffer, length);
                }
                self.stacks[1].deliver(&mut buffer[..length], verified, self.now_ns);
                self.carry(1);
            }
        }
    }

    fn connect(&mut self, listener: Socket) -> (Socket, Socket) {
        let client = self.stacks[0].connect(([10, 0, 0, 2], 80).into(), self.now_ns).expect("a way");
        self.exchange();
        let server = self.stacks[1].accept(listener).expect("a listener").expect("a connection").0;
        let connected = Event::Connected { socket: client, result: Ok(()) };
        while self.stacks[0].next_event().expect("news") != connected {}
        while self.stacks[1].next_event().is_some() {}
        (client, server)
    }
}

fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").expect("Linux");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number") * 4096
}

/// What a received segment of 1000 bytes costs while others are quiet, with the read and the poll it causes.
fn segment(connections: usize) {
    let before = resident();
    let mut pair = Pair::new(Offloads { checksum: true, segmentation_4: true, segmentation_6: true });
    let listener = pair.stacks[1].listen(80, 4096).expect("a free port");
    let (mut client, mut server) = pair.connect(listener);
    for _ in 1..connections {
        (client, server) = pair.connect(listener);
    }
    pair.now_ns += 100 * SECOND_NS;
    pair.exchange();
    // Both ends are here; what freed buffers have left behind is a constant.
    let each = resident().saturating_sub(before) / connections / 2;
    let rounds = 100_000;
    let mut spent = Duration::ZERO;
    let mut buffer = [0; 2000];
    for _ in 0..rounds {
        pair.stacks[0].send(client, &[7; 1000], false, pair.now_ns).expect("a connection");
        let (mut frame, length) = pair.segment();
        let start = Instant::now();
        let now_ns = pair.now_ns;
        pair.stacks[1].deliver(&mut frame[..length], true, now_ns);
        let count = pair.stacks[1].receive(server, &mut buffer, false, now_ns).expect("a connection");
        pair.stacks[1].poll(now_ns, &mut pair.queues[1]);
        while pair.stacks[1].next_event().is_some() {}
        spent += start.elapsed();
        assert_eq!(count, Some(1000));
        pair.queues[0].free.push(frame);
        pair.now_ns += 11_000_000;
        pair.exchange();
        while pair.stacks[0].next_event().is_some() {}
    }
    println!("{connections:6} connections: {} ns per segment, {each} bytes each", spent.as_nanos() / rounds);
    if connections > 1 {
        return;
    }
    // The same for a connection that sleeps.
    let mut spent = Duration::ZERO;
    for _ in 0..rounds / 10 {
        pair.now_ns += 2 * SECOND_NS;
        pair.exchange();
        pair.stacks[0].send(client, &[7; 1000], false, pair.now_ns).expect("a connection");
        let (mut frame, length) = pair.segment();
        assert_eq!(pair.stacks[1].usage().0, 0);
        let start = Instant::now();
        pair.stacks[1].deliver(&mut frame[..length], true, pair.now_ns);
        spent += start.elapsed();
        assert!(pair.stacks[1].usage().0 > 0);
        pair.stacks[1].receive(server, &mut buffer, false, pair.now_ns).expect("a connection");
        pair.queues[0].free.push(frame);
        pair.exchange();
        pair.now_ns += 11_000_000;
        pair.exchange();
    }
    println!("    one that sleeps: {} ns to wake for a segment", spent.as_nanos() / (rounds / 10));
}

/// Bytes per second from one stack to the other, both on one processor, and frames for it.
fn bulk(name: &str, offloads: Offloads) {
    let mut pair = Pair::new(offloads);
    let listener = pair.stacks[1].listen(80, 16).expect("a free port");
    let (client, server) = pair.connect(listener);
    let total: usize = 4 << 30;
    let (mut sent, mut received) = (0, 0);
    let bytes = vec![7; 256 << 10];
    let mut buffer = vec![0; 256 << 10];
    let start = Instant::now();
    while received < total {
        if sent < total {
            let part = &bytes[..bytes.len().min(total - sent)];
            sent += pair.stacks[0].send(client, part, false, pair.now_ns).expect("a connection").unwrap_or(0);
        }
        pair.carry(0);
        while let Some(count @ 1..) =
            pair.stacks[1].receive(server, &mut buffer, false, pair.now_ns).expect("a connection")
        {
            received += count;
        }
        pair.carry(1);
        pair.now_ns += 20_000;
        for stack in &mut pair.stacks {
            while stack.next_event().is_some() {}
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let rate = total as f64 / seconds / 1e9;
    println!(
        "{name}: {rate:.2} GB/s, {} frames, {} bytes per frame",
        pair.frames,
        total as u64 / pair.frames
    );
}

fn main() {
    // One number alone measures memory best: nothing has been freed before.
    if let Some(connections) = std::env::args().nth(1).and_then(|word| word.parse().ok()) {
        return segment(connections);
    }
    for connections in [1, 100, 1000, 10_000, 28_000] {
        segment(connections);
    }
    bulk("no offloads", Offloads::default());
    bulk("checksum", Offloads { checksum: true, ..Offloads::default() });
    bulk(
        "checksum and segmentation",
        Offloads { checksum: true, segmentation_4: true, segmentation_6: true },
    );
}
