//! Checks of address spaces where this machine has more to go wrong than others: large pages, several processors,
//! memory that has to come back.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use abi::request::{Reply, Request};
use machine::{Advice, Backing, Cpu, Machine, PAGE, Patience, Protection, Space, Started, UserRange};

use super::Job;
use crate::cpu;
use crate::memory::{frame, layout::LARGE};

const CPU: Cpu = Cpu(0);
const AT: u64 = 0x4000_0000;
/// Long enough for large pages to be used unasked.
const LENGTH: u64 = 36 << 20;

type Verdict = Result<(), String>;
type Check = fn(&dyn Machine) -> Verdict;

/// Runs every check that takes one processor; how many there are.
pub fn check(machine: &dyn Machine) -> Result<usize, String> {
    let checks: [(&str, Check); 5] = [
        ("large pages are shared by a copied space", large),
        ("large pages keep their content when they are relocated", relocated),
        ("private copies survive a hole in their object", holes),
        ("a space that is not active can be reached", reached),
        ("what a space has comes back", returned),
    ];
    for (name, check) in checks {
        let verdict = check(machine);
        map_nothing(machine);
        verdict.map_err(|reason| format!("{name}: {reason}"))?;
    }
    Ok(checks.len())
}

fn map_nothing(machine: &dyn Machine) {
    machine.activate(CPU, Space::FIRST);
    let _ = machine.unmap(Space::FIRST, UserRange::new(AT, 1 << 30));
}

fn map(machine: &dyn Machine, space: Space, length: u64, backing: Backing) -> Verdict {
    let protection = Protection::READ | Protection::WRITE;
    let mapped = machine.map(space, UserRange::new(AT, length), protection, backing);
    mapped.map_err(|code| format!("map: {code:?}"))
}

fn copy(machine: &dyn Machine) -> Result<Space, String> {
    machine.copy_space(CPU).map_err(|code| format!("copy_space: {code:?}"))
}

fn write(machine: &dyn Machine, space: Space, at: u64, word: u64) -> Verdict {
    let written = machine.copy_out(space, &word.to_le_bytes(), at);
    written.map_err(|_| format!("a write at {at:#x} in {space:?} faults"))
}

fn read(machine: &dyn Machine, space: Space, at: u64) -> Result<u64, String> {
    let mut bytes = [0; 8];
    let copied = machine.copy_in(space, at, &mut bytes);
    copied.map(|()| u64::from_le_bytes(bytes)).map_err(|_| format!("a read at {at:#x} in {space:?} faults"))
}

fn expect(machine: &dyn Machine, space: Space, at: u64, word: u64) -> Verdict {
    let found = read(machine, space, at)?;
    if found == word {
        Ok(())
    } else {
        Err(format!("{found:#x} instead of {word:#x} at {at:#x} in {space:?}"))
    }
}

/// Where each large page has its own number, and its last page as well.
fn marks() -> impl Iterator<Item = (u64, u64)> {
    let last = LARGE - PAGE;
    (0..LENGTH / LARGE)
        .flat_map(move |number| [(number * LARGE, number + 1), (number * LARGE + last, number + 101)])
}

fn large(machine: &dyn Machine) -> Verdict {
    map(machine, Space::FIRST, LENGTH, Backing::Anonymous)?;
    for (at, mark) in marks() {
        write(machine, Space::FIRST, AT + at, mark)?;
    }
    let (first, second) = (copy(machine)?, copy(machine)?);
    // Each of the three writes in a large page of its own, and all in one.
    let spaces = [Space::FIRST, first, second];
    for (number, space) in (0..).zip(spaces) {
        machine.activate(CPU, space);
        write(machine, space, AT + number * LARGE + PAGE, 1000 + number)?;
        write(machine, space, AT + 5 * LARGE + PAGE, 2000 + number)?;
        let cut = machine.unmap(space, UserRange::new(AT + (7 + number) * LARGE + PAGE, PAGE));
        cut.map_err(|code| format!("unmap: {code:?}"))?;
    }
    for (number, space) in (0..).zip(spaces) {
        machine.activate(CPU, space);
        for (at, mark) in marks() {
            expect(machine, space, AT + at, mark)?;
        }
        for other in 0..3 {
            let own = if other == number { 1000 + number } else { 0 };
            expect(machine, space, AT + other * LARGE + PAGE, own)?;
            let there = read(machine, space, AT + (7 + other) * LARGE + PAGE);
            if there.is_ok() == (other == number) {
                return Err(format!("{there:?} where {space:?} has unmapped, or not"));
            }
        }
        expect(machine, space, AT + 5 * LARGE + PAGE, 2000 + number)?;
    }
    machine.drop_space(CPU, first);
    machine.drop_space(CPU, second);
    for (at, mark) in marks() {
        expect(machine, Space::FIRST, AT + at, mark)?;
        write(machine, Space::FIRST, AT + at, mark)?;
    }
    Ok(())
}

