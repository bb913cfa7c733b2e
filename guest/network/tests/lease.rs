//! Addresses that come from the wire: leases, and routers' advertisements.

mod world;

use std::net::IpAddr;

use abi::Code;
use network::{Configuration, Event, Offloads, Stack, Subnet, Version4, Version6};
use world::*;

const SERVER: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A wire with a server for leases, and a router.
struct Wire {
    stack: Stack,
    sent: Sent,
    now_ns: u64,
    /// The address that is leased, if any, for how many seconds, and how often it was.
    address: Option<[u8; 4]>,
    seconds: u32,
    leases: u32,
    /// The length of packets that leases tell.
    mtu: u16,
    router: bool,
    solicitations: u32,
}

fn sum(bytes: &[u8], mut sum: u32) -> u16 {
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

impl Wire {
    fn new(version_4: Version4, version_6: Version6) -> Self {
        let configuration = Configuration {
            hardware: OWN,
            mtu: 1500,
            offloads: Offloads::default(),
            version_4,
            version_6,
            memory: 256 << 20,
            name_servers: Vec::new(),
        };
        let now_ns = 5 * SECOND_NS;
        Self {
            stack: Stack::new(&configuration, [3; 32], now_ns).unwrap(),
            sent: Sent { room: 64, ..Sent::default() },
            now_ns,
            address: Some([192, 168, 7, 20]),
            seconds: 600,
            leases: 0,
            mtu: 1400,
            router: true,
            solicitations: 0,
        }
    }

    fn run(&mut self, for_ns: u64) {
        let until_ns = self.now_ns + for_ns;
        loop {
            let next_ns = self.stack.poll(self.now_ns, &mut self.sent);
            let frames: Vec<_> = self.sent.frames.drain(..).collect();
            for (frame, _) in &frames {
                if let Some(mut answer) = self.answer(frame) {
                    self.stack.deliver(&mut answer, false, self.now_ns);
                }
            }
            let next_ns = if frames.is_empty() { next_ns.unwrap_or(until_ns) } else { self.now_ns };
            if next_ns >= until_ns {
                self.now_ns = until_ns;
                return;
            }
            self.now_ns = next_ns.max(self.now_ns + 1000);
        }
    }

    fn answer(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        if frame[12..14] == [8, 0] && frame[23] == 17 && frame[36..38] == [0, 67] {
            return self.lease(&frame[42..]);
        }
        if frame[12..14] == [8, 6] && frame[38..42] == [192, 168, 7, 1] && self.address.is_some() {
            let mut answer =
                [&OWN[..], &SERVER, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &SERVER, &[192, 168, 7, 1]].concat();
            answer.extend_from_slice(&frame[22..32]);
            return Some(answer);
        }
        if frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && frame[54] == 133 {
            self.solicitations += 1;
            return self.router.then(|| self.advertisement(1800));
        }
        None
    }

    /// Answers a DISCOVER by an OFFER, a REQUEST by an ACK, or a NAK.
    fn lease(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let mut options = &message[240..];
        let mut kind = 0;
        while options[0] != 255 {
            if options[0] == 53 {
                kind = options[2];
            }
            options = if options[0] == 0 { &options[1..] } else { &options[2 + usize::from(options[1])..] };
        }
        let known = self.address?;
        let answer = match kind {
            1 => 2,
            3 => {
                self.leases += 1;
                5
            }
            _ => return None,
        };
        let mut body = vec![0; 240];
        body[..4].copy_from_slice(&[2, 1, 6, 0]);
        body[4..8].copy_from_slice(&message[4..8]);
        body[16..20].copy_from_slice(&known);
        body[28..34].copy_from_slice(&OWN);
        body[236..240].copy_from_slice(&[99, 130, 83, 99]);
        body.extend([53, 1, answer, 54, 4, 192, 168, 7, 1, 51, 4]);
        body.extend(self.seconds.to_be_bytes());
        body.extend([26, 2]);
        body.extend(self.mtu.to_be_bytes());
        body.extend([1, 4, 255, 255, 255, 0, 3, 4, 192, 168, 7, 1, 6, 8, 192, 168, 7, 1, 9, 9, 9, 9, 255]);
        let mut frame = [&OWN[..], &SERVER, &[8, 0, 0x45, 0]].concat();
        frame.extend((28 + body.len() as u16).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 7, 1]);
        frame.extend(known);
        let header = sum(&frame[14..34], 0);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
        frame.extend([0, 67, 0, 68]);
        frame.extend((8 + body.len() as u16).to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(body);
        Some(frame)
    }

    /// A router's word: prefix fd77::/64, and itself for some seconds.
    fn advertisement(&self, seconds: u16) -> Vec<u8> {
        let mut frame =
            [&[0x33, 0x33, 0, 0, 0, 1][..], &SERVER, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 48, 58, 255]].concat();
        frame.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        frame.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        let mut message = vec![134, 0, 0, 0, 64, 0];
        message.extend(seconds.to_be_bytes());
        message.extend([0; 8]);
        message.extend([3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
        message.extend([0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let pseudo: u32 =
            frame[22..54].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let checksum = sum(&message, pseudo + 58 + message.len() as u32);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(message);
        frame
    }
}

const LEASED: Subnet = Subnet { address: IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 7, 20)), prefix: 24 };

#[test]
fn a_lease_is_taken_renewed_and_lost() {
    let mut wire = Wire::new(Version4::Dynamic, Version6::Absent);
    assert_eq!(wire.stack.addresses(), []);
    assert_eq!(wire.stack.connect(([9, 9, 9, 9], 53).into(), wire.now_ns), Err(Code(101)));
    wire.run(5 * SECOND_NS);
    assert_eq!(wire.stack.addresses(), [LEASED]);
    assert_eq!(wire.stack.gateways(), ["192.168.7.1".parse::<IpAddr>().unwrap()]);
    let servers: Vec<IpAddr> = vec!["192.168.7.1".parse().unwrap(), "9.9.9.9".parse().unwrap()];
    assert_eq!(wire.stack.name_servers(), servers);
    assert_eq!(wire.leases, 1);
    wire.run(2000 * SECOND_NS);
    assert!((5..9).contains(&wire.leases), "{} leases in 2000 seconds", wire.leases);
    assert_eq!(wire.stack.addresses(), [LEASED]);
    // The server is gone; so is the address, and what was bound to it.
    let connection = wire.stack.connect(([192, 168, 7, 1], 80).into(), wire.now_ns).unwrap();
    wire.address = None;
    wire.run(1000 * SECOND_NS);
    assert_eq!(
        (wire.stack.addresses(), wire.stack.gateways(), wire.stack.name_servers()),
        (&[][..], &[][..], &[][..])
    );
    assert!(
        matches!(wire.stack.next_event(), Some(Event::Connected { socket, result: Err(_) }) if socket == connection)
    );
    wire.address = Some([192, 168, 7, 20]);
    wire.run(100 * SECOND_NS);
    assert_eq!(wire.stack.addresses(), [LEASED]);
}

#[test]
fn a_lease_tells_how_long_packets_may_be() {
    for (told, longest) in [(1400, 1414), (100, 1514), (9000, 1514)] {
        let mut wire = Wire::new(Version4::Dynamic, Version6::Absent);
        wire.mtu = told;
        wire.run(5 * SECOND_NS);
        let datagram = wire.stack.bind(0).unwrap();
        wire.stack.send_to(datagram, ([192, 168, 7, 1], 9).into(), &[0; 4000], wire.now_ns).unwrap();
        wire.run(SECOND_NS);
        wire.stack.send_to(datagram, ([192, 168, 7, 1], 9).into(), &[0; 4000], wire.now_ns).unwrap();
        wire.stack.poll(wire.now_ns, &mut wire.sent);
        let found = wire.sent.frames.iter().map(|(frame, _)| frame.len()).max().unwrap();
        assert!((longest - 8..=longest).contains(&found), "{found} for {told}");
    }
}

#[test]
fn another_lease_ends_connections_of_the_first() {
    let mut wire = Wire::new(Version4::Dynamic, Version6::Absent);
    wire.run(5 * SECOND_NS);
    let _ = wire.stack.connect(([192, 168, 7, 1], 80).into(), wire.now_ns).unwrap();
    wire.address = Some([192, 168, 7, 21]);
    wire.run(400 * SECOND_NS);
    assert_eq!(wire.stack.addresses().len(), 1);
    assert_ne!(wire.stack.addresses(), [LEASED]);
    assert_eq!(wire.stack.usage().1, 0);
}

#[test]
fn a_router_gives_a_prefix_and_itself() {
    let mut wire = Wire::new(Version4::Absent, Version6::Automatic);
    wire.run(10 * SECOND_NS);
    let link_local = Subnet { address: "fe80::ff:fe00:2".parse().unwrap(), prefix: 64 };
    let global = Subnet { address: "fd77::ff:fe00:2".parse().unwrap(), prefix: 64 };
    assert_eq!(wire.stack.addresses(), [link_local, global]);
    assert_eq!(wire.stack.gateways(), ["fe80::9".parse::<IpAddr>().unwrap()]);
    assert!(wire.stack.connect("[2001:db8::1]:80".parse().unwrap(), wire.now_ns).is_ok());
    let mut farewell = wire.advertisement(0);
    wire.stack.deliver(&mut farewell, false, wire.now_ns);
    wire.run(10 * SECOND_NS);
    assert_eq!(wire.stack.gateways(), [] as [IpAddr; 0]);
    assert_eq!(wire.stack.addresses().len(), 2);
    wire.run(4000 * SECOND_NS);
    assert_eq!(wire.stack.addresses(), [link_local]);
}

#[test]
fn without_a_router_nothing_spins() {
    let mut wire = Wire::new(Version4::Dynamic, Version6::Automatic);
    wire.router = false;
    wire.address = None;
    wire.run(100 * SECOND_NS);
    let mut polls = 0;
    let until_ns = wire.now_ns + 1000 * SECOND_NS;
    while wire.now_ns < until_ns {
        let next_ns = wire.stack.poll(wire.now_ns, &mut wire.sent);
        wire.sent.frames.clear();
        wire.now_ns = next_ns.expect("a server is still looked for").max(wire.now_ns);
        polls += 1;
        assert!(polls < 3000, "polled {polls} times");
    }
    assert!(wire.solicitations > 0);
}

#[test]
fn what_cannot_be_a_network_is_refused() {
    let good = configuration(1, OFFLOADS);
    let refused = |change: fn(&mut Configuration)| {
        let mut configuration = good.clone();
        change(&mut configuration);
        Stack::new(&configuration, [0; 32], 0).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|configuration| configuration.hardware = [1, 0, 0, 0, 0, 1]));
    assert!(refused(|configuration| configuration.hardware = [0; 6]));
    assert!(refused(|configuration| configuration.mtu = 500));
    assert!(refused(|configuration| configuration.version_4 =
        Version4::Static { address: [224, 0, 0, 1].into(), prefix: 24, gateway: None }));
    assert!(refused(|configuration| configuration.version_6 =
        Version6::Static { address: std::net::Ipv6Addr::UNSPECIFIED, prefix: 64, gateway: None }));
}
