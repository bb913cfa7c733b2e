//! That schedules find what orders of locks do.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::exit::Exit;
use machine::fake::{Fake, Faults, Program, run};
use machine::{Cpu, Machine, Patience};

use super::Mutex;

type Locks = [Mutex<u32>; 2];

fn take(locks: &Locks, order: [usize; 2]) {
    let mut first = locks[order[0]].lock();
    let mut second = locks[order[1]].lock();
    *first += 1;
    *second += 1;
}

/// How two CPUs end that take both locks, each in its own order.
fn outcome(seed: u64, orders: [[usize; 2]; 2]) -> Exit {
    let machine = Fake::new(seed, Faults::default(), Program::new());
    let locks: Arc<Locks> = Arc::default();
    let [here, there] = orders;
    run(move || {
        let (other, others) = (machine.clone(), locks.clone());
        let body = Arc::new(move |cpu| {
            take(&others, there);
            loop {
                other.wait(cpu, Patience::Forever, false, &mut Vec::new());
            }
        });
        machine.start_cpu(Cpu(1), body).expect("the fake machine starts CPUs");
        take(&locks, here);
        machine.halt(Exit::Status(0))
    })
}

#[test]
fn opposite_orders_end_badly_sometimes_and_with_the_same_seed_always() {
    let outcomes = |_| (0..300).map(|seed| outcome(seed, [[0, 1], [1, 0]])).collect::<Vec<_>>();
    let [first, second] = [0, 1].map(outcomes);
    assert_eq!(first, second);
    assert!(first.contains(&Exit::Status(0)));
    assert!(
        first.iter().any(|exit| matches!(exit, Exit::Broken { message } if message.starts_with("deadlock")))
    );
}

#[test]
fn one_order_ends_well() {
    (0..300).for_each(|seed| assert_eq!(outcome(seed, [[0, 1], [0, 1]]), Exit::Status(0)));
}
