//! Connections between two stacks: beginning, transfer, all the ways to end.

mod world;

use std::cell::Cell;
use std::rc::Rc;

use abi::Code;
use abi::network::{Shutdown, SocketOption};
use machine::Readiness;
use network::{Event, Offloads, Socket};
use world::*;

const RESET: Code = Code(104);
const PIPE: Code = Code(32);

#[test]
fn bytes_arrive_over_both_versions() {
    for address in [address_4(2, 80), address_6(2, 80)] {
        let mut world = World::new(1);
        let listener = world.sides[1].stack.listen(80, 16).unwrap();
        let (client, server) = world.connected(listener, address);
        world.transfer(0, client, server, &pattern(100), SECOND_NS);
        world.transfer(1, server, client, &pattern(3_000_000), 10 * SECOND_NS);
        world.transfer(0, client, server, &pattern(3_000_000), 10 * SECOND_NS);
        assert_eq!(world.sides[1].stack.names(server).unwrap().0, address);
        assert_eq!(world.sides[0].stack.names(client).unwrap().1, Some(address));
    }
}

#[test]
fn sequence_numbers_and_windows_hold_for_many_bytes() {
    // More than a window, more than a buffer's growth, both ways at once.
    let mut world = World::new(2);
    let (client, server) = world.pair();
    let bytes = pattern(40 << 20);
    world.transfer(0, client, server, &bytes, 100 * SECOND_NS);
    world.transfer(1, server, client, &bytes, 100 * SECOND_NS);
}

#[test]
fn a_bad_wire_loses_nothing() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        let (client, server) = world.pair();
        world.faults = Faults { loss: 15, duplication: 20, reordering: 50, corruption: 10 };
        world.transfer(0, client, server, &pattern(400_000), 3000 * SECOND_NS);
        world.transfer(1, server, client, &pattern(400_000), 3000 * SECOND_NS);
    }
}

#[test]
fn a_bad_wire_loses_nothing_without_offloads() {
    for seed in 0..4 {
        let none = Offloads::default();
        let mut world = World::with(seed, configuration(1, none), configuration(2, none));
        world.faults = Faults { loss: 15, duplication: 20, reordering: 50, corruption: 10 };
        let listener = world.sides[1].stack.listen(80, 16).unwrap();
        let (client, server) = world.connected(listener, address_6(2, 80));
        world.transfer(0, client, server, &pattern(200_000), 3000 * SECOND_NS);
    }
}

/// Both ends have nothing left: no flow, no buffer.
fn assert_gone(world: &World) {
    for side in &world.sides {
        assert_eq!(side.stack.usage(), (0, 0));
    }
}

#[test]
fn a_half_closed_connection_carries_the_other_direction() {
    let mut world = World::new(3);
    let (client, server) = world.pair();
    world.send_bytes(0, client, b"question");
    world.sides[0].stack.shutdown(client, Shutdown::Write, world.now_ns).unwrap();
    world.run(SECOND_NS);
    assert!(world.ready(1, server).contains(Readiness::READ | Readiness::READ_END));
    assert_eq!(world.receive_all(1, server), (b"question".to_vec(), true));
    assert_eq!(world.sides[0].stack.send(client, b"more", false, world.now_ns), Err(PIPE));
    world.transfer(1, server, client, &pattern(300_000), 10 * SECOND_NS);
    world.sides[1].stack.shutdown(server, Shutdown::Write, world.now_ns).unwrap();
    world.run(SECOND_NS);
    assert!(world.ready(0, client).contains(Readiness::READ_END | Readiness::HANGUP));
    assert_eq!(world.receive_all(0, client), (Vec::new(), true));
    world.sides[0].stack.close(client, world.now_ns);
    world.sides[1].stack.close(server, world.now_ns);
    world.run(20 * SECOND_NS);
    assert_gone(&world);
}

