//! What time does to connections: keepalives, time-outs, sleep, retransmission.

mod world;

use abi::Code;
use abi::network::SocketOption;
use machine::Readiness;
use world::*;

const TIMED_OUT: Code = Code(110);

#[test]
fn a_quiet_connection_sleeps_and_wakes_for_either_end() {
    let mut world = World::new(1);
    let (client, server) = world.pair();
    let mut dice = Dice(5);
    for round in 0..200 {
        let bytes = pattern(1 + dice.below(30_000) as usize);
        if round % 3 == 0 {
            world.transfer(1, server, client, &bytes, 10 * SECOND_NS);
        } else {
            world.transfer(0, client, server, &bytes, 10 * SECOND_NS);
        }
        world.run(dice.below(4 * SECOND_NS));
    }
    world.run(10 * SECOND_NS);
    for side in &world.sides {
        assert_eq!(side.stack.usage(), (0, 1));
    }
    let frames = world.sides[0].frames;
    world.run(100_000 * SECOND_NS);
    assert_eq!(world.sides[0].frames, frames, "a connection that sleeps is silent");
    world.transfer(0, client, server, b"good morning", SECOND_NS);
}

#[test]
fn sleep_is_sound_on_a_bad_wire() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        let (client, server) = world.pair();
        world.faults = Faults { loss: 50, duplication: 50, reordering: 100, corruption: 10 };
        let mut dice = Dice(seed);
        for round in 0..40 {
            let bytes = pattern(1 + dice.below(20_000) as usize);
            let (from, sender, receiver) =
                if round % 2 == 0 { (0, client, server) } else { (1, server, client) };
            world.transfer(from, sender, receiver, &bytes, 1000 * SECOND_NS);
            world.run(dice.below(3 * SECOND_NS));
        }
    }
}

#[test]
fn keepalives_keep_a_connection_and_notice_a_dead_peer() {
    let mut world = World::new(2);
    let (client, server) = world.pair();
    let options = [
        SocketOption::KeepAlive(true),
        SocketOption::KeepIdle(10),
        SocketOption::KeepInterval(2),
        SocketOption::KeepCount(3),
    ];
    for option in options {
        world.sides[0].stack.set_option(client, option, world.now_ns).unwrap();
    }
    let (before, other) = (world.sides[0].frames, world.sides[1].frames);
    world.run(1000 * SECOND_NS);
    let (probes, answers) = (world.sides[0].frames - before, world.sides[1].frames - other);
    // And a question for the neighbour from time to time.
    assert!((95..130).contains(&probes), "{probes} probes");
    assert!((95..130).contains(&answers), "{answers} answers");
    assert_eq!(world.sides[1].stack.usage(), (0, 1), "a probe wakes nobody");
    world.cut[1] = true;
    let start_ns = world.now_ns;
    world.until(100 * SECOND_NS, |world| world.ready(0, client).contains(Readiness::ERROR));
    let took_ns = world.now_ns - start_ns;
    assert!((6 * SECOND_NS..=17 * SECOND_NS).contains(&took_ns), "after {took_ns} ns");
    let now_ns = world.now_ns;
    assert_eq!(world.sides[0].stack.receive(client, &mut [0], false, now_ns), Err(TIMED_OUT));
    world.cut[1] = false;
    world.send_bytes(1, server, b"are you there?");
    world.run(10 * SECOND_NS);
    assert!(world.ready(1, server).contains(Readiness::ERROR), "the reset was lost, this brings another");
}

#[test]
fn a_user_timeout_ends_what_is_not_acknowledged() {
    let mut world = World::new(3);
    let (client, _server) = world.pair();
    world.sides[0].stack.set_option(client, SocketOption::UserTimeout(5000), world.now_ns).unwrap();
    world.run(100 * SECOND_NS);
    world.cut = [true, true];
    world.send_bytes(0, client, b"lost");
    let start_ns = world.now_ns;
    world.until(100 * SECOND_NS, |world| world.ready(0, client).contains(Readiness::ERROR));
    let took_ns = world.now_ns - start_ns;
    assert!((5 * SECOND_NS..7 * SECOND_NS).contains(&took_ns), "after {took_ns} ns");
}

#[test]
fn a_dead_peer_is_given_up_at_last() {
    let mut world = World::new(4);
    let (client, server) = world.pair();
    world.cut = [true, true];
    world.send_bytes(0, client, b"lost");
    world.sides[1].stack.close(server, world.now_ns);
    world.run(100 * SECOND_NS);
    assert_eq!(world.sides[1].stack.usage(), (0, 0), "nobody waits for an orphan");
    world.until(1000 * SECOND_NS, |world| world.ready(0, client).contains(Readiness::ERROR));
}

#[test]
fn a_wire_that_was_cut_for_a_while_is_forgiven() {
    let mut world = World::new(5);
    let (client, server) = world.pair();
    let bytes = pattern(200_000);
    let mut sent = world.send_bytes(0, client, &bytes).unwrap();
    world.run(20 * MILLISECOND_NS);
    world.cut = [true, true];
    world.run(20 * SECOND_NS);
    world.cut = [false, false];
    let mut received = Vec::new();
    world.until(100 * SECOND_NS, |world| {
        sent += world.send_bytes(0, client, &bytes[sent..]).unwrap_or(0);
        received.extend(world.receive_all(1, server).0);
        received.len() == bytes.len()
    });
    assert!(received == bytes);
}

#[test]
fn a_neighbour_that_moves_is_found_again() {
    let mut world = World::new(6);
    let (client, server) = world.pair();
    for _ in 0..10 {
        world.run(50 * SECOND_NS);
        world.transfer(0, client, server, &pattern(3000), SECOND_NS);
    }
}
