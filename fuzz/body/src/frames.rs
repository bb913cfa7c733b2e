//! Frames from the network: whatever arrives, in whatever order, nothing breaks, little is sent for it, and
//! nothing is left behind when everything has been closed.

use std::collections::VecDeque;

use abi::network::Shutdown;
use network::{Configuration, Event, Link, Offloads, Stack, Version4, Version6, Work};

const SECOND_NS: u64 = 1_000_000_000;
/// Bytes before each frame: its length, whether its checksum counts as verified, whether zeros follow, and how long
/// it took.
const HEADER: usize = 3;
/// As long as a card can make a frame out of merged buffers.
const LONGEST: usize = 128 << 10;

#[derive(Default)]
struct Sent(VecDeque<Vec<u8>>);

impl Link for Sent {
    fn has_room(&mut self) -> bool {
        self.0.len() < 64
    }

    fn transmit(&mut self, length: usize, fill: &mut dyn FnMut(&mut [u8]) -> Work) {
        let mut frame = vec![0xa5; length];
        let work = fill(&mut frame);
        assert!(work.segmentation.is_some() || length <= 1514);
        self.0.push_back(frame);
    }
}

fn stack(number: u8) -> Stack {
    let configuration = Configuration {
        hardware: [2, 0, 0, 0, 0, number],
        mtu: 1500,
        offloads: Offloads { checksum: false, segmentation_4: false, segmentation_6: false },
        version_4: Version4::Static { address: [10, 0, 0, number].into(), prefix: 24, gateway: None },
        version_6: Version6::Static {
            address: [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)].into(),
            prefix: 64,
            gateway: None,
        },
        memory: 256 << 20,
        name_servers: Vec::new(),
    };
    Stack::new(&configuration, [number; 32], SECOND_NS).expect("a sound configuration")
}

/// Takes frames, each behind its header.
pub fn receive(bytes: &[u8]) {
    let mut stack = stack(2);
    let mut sent = Sent::default();
    let mut now_ns = SECOND_NS;
    let listener = stack.listen(80, 4).expect("a free port");
    let datagram = stack.bind(53).expect("a free port");
    let mut connections = Vec::new();
    let mut rest = bytes;
    while let Some((header, behind)) = rest.split_first_chunk::<HEADER>() {
        let length = usize::from(u16::from_be_bytes([header[0] & 15, header[1]])).min(behind.len());
        let (frame, behind) = behind.split_at(length);
        rest = behind;
        let mut frame = frame.to_vec();
        if header[0] & 0x40 != 0 {
            frame.resize(LONGEST, 0);
        }
        now_ns += u64::from(header[2]).pow(3) * 1000;
        stack.deliver(&mut frame, header[0] & 0x80 != 0, now_ns);
        stack.poll(now_ns, &mut sent);
        assert!(sent.0.len() <= 64);
        sent.0.clear();
        while stack.next_event().is_some() {}
        while let Ok(Some((connection, _))) = stack.accept(listener) {
            connections.push(connection);
        }
        let mut buffer = [0; 600];
        let _ = stack.receive_from(datagram, &mut buffer, false);
        for connection in &connections {
            // What comes goes back, and the end as well.
            match stack.receive(*connection, &mut buffer, false, now_ns) {
                Ok(Some(0)) => drop(stack.shutdown(*connection, Shutdown::Write, now_ns)),
                Ok(Some(count)) => drop(stack.send(*connection, &buffer[..count], false, now_ns)),
                Ok(None) | Err(_) => {}
            }
        }
    }
    stack.close(listener, now_ns);
    for connection in connections {
        stack.close(connection, now_ns);
    }
    for _ in 0..20 {
        now_ns += 10 * SECOND_NS;
        stack.poll(now_ns, &mut sent);
        sent.0.clear();
    }
    assert_eq!(stack.usage(), (0, 0), "something is left");
}

/// What a peer sends in the course of a short visit.
pub fn visits() -> Vec<Vec<u8>> {
    [[10, 0, 0, 2].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 2].into()].map(visit).to_vec()
}

fn visit(address: std::net::IpAddr) -> Vec<u8> {
    let (mut peer, mut own) = (stack(1), stack(2));
    let listener = own.listen(80, 4).expect("a free port");
    let mut now_ns = SECOND_NS;
    let mut transcript = Vec::new();
    let mut accepted = false;
    let client = peer.connect((address, 80).into(), now_ns).expect("a way");
    let datagram = peer.bind(9).expect("a free port");
    peer.send_to(datagram, (address, 53).into(), &[1; 2000], now_ns).expect("a way");
    for round in 0..12 {
        let mut sent = Sent::default();
        peer.poll(now_ns, &mut sent);
        for mut frame in sent.0.drain(..) {
            let [high, low] = (frame.len() as u16).to_be_bytes();
            transcript.extend([high, low, 1]);
            transcript.extend_from_slice(&frame);
            now_ns += 1000;
            own.deliver(&mut frame, false, now_ns);
        }
        own.poll(now_ns, &mut sent);
        sent.0.drain(..).for_each(|mut frame| peer.deliver(&mut frame, false, now_ns));
        accepted |= own.accept(listener).is_ok_and(|found| found.is_some());
        while let Some(event) = peer.next_event() {
            if let Event::Connected { result: Ok(()), .. } = event {
                peer.send(client, b"GET / HTTP/1.0\r\n\r\n", false, now_ns).expect("a connection");
            }
        }
        if round == 8 {
            peer.close(client, now_ns);
        }
    }
    assert!(accepted, "the handshake was for nothing");
    transcript
}