#[test]
fn every_order_of_ending_ends() {
    // 0: client ends, 1: server ends, 2: client closes, 3: server closes; with and without a rest between.
    let orders: [&[u8]; 8] =
        [&[2, 3], &[3, 2], &[0, 1, 2, 3], &[1, 0, 3, 2], &[0, 3, 2], &[1, 2, 3], &[0, 2, 1, 3], &[0, 2, 3]];
    for (number, order) in orders.iter().enumerate() {
        for pause_ns in [0, 20_000, 2 * SECOND_NS] {
            for loss in [0, 300] {
                let mut world = World::new(number as u64);
                let (client, server) = world.pair();
                world.faults.loss = loss;
                world.send_bytes(0, client, b"last words");
                for act in order.iter() {
                    let now_ns = world.now_ns;
                    let (side, socket) = if act % 2 == 0 { (0, client) } else { (1, server) };
                    world.receive_all(side, socket);
                    if *act < 2 {
                        world.sides[side].stack.shutdown(socket, Shutdown::Write, now_ns).unwrap();
                    } else {
                        world.sides[side].stack.close(socket, now_ns);
                    }
                    if pause_ns > 0 {
                        world.run(pause_ns);
                    }
                }
                world.run(200 * SECOND_NS);
                assert_gone(&world);
            }
        }
    }
}

#[test]
fn what_was_sent_before_closing_arrives() {
    let mut world = World::new(4);
    let (client, server) = world.pair();
    let bytes = pattern(16_000);
    assert_eq!(world.send_bytes(0, client, &bytes), Some(bytes.len()));
    world.sides[0].stack.close(client, world.now_ns);
    world.run(SECOND_NS);
    assert_eq!(world.receive_all(1, server), (bytes, true));
}

#[test]
fn an_end_outlives_the_wait_for_it() {
    // Read long after the connection's end has been waited for: nothing is lost.
    let mut world = World::new(4);
    let (client, server) = world.pair();
    world.sides[1].stack.shutdown(server, Shutdown::Write, world.now_ns).unwrap();
    world.send_bytes(0, client, b"late");
    world.run(SECOND_NS);
    world.sides[0].stack.close(client, world.now_ns);
    world.run(100 * SECOND_NS);
    assert_eq!(world.receive_all(1, server), (b"late".to_vec(), true));
    assert_eq!(world.receive_all(1, server), (Vec::new(), true));
    world.sides[1].stack.close(server, world.now_ns);
    assert_gone(&world);
}

#[test]
fn an_abort_is_heard_of_once() {
    for idle_ns in [0, 5 * SECOND_NS] {
        let mut world = World::new(5);
        let (client, server) = world.pair();
        world.run(idle_ns);
        world.sides[0].stack.set_option(client, SocketOption::Linger(Some(0)), world.now_ns).unwrap();
        world.sides[0].stack.close(client, world.now_ns);
        world.run(SECOND_NS);
        assert!(world.ready(1, server).contains(Readiness::ERROR | Readiness::HANGUP | Readiness::READ));
        let now_ns = world.now_ns;
        let stack = &mut world.sides[1].stack;
        assert_eq!(stack.receive(server, &mut [0; 9], false, now_ns), Err(RESET));
        assert_eq!(stack.receive(server, &mut [0; 9], false, now_ns), Ok(Some(0)));
        assert_eq!(stack.send(server, b"x", false, now_ns), Err(PIPE));
        stack.close(server, now_ns);
        assert_gone(&world);
    }
}

#[test]
fn closing_over_unread_bytes_resets() {
    let mut world = World::new(6);
    let (client, server) = world.pair();
    world.send_bytes(0, client, b"unheard");
    world.run(SECOND_NS);
    world.sides[1].stack.close(server, world.now_ns);
    world.run(SECOND_NS);
    assert!(world.ready(0, client).contains(Readiness::ERROR));
}

