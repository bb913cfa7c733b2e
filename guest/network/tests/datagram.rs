//! Datagrams, their fragments and what is reported about them; questions to name servers.

mod world;

use abi::Code;
use machine::Readiness;
use network::{Event, Query};
use world::*;

#[test]
fn datagrams_arrive_whatever_their_length() {
    let mut world = World::new(1);
    let server = world.sides[1].stack.bind(53).unwrap();
    let client = world.sides[0].stack.bind(0).unwrap();
    assert_eq!(world.sides[1].stack.bind(53), Err(Code(98)));
    for to in [address_4(2, 53), address_6(2, 53)] {
        for length in [0, 1, 1452, 1453, 1472, 1473, 9000, 40_000, 65_400] {
            let bytes = pattern(length);
            let sent = world.sides[0].stack.send_to(client, to, &bytes, world.now_ns);
            assert_eq!(sent, Ok(Some(length)));
            world.run(SECOND_NS);
            assert_eq!(world.ready(1, server), Readiness::READ);
            let mut buffer = vec![0; 70_000];
            let stack = &mut world.sides[1].stack;
            assert_eq!(
                stack.receive_from(server, &mut [0; 7], true).unwrap().map(|found| found.0),
                Some(length)
            );
            let (count, from) = stack.receive_from(server, &mut buffer, false).unwrap().expect("a datagram");
            assert!(buffer[..count] == bytes, "{length} bytes to {to}");
            assert_eq!(stack.receive_from(server, &mut buffer, false), Ok(None));
            // And back.
            let now_ns = world.now_ns;
            world.sides[1].stack.send_to(server, from, b"heard", now_ns).unwrap();
            world.run(SECOND_NS);
            let (count, back) =
                world.sides[0].stack.receive_from(client, &mut buffer, false).unwrap().unwrap();
            assert_eq!((&buffer[..count], back), (&b"heard"[..], to));
        }
    }
    let now_ns = world.now_ns;
    let stack = &mut world.sides[0].stack;
    assert_eq!(stack.send_to(client, address_4(2, 53), &[0; 65_508], now_ns), Err(Code(90)));
}

#[test]
fn fragments_come_in_any_order_and_more_than_once() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let server = world.sides[1].stack.bind(53).unwrap();
        let client = world.sides[0].stack.bind(0).unwrap();
        world.sides[0].stack.send_to(client, address_4(2, 53), b"first", world.now_ns).unwrap();
        world.run(SECOND_NS);
        world.faults = Faults { reordering: 500, duplication: 300, ..Faults::default() };
        let bytes = pattern(20_000);
        world.sides[0].stack.send_to(client, address_6(2, 53), &bytes, world.now_ns).unwrap();
        world.run(2 * SECOND_NS);
        let mut buffer = vec![0; 30_000];
        world.sides[1].stack.receive_from(server, &mut buffer, false).unwrap().unwrap();
        let (count, _) =
            world.sides[1].stack.receive_from(server, &mut buffer, false).unwrap().expect("all of it");
        assert!(buffer[..count] == bytes);
    }
}

#[test]
fn an_absent_port_is_reported_to_who_is_connected() {
    for to in [address_4(2, 7), address_6(2, 7)] {
        let mut world = World::new(2);
        let client = world.sides[0].stack.bind(0).unwrap();
        world.sides[0].stack.connect_datagram(client, Some(to)).unwrap();
        world.sides[0].stack.send_to(client, to, b"knock", world.now_ns).unwrap();
        world.run(SECOND_NS);
        assert!(world.ready(0, client).contains(Readiness::ERROR));
        assert_eq!(world.sides[0].stack.receive_from(client, &mut [0], false), Err(Code(111)));
        assert_eq!(world.sides[0].stack.receive_from(client, &mut [0], false), Ok(None));
    }
}

#[test]
fn a_receiver_that_does_not_receive_loses_what_is_too_much() {
    let mut world = World::new(3);
    let server = world.sides[1].stack.bind(53).unwrap();
    let client = world.sides[0].stack.bind(0).unwrap();
    for _ in 0..1000 {
        world.sides[0].stack.send_to(client, address_4(2, 53), &[1; 1000], world.now_ns).unwrap();
        world.run(MILLISECOND_NS);
    }
    let mut count = 0;
    while world.sides[1].stack.receive_from(server, &mut [0; 1000], false).unwrap().is_some() {
        count += 1;
    }
    assert!((100..300).contains(&count), "{count}");
}

#[test]
fn a_sender_without_room_hears_when_there_is_some() {
    let mut world = World::new(4);
    let client = world.sides[0].stack.bind(0).unwrap();
    world.sides[0].stack.send_to(client, address_4(2, 53), b"x", world.now_ns).unwrap();
    world.run(SECOND_NS);
    let mut sent = 0;
    while world.sides[0].stack.send_to(client, address_4(2, 53), b"x", world.now_ns).unwrap().is_some() {
        sent += 1;
        assert!(sent < 100_000);
    }
    world.run(SECOND_NS);
    assert!(world.ready(0, client).contains(Readiness::WRITE));
}

/// A question for `eyot.example`, IN A.
fn question() -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(b"\x04eyot\x07example\0\0\x01\0\x01");
    message
}

fn asking() -> World {
    let mut first = configuration(1, OFFLOADS);
    // Nobody is at the first; the second is the other side.
    first.name_servers = vec![[10, 0, 0, 77].into(), [10, 0, 0, 2].into()];
    World::with(5, first, configuration(2, OFFLOADS))
}

#[test]
fn a_question_is_answered_by_whom_it_was_put_to() {
    let mut world = asking();
    let server = world.sides[1].stack.bind(53).unwrap();
    let other = world.sides[1].stack.bind(54).unwrap();
    let query = world.sides[0].stack.resolve(&question(), world.now_ns).unwrap();
    let mut from = None;
    let mut buffer = [0; 600];
    world.until(20 * SECOND_NS, |world| {
        from = world.sides[1].stack.receive_from(server, &mut buffer, false).unwrap();
        from.is_some()
    });
    let (length, from) = from.unwrap();
    assert_eq!(buffer[..length], question());
    let mut answer = question();
    answer[2] = 0x81;
    answer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x09");
    let now_ns = world.now_ns;
    let mut wrong = answer.clone();
    wrong[1] ^= 1;
    let mut name = answer.clone();
    name[13] = b'E';
    world.sides[1].stack.send_to(server, from, &wrong, now_ns).unwrap();
    world.sides[1].stack.send_to(other, from, &answer, now_ns).unwrap();
    world.sides[1].stack.send_to(server, from, &question(), now_ns).unwrap();
    world.run(SECOND_NS / 10);
    assert!(world.sides[0].events.is_empty());
    world.sides[1].stack.send_to(server, from, &name, now_ns).unwrap();
    world.run(SECOND_NS / 10);
    assert_eq!(world.sides[0].events, [Event::Resolved { query, result: Ok(name) }]);
}

#[test]
fn nobody_answers_a_question() {
    let mut world = asking();
    let _deaf = world.sides[1].stack.bind(53).unwrap();
    let query = world.sides[0].stack.resolve(&question(), world.now_ns).unwrap();
    world.run(60 * SECOND_NS);
    assert_eq!(world.sides[0].events, [Event::Resolved { query, result: Err(Code(110)) }]);
    assert_eq!(world.sides[0].stack.resolve(b"no message", world.now_ns), Err(Code(22)));
    assert_eq!(world.sides[1].stack.resolve(&question(), world.now_ns), Err(Code(101)));
    assert_eq!(query, Query(0));
}