fn relocated(machine: &dyn Machine) -> Verdict {
    let mut from = AT;
    map(machine, Space::FIRST, LENGTH, Backing::Anonymous)?;
    for (at, mark) in marks() {
        write(machine, Space::FIRST, AT + at, mark)?;
    }
    for to in [AT + 32 * LARGE, AT + 64 * LARGE + 3 * PAGE] {
        let moved = machine.relocate(Space::FIRST, UserRange::new(from, LENGTH), UserRange::new(to, LENGTH));
        moved.map_err(|code| format!("relocate: {code:?}"))?;
        for (at, mark) in marks() {
            expect(machine, Space::FIRST, to + at, mark)?;
        }
        from = to;
    }
    Ok(())
}

fn holes(machine: &dyn Machine) -> Verdict {
    let handle = match machine.request(Request::MakeMemory { length: 4 * PAGE }) {
        Started::Ready(Ok(Reply::Opened { handle, .. })) => handle,
        started => return Err(format!("an object is answered with {started:?}")),
    };
    let shows = |offset, shared| Backing::File { handle, offset, shared };
    let mapping = |at, offset, shared| {
        let range = UserRange::new(at, 2 * PAGE);
        let protection = Protection::READ | Protection::WRITE;
        machine
            .map(Space::FIRST, range, protection, shows(offset, shared))
            .map_err(|code| format!("map: {code:?}"))
    };
    let (shared, private) = (AT, AT + 4 * PAGE);
    mapping(shared, 0, true)?;
    mapping(private, 0, false)?;
    write(machine, Space::FIRST, shared, 1)?;
    write(machine, Space::FIRST, shared + PAGE, 2)?;
    // The first page becomes a copy, the second shows the object.
    write(machine, Space::FIRST, private, 3)?;
    expect(machine, Space::FIRST, private + PAGE, 2)?;
    let space = copy(machine)?;
    let removed = machine.advise(Space::FIRST, UserRange::new(shared, 2 * PAGE), Advice::Remove);
    removed.map_err(|code| format!("advise: {code:?}"))?;
    for space in [Space::FIRST, space] {
        machine.activate(CPU, space);
        expect(machine, space, shared, 0)?;
        expect(machine, space, shared + PAGE, 0)?;
        expect(machine, space, private, 3)?;
        expect(machine, space, private + PAGE, 0)?;
    }
    machine.drop_space(CPU, space);
    machine.close(handle);
    Ok(())
}

fn reached(machine: &dyn Machine) -> Verdict {
    map(machine, Space::FIRST, LENGTH, Backing::Anonymous)?;
    write(machine, Space::FIRST, AT, 1)?;
    let space = copy(machine)?;
    machine.activate(CPU, space);
    let kept = cpu::current().active.keep();
    machine.activate(CPU, Space::FIRST);
    let mut words = [0_u64; PAGE as usize];
    let length = size_of_val(&words) as u64;
    let own = words.as_mut_ptr().cast::<u8>();
    // SAFETY: as many bytes as there are.
    let there = unsafe { kept.transfer(AT, own, length, false) };
    if there.is_err() || words[0] != 1 {
        return Err(format!("{} is read, or a fault", words[0]));
    }
    words.fill(7);
    // SAFETY: as before.
    let there = unsafe { kept.transfer(AT, words.as_mut_ptr().cast(), length, true) };
    there.map_err(|_| "a write faults")?;
    expect(machine, Space::FIRST, AT, 1)?;
    machine.activate(CPU, space);
    expect(machine, space, AT + length - 8, 7)?;
    expect(machine, space, AT + length, 0)?;
    machine.drop_space(CPU, space);
    // SAFETY: as before.
    if unsafe { kept.transfer(AT, words.as_mut_ptr().cast(), length, true) }.is_ok() {
        return Err("a space that was dropped is written".into());
    }
    expect(machine, Space::FIRST, AT, 1)
}