#[test]
fn bytes_that_come_after_closing_reset() {
    let mut world = World::new(7);
    let (client, server) = world.pair();
    world.sides[1].stack.close(server, world.now_ns);
    world.run(SECOND_NS);
    assert!(world.ready(0, client).contains(Readiness::READ_END));
    world.send_bytes(0, client, b"anybody?");
    world.run(SECOND_NS);
    assert!(world.ready(0, client).contains(Readiness::HANGUP));
    assert_eq!(world.sides[1].stack.usage(), (0, 0));
}

#[test]
fn nobody_listens() {
    for address in [address_4(2, 81), address_6(2, 81)] {
        let mut world = World::new(8);
        let client = world.sides[0].stack.connect(address, world.now_ns).unwrap();
        world.run(SECOND_NS);
        assert_eq!(world.sides[0].events, [Event::Connected { socket: client, result: Err(Code(111)) }]);
        assert_eq!(world.sides[0].stack.readiness(client), Err(Code(9)));
        assert_gone(&world);
    }
}

#[test]
fn nobody_is_there() {
    let mut world = World::new(9);
    let client = world.sides[0].stack.connect(address_4(77, 80), world.now_ns).unwrap();
    assert_eq!(world.sides[0].stack.connect(([8, 8, 8, 8], 53).into(), world.now_ns), Err(Code(101)));
    world.run(10 * SECOND_NS);
    assert_eq!(world.sides[0].events, [Event::Connected { socket: client, result: Err(Code(113)) }]);
    assert_gone(&world);
}

#[test]
fn an_unanswered_connect_times_out() {
    let mut world = World::new(10);
    let _ = world.pair();
    let before = world.sides[0].events.len();
    world.cut[0] = true;
    let client = world.sides[0].stack.connect(address_4(2, 80), world.now_ns).unwrap();
    world.run(300 * SECOND_NS);
    let failed = Event::Connected { socket: client, result: Err(Code(110)) };
    assert!(world.sides[0].events[before..].contains(&failed));
}

#[test]
fn a_full_backlog_makes_peers_wait() {
    let mut world = World::new(11);
    let listener = world.sides[1].stack.listen(80, 3).unwrap();
    let clients: Vec<Socket> =
        (0..8).map(|_| world.sides[0].stack.connect(address_4(2, 80), world.now_ns).unwrap()).collect();
    world.run(SECOND_NS / 2);
    let mut accepted = 0;
    while let Some(found) = world.sides[1].stack.accept(listener).unwrap() {
        accepted += 1;
        assert_eq!(found.1.ip(), address_4(1, 0).ip());
    }
    assert_eq!(accepted, 4);
    world.until(100 * SECOND_NS, |world| {
        while world.sides[1].stack.accept(listener).unwrap().is_some() {
            accepted += 1;
        }
        accepted == clients.len()
    });
    for socket in clients {
        assert!(world.sides[0].events.contains(&Event::Connected { socket, result: Ok(()) }));
    }
}

#[test]
fn closing_a_listener_resets_who_waits() {
    let mut world = World::new(12);
    let listener = world.sides[1].stack.listen(80, 3).unwrap();
    assert_eq!(world.sides[1].stack.listen(80, 3), Err(Code(98)));
    let client = world.sides[0].stack.connect(address_4(2, 80), world.now_ns).unwrap();
    world.run(SECOND_NS);
    assert!(world.sides[1].events.contains(&Event::Ready { socket: listener, readiness: Readiness::READ }));
    world.sides[1].stack.close(listener, world.now_ns);
    world.run(SECOND_NS);
    assert!(world.ready(0, client).contains(Readiness::ERROR));
    assert_eq!(world.sides[1].stack.usage(), (0, 0));
    assert!(world.sides[1].stack.listen(80, 3).is_ok());
}

