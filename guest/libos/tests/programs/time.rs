//! Sleeping, in virtual time.

use machine::fake::{DATA, Program, Step};

use crate::island::{exit, number, over_seeds, well};

const MONOTONIC: u64 = 1;
const BEFORE: u64 = DATA;
const AFTER: u64 = DATA + 16;
const DURATION: u64 = DATA + 32;

fn time_ns(step: &Step<'_>, address: u64) -> u64 {
    step.read_u64(address) * 1_000_000_000 + step.read_u64(address + 8)
}

#[test]
fn nanosleep_lasts_as_long_as_asked() {
    const HOUR_S: u64 = 3600;
    let program = || {
        let program = Program::new()
            .step(|step| {
                step.write(DURATION, &HOUR_S.to_le_bytes());
                step.write(DURATION + 8, &500_000_000_u64.to_le_bytes());
                step.call(number::CLOCK_GETTIME, [MONOTONIC, BEFORE, 0, 0, 0, 0])
            })
            .expect("clock_gettime", 0)
            .call(number::NANOSLEEP, [DURATION, 0, 0, 0, 0, 0])
            .expect("nanosleep", 0)
            .call(number::CLOCK_GETTIME, [MONOTONIC, AFTER, 0, 0, 0, 0])
            .expect("clock_gettime", 0)
            .step(|step| {
                let slept_ns = time_ns(step, AFTER) - time_ns(step, BEFORE);
                let asked_ns = HOUR_S * 1_000_000_000 + 500_000_000;
                assert!(slept_ns >= asked_ns, "woken {} ns early", asked_ns - slept_ns);
                assert!(slept_ns < asked_ns + 100_000_000, "woken {} ns late", slept_ns - asked_ns);
                step.go_on()
            });
        exit(program, 0)
    };
    over_seeds(program, well);
}