fn returned(machine: &dyn Machine) -> Verdict {
    let mut free = Vec::new();
    // The heap may grow in the first rounds.
    for _ in 0..4 {
        large(machine)?;
        map_nothing(machine);
        for length in [16 * LARGE, LARGE] {
            map(machine, Space::FIRST, length, Backing::Anonymous)?;
            write(machine, Space::FIRST, AT, 1)?;
            let spaces = [copy(machine)?, copy(machine)?];
            machine.activate(CPU, spaces[0]);
            write(machine, spaces[0], AT, 1)?;
            spaces.into_iter().for_each(|space| machine.drop_space(CPU, space));
            map_nothing(machine);
        }
        free.push(frame::free_bytes());
    }
    match free[..] {
        [.., before, after] if before == after => Ok(()),
        _ => Err(format!("free memory is {free:?} after each round")),
    }
}

/// Two processors in one space, which is copied and then dropped; `ask` has the other one do something.
pub fn together(machine: &Arc<dyn Machine>, ask: impl Fn(Job)) -> Verdict {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    static DONE: AtomicU64 = AtomicU64::new(0);
    const BEHIND: u64 = AT + 2 * PAGE;
    map(&**machine, Space::FIRST, 4 * PAGE, Backing::Anonymous)?;
    write(&**machine, Space::FIRST, BEHIND, 5)?;
    let space = copy(&**machine)?;
    machine.activate(CPU, space);
    write(&**machine, space, AT, 0)?;
    let other = machine.clone();
    ask(Box::new(move |cpu| {
        other.activate(cpu, space);
        while !STOP.load(SeqCst) {
            let next = WRITTEN.load(SeqCst) + 1;
            let fault = write(&*other, space, AT, next).is_err();
            WRITTEN.store(if fault { u64::MAX } else { next }, SeqCst);
        }
        DONE.store(1, SeqCst);
    }));
    let written = |more: u64| -> Verdict {
        let from = WRITTEN.load(SeqCst);
        until(machine, "the other processor writes", || WRITTEN.load(SeqCst) >= from.saturating_add(more))
    };
    let mut verdict: Verdict = Ok(());
    for _ in 0..50 {
        verdict = verdict.and_then(|()| {
            written(10)?;
            // Whatever the other one writes from now on is not the copy's.
            let copy = copy(&**machine)?;
            machine.activate(CPU, copy);
            let seen = read(&**machine, copy, AT)?;
            written(10)?;
            expect(&**machine, copy, AT, seen)?;
            machine.drop_space(CPU, copy);
            machine.activate(CPU, space);
            Ok(())
        });
    }
    STOP.store(true, SeqCst);
    until(machine, "the other processor stops", || DONE.load(SeqCst) == 1)?;
    verdict?;
    machine.drop_space(CPU, space);
    // It has idled since, and has the first space.
    let other = machine.clone();
    ask(Box::new(move |cpu| {
        let right = read(&*other, Space::FIRST, BEHIND) == Ok(5);
        other.wait(cpu, Patience::None, false, &mut Vec::new());
        DONE.store(if right { 2 } else { 3 }, SeqCst);
    }));
    until(machine, "the other processor has the first space", || DONE.load(SeqCst) >= 2)?;
    if DONE.load(SeqCst) == 2 { Ok(()) } else { Err("the first space is not what it was".into()) }
}

fn until(machine: &Arc<dyn Machine>, what: &str, there: impl Fn() -> bool) -> Verdict {
    const PATIENCE_NS: u64 = 10_000_000_000;
    let end_ns = machine.now().monotonic_ns + PATIENCE_NS;
    while !there() {
        if machine.now().monotonic_ns > end_ns {
            return Err(format!("it is not so that {what}"));
        }
        core::hint::spin_loop();
    }
    Ok(())
}