#[test]
fn a_reader_that_pauses_stops_the_writer_and_lets_him_go_on() {
    let mut world = World::new(13);
    let (client, server) = world.pair();
    let bytes = pattern(4 << 20);
    let mut sent = 0;
    // Until nothing goes any more.
    for _ in 0..50 {
        sent += world.send_bytes(0, client, &bytes[sent..]).unwrap_or(0);
        world.run(SECOND_NS / 10);
    }
    assert!(sent < bytes.len());
    // A long silence: the window is asked for.
    world.run(300 * SECOND_NS);
    let mut received = Vec::new();
    world.until(100 * SECOND_NS, |world| {
        received.extend(world.receive_all(1, server).0);
        sent += world.send_bytes(0, client, &bytes[sent..]).unwrap_or(0);
        received.len() == bytes.len()
    });
    assert!(received == bytes);
}

#[test]
fn peeking_leaves_what_it_sees() {
    let mut world = World::new(14);
    let (client, server) = world.pair();
    world.send_bytes(0, client, b"abcdef");
    world.run(SECOND_NS);
    let now_ns = world.now_ns;
    let mut buffer = [0; 4];
    for _ in 0..2 {
        assert_eq!(world.sides[1].stack.receive(server, &mut buffer, true, now_ns), Ok(Some(4)));
        assert_eq!(&buffer, b"abcd");
    }
    assert_eq!(world.sides[1].stack.receive(server, &mut buffer, false, now_ns), Ok(Some(4)));
    assert_eq!(world.receive_all(1, server), (b"ef".to_vec(), false));
}

#[test]
fn more_is_held_back_and_comes_along() {
    let mut world = World::new(15);
    let (client, server) = world.pair();
    world.sides[0].stack.send(client, b"head ", true, world.now_ns).unwrap();
    world.run(100 * MILLISECOND_NS);
    assert_eq!(world.receive_all(1, server).0, b"");
    world.send_bytes(0, client, b"tail");
    world.run(10 * MILLISECOND_NS);
    assert_eq!(world.receive_all(1, server).0, b"head tail");
    world.sides[0].stack.send(client, b"alone", true, world.now_ns).unwrap();
    world.run(300 * MILLISECOND_NS);
    assert_eq!(world.receive_all(1, server).0, b"alone");
}

/// A peer that repeats its FIN with each acknowledgement, as BSD's and QEMU's do, is heard at once.
#[test]
fn acknowledgements_in_repeated_segments_count() {
    let mut world = World::new(11);
    world.joined = true;
    let (client, server) = world.pair();
    let ended = Rc::new(Cell::new(false));
    let sent = Rc::new(Cell::new(0));
    let (noted, counted) = (ended.clone(), sent.clone());
    world.watch = Some(Box::new(move |from, frame| {
        const TCP: usize = 34;
        if frame[12..14] != [8, 0] || frame[23] != 6 {
            return;
        }
        let payload = frame.len() - TCP - usize::from(frame[TCP + 12] >> 4) * 4;
        let flags = &mut frame[TCP + 13];
        if from == 1 {
            counted.set(counted.get() + payload);
        } else if *flags & 1 != 0 {
            noted.set(true);
        } else if noted.get() && payload == 0 {
            *flags |= 1;
            let sequence = u32::from_be_bytes(frame[TCP + 4..TCP + 8].try_into().unwrap());
            frame[TCP + 4..TCP + 8].copy_from_slice(&sequence.wrapping_sub(1).to_be_bytes());
        }
    }));
    world.sides[0].stack.shutdown(client, Shutdown::Write, world.now_ns).unwrap();
    world.run(SECOND_NS);
    assert!(ended.get());
    let bytes = pattern(500_000);
    let begun_ns = world.now_ns;
    world.transfer(1, server, client, &bytes, 10 * SECOND_NS);
    assert_eq!(sent.get(), bytes.len(), "nothing is sent twice");
    assert!(world.now_ns - begun_ns < SECOND_NS / 2, "{} ns", world.now_ns - begun_ns);
}
