//! Ten thousand connections, long segments, and a wire that has room for little.

mod world;

use network::{Offloads, Socket};
use world::*;

#[test]
fn ten_thousand_connections_live_side_by_side() {
    let mut world = World::new(1);
    let listener = world.sides[1].stack.listen(80, 4096).unwrap();
    let mut pairs: Vec<(Socket, Socket)> = Vec::new();
    for number in 0..10_000 {
        let to = if number % 2 == 0 { address_4(2, 80) } else { address_6(2, 80) };
        pairs.push(world.connected(listener, to));
        world.sides[0].events.clear();
        world.sides[1].events.clear();
    }
    for side in &world.sides {
        assert_eq!(side.stack.usage(), (0, 10_000), "who has nothing to say sleeps");
    }
    let mut dice = Dice(1);
    for _ in 0..300 {
        let (client, server) = pairs[dice.below(10_000) as usize];
        world.transfer(0, client, server, &pattern(3000), SECOND_NS);
        world.transfer(1, server, client, &pattern(3000), SECOND_NS);
    }
    for (client, server) in pairs {
        world.sides[0].stack.close(client, world.now_ns);
        world.run(100_000);
        world.sides[1].stack.close(server, world.now_ns);
    }
    world.run(30 * SECOND_NS);
    for side in &world.sides {
        assert_eq!(side.stack.usage(), (0, 0));
    }
}

#[test]
fn a_flood_of_handshakes_leaves_room_for_an_honest_one() {
    let mut world = World::new(2);
    let listener = world.sides[1].stack.listen(80, 16).unwrap();
    world.connected(listener, address_4(2, 80));
    for source in 0..5000_u16 {
        let mut frame = vec![0; 54];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame[34..38].copy_from_slice(&[(source >> 8) as u8 | 1, source as u8, 0, 80]);
        frame[46..48].copy_from_slice(&[0x50, 2]);
        let now_ns = world.now_ns;
        world.sides[1].stack.deliver(&mut frame, true, now_ns);
    }
    let (_, flows) = world.sides[1].stack.usage();
    assert!(flows < 300, "{flows} handshakes");
    world.cut[1] = true;
    world.run(SECOND_NS / 100);
    world.cut[1] = false;
    world.connected(listener, address_4(2, 80));
}

#[test]
fn long_segments_arrive_whole_or_cut() {
    for joined in [false, true] {
        for to in [address_4(2, 80), address_6(2, 80)] {
            let mut world = World::new(3);
            world.joined = joined;
            let longest = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let seen = longest.clone();
            world.watch = Some(Box::new(move |_, frame| {
                seen.fetch_max(frame.len(), std::sync::atomic::Ordering::Relaxed);
            }));
            let listener = world.sides[1].stack.listen(80, 16).unwrap();
            let (client, server) = world.connected(listener, to);
            let bytes = pattern(20 << 20);
            world.transfer(0, client, server, &bytes, 60 * SECOND_NS);
            let longest = longest.load(std::sync::atomic::Ordering::Relaxed);
            if joined { assert!(longest > 60_000, "{longest}") } else { assert_eq!(longest, 1514) }
        }
    }
}

#[test]
fn one_version_alone_may_be_cut_by_the_device() {
    let offloads = Offloads { segmentation_6: false, ..OFFLOADS };
    let mut world = World::with(4, configuration(1, offloads), configuration(2, OFFLOADS));
    let listener = world.sides[1].stack.listen(80, 16).unwrap();
    for to in [address_4(2, 80), address_6(2, 80)] {
        let (client, server) = world.connected(listener, to);
        world.transfer(0, client, server, &pattern(5 << 20), 60 * SECOND_NS);
    }
}

#[test]
fn a_peer_with_short_segments_gets_short_ones() {
    let mut first = configuration(1, OFFLOADS);
    first.mtu = 1280;
    let mut world = World::with(5, first, configuration(2, OFFLOADS));
    world.mtu = 1500;
    world.watch = Some(Box::new(|_, frame| assert!(frame.len() <= 1294)));
    let (client, server) = world.pair();
    world.transfer(1, server, client, &pattern(1 << 20), 60 * SECOND_NS);
    world.transfer(0, client, server, &pattern(1 << 20), 60 * SECOND_NS);
}

#[test]
fn a_link_with_little_room_carries_all() {
    let mut world = World::new(6);
    for side in &mut world.sides {
        side.sent.room = 1;
    }
    let listener = world.sides[1].stack.listen(80, 64).unwrap();
    let pairs: Vec<_> = (0..20).map(|_| world.connected(listener, address_4(2, 80))).collect();
    for (client, server) in pairs {
        world.transfer(0, client, server, &pattern(100_000), 60 * SECOND_NS);
    }
}

#[test]
fn a_narrow_way_is_adapted_to() {
    for to in [address_4(2, 80), address_6(2, 80)] {
        let mut world = World::new(7);
        let listener = world.sides[1].stack.listen(80, 16).unwrap();
        let (client, server) = world.connected(listener, to);
        world.send_bytes(0, client, &pattern(3000));
        // The first segment is thrown away by a router that says why.
        world.faults.loss = 1000;
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = seen.clone();
        world.watch = Some(Box::new(move |from, frame| {
            if from == 0 && frame.len() == 1514 {
                noted.lock().unwrap().push(frame.to_vec());
            }
        }));
        world.run(10 * MILLISECOND_NS);
        let lost = seen.lock().unwrap().first().expect("a long segment").clone();
        let mut report = lost[..14].to_vec();
        report.rotate_left(6);
        report[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        report[12..14].copy_from_slice(&lost[12..14]);
        if to.is_ipv4() {
            report.extend([0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0x66, 0xc4, 10, 0, 0, 99, 10, 0, 0, 1]);
            let sum: u32 = report[14..34]
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
                .sum::<u32>()
                - 0x66c4;
            report[24..26].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
            report.extend([3, 4, 0, 0, 0, 0, 5, 0x14]);
            report.extend_from_slice(&lost[14..42]);
        } else {
            let mut message = vec![2, 0, 0, 0, 0, 0, 5, 0x14];
            message.extend_from_slice(&lost[14..14 + 48]);
            report.extend([0x60, 0, 0, 0, 0, message.len() as u8, 58, 64]);
            report.extend_from_slice(&lost[38..54]);
            report.extend_from_slice(&lost[22..38]);
            let mut sum = 58 + message.len() as u32;
            for pair in report[22..54].chunks(2).chain(message.chunks(2)) {
                sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
            }
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
            report.extend(message);
        }
        let now_ns = world.now_ns;
        world.sides[0].stack.deliver(&mut report, false, now_ns);
        world.faults.loss = 0;
        world.watch =
            Some(Box::new(|from, frame| assert!(from == 1 || frame.len() <= 1314, "{}", frame.len())));
        let mut received = Vec::new();
        world.until(10 * SECOND_NS, |world| {
            received.extend(world.receive_all(1, server).0);
            received.len() == 3000
        });
        world.transfer(0, client, server, &pattern(500_000), 20 * SECOND_NS);
    }
}

#[test]
fn buffers_stop_to_grow_when_there_is_no_memory() {
    let mut first = configuration(1, OFFLOADS);
    let mut second = configuration(2, OFFLOADS);
    (first.memory, second.memory) = (100 << 10, 100 << 10);
    let mut world = World::with(8, first, second);
    let (client, server) = world.pair();
    world.transfer(0, client, server, &pattern(3 << 20), 60 * SECOND_NS);
    assert!(world.sides.iter().all(|side| side.stack.usage().0 <= 100 << 10));
}
