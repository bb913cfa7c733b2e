//! Every body over its seeds, over noise, and over thousands of mutations.

use std::panic::catch_unwind;

use body::mutation::Dice;
use body::{TARGETS, Target};

const MUTATIONS: u64 = 30_000;

/// Runs a body and names the bytes that it fails on.
fn run(target: &Target, bytes: &[u8]) {
    let outcome = catch_unwind(|| (target.body)(bytes));
    assert!(outcome.is_ok(), "{} breaks on {} bytes: {bytes:02x?}", target.name, bytes.len());
}

#[test]
fn bodies_hold_for_seeds_and_mutations() {
    for (target, seed) in TARGETS.iter().zip(1..) {
        let seeds = (target.seeds)();
        seeds.iter().for_each(|bytes| run(target, bytes));
        let mut dice = Dice(seed);
        for _ in 0..MUTATIONS {
            run(target, &dice.mutated(&seeds));
        }
    }
}

#[test]
fn bodies_hold_for_noise() {
    for target in TARGETS {
        run(target, &[]);
        for byte in 0..=255 {
            for length in [1, 2, 3, 16, 64, 600] {
                run(target, &vec![byte; length]);
            }
        }
    }
}

#[test]
fn a_broken_promise_is_noticed() {
    let target = Target { name: "broken", body: |bytes| assert!(bytes.len() < 3), seeds: Vec::new };
    assert!(catch_unwind(|| run(&target, &[0; 3])).is_err());
}
