//! What every machine must do, as checks that run on each of them.
//!
//! A check uses the calls of [`Machine`] alone, on CPU 0 and in the first address space, whose addresses from
//! [`BASE`] on it may use, and in others that it makes. It leaves nothing mapped, and the first space active.

macro_rules! ensure {
    ($condition:expr, $($reason:tt)+) => {
        if !$condition {
            return Err(format!($($reason)+));
        }
    };
}

mod device;
mod processor;
mod space;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use abi::request::{Reply, Request};

use crate::{
    Advice, Backing, Cpu, Event, Handle, Machine, PAGE, Patience, Protection, Sink, Source, Space, Started,
    Transfer, UserRange,
};

/// Where checks map pages.
const BASE: u64 = 0x2000_0000;
const SPACE: Space = Space::FIRST;
const CPU: Cpu = Cpu(0);
const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// What is wrong, if anything.
type Verdict = Result<(), String>;
type Check = fn(&dyn Machine) -> Verdict;

/// Every check, with the rule it stands for.
pub const CHECKS: &[(&str, Check)] = &[
    ("anonymous pages are zero and keep what is written", anonymous),
    ("copies cross pages and need not be aligned", unaligned),
    ("nothing is accessible that is not mapped", unmapped),
    ("a copy over the end of a mapping faults", over_the_end),
    ("addresses beyond the user's, or around the end, fault", beyond),
    ("copies of nothing succeed", empty),
    ("protection is obeyed by copies", protection),
    ("unmapping leaves the neighbours", unmap_middle),
    ("mapping replaces what was there", replace),
    ("compare_exchange exchanges, compares and faults", compare_exchange),
    ("relocated pages keep their content", relocate),
    ("relocating grows and shrinks", relocate_resized),
    ("discarded pages are zero", discard),
    ("populating and other advice keep content", keep),
    ("shared mappings of an object are one memory", shared),
    ("private mappings of an object copy on write", private),
    ("a file and its mapping agree", file_and_mapping),
    ("pages beyond an object's end fault", beyond_object),
    ("clocks do not run backwards", clocks),
    ("entropy differs", entropy),
    ("a wait without patience returns", wait_none),
    ("a wait until a time returns, not before it", wait_until),
    ("a kick ends a wait", kick),
    ("memory that may be dropped is kept or zero", free),
    ("mapping beyond the user's addresses is refused", map_beyond),
    ("files have a position, and an end", device::positions),
    ("transfers reach ranges in order", device::user_ranges),
    ("transfers to what cannot be accessed fault", device::user_faults),
    ("only who collects gets events", device::only_collectors_get_events),
    ("mappings begin at their offset and obey their protection", device::offsets),
    ("advice on an object's mapping is about the object", device::advice_on_objects),
    ("a relocated mapping is continued by its object", device::relocated_objects),
    ("a new space is empty, and the first one stays", space::made),
    ("a copied space begins the same and goes its own way", space::copied),
    ("what is shared stays shared in a copied space", space::shared),
    ("a program runs in the space that is active", space::entered),
    ("copied code runs in both spaces", space::copied_code),
    ("a space that is dropped is active nowhere", space::dropped),
    ("many spaces come and go", space::many),
    ("a system call traps and keeps registers", processor::system_call),
    ("an answered call goes on", processor::answered_calls),
    ("exceptions say what and where", processor::exceptions),
    ("slices end", processor::slices),
    ("a kick ends application code", processor::kick),
    ("contexts keep their vector registers and thread pointers", processor::switch),
    ("a diverted context goes where it was sent", processor::diversion),
];

/// Runs every check; how many hold, or what is wrong, one line for each that does not.
pub fn check(machine: &dyn Machine) -> Result<usize, String> {
    let mut failures = String::new();
    for (name, check) in CHECKS {
        if let Err(reason) = check(machine) {
            failures.push_str(&format!("\n  {name}: {reason}"));
        }
        let _ = machine.unmap(SPACE, pages(0, 64));
    }
    if failures.is_empty() { Ok(CHECKS.len()) } else { Err(failures) }
}

const fn address(page: u64) -> u64 {
    BASE + page * PAGE
}

const fn pages(first: u64, count: u64) -> UserRange {
    UserRange::new(address(first), count * PAGE)
}

fn map(machine: &dyn Machine, range: UserRange, protection: Protection) -> Verdict {
    let mapped = machine.map(SPACE, range, protection, Backing::Anonymous);
    mapped.map_err(|code| format!("map: {code:?}"))
}

fn write(machine: &dyn Machine, to: u64, bytes: &[u8]) -> Verdict {
    machine.copy_out(SPACE, bytes, to).map_err(|_| format!("a write of {} at {to:#x} faults", bytes.len()))
}

fn read(machine: &dyn Machine, from: u64, length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0xee; length];
    let copied = machine.copy_in(SPACE, from, &mut bytes);
    copied.map_err(|_| format!("a read of {length} at {from:#x} faults")).map(|()| bytes)
}

fn expect(machine: &dyn Machine, from: u64, bytes: &[u8]) -> Verdict {
    let found = read(machine, from, bytes.len())?;
    let difference = found.iter().zip(bytes).position(|(found, wanted)| found != wanted);
    match difference {
        Some(at) => Err(format!("{:#x} instead of {:#x} at {:#x}", found[at], bytes[at], from + at as u64)),
        None => Ok(()),
    }
}

fn faults(machine: &dyn Machine, at: u64, length: usize) -> Verdict {
    ensure!(read(machine, at, length).is_err(), "a read of {length} at {at:#x} succeeds");
    ensure!(write(machine, at, &vec![1; length]).is_err(), "a write of {length} at {at:#x} succeeds");
    Ok(())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn anonymous(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 2), READ_WRITE)?;
    expect(machine, BASE, &[0; 2 * PAGE as usize])?;
    write(machine, BASE, &pattern(PAGE as usize))?;
    expect(machine, BASE, &pattern(PAGE as usize))?;
    expect(machine, address(1), &[0; PAGE as usize])
}

fn unaligned(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 4), READ_WRITE)?;
    for (start, length) in [(1, 1), (3, 7), (PAGE - 1, 2), (PAGE - 3, 4099), (17, 3 * PAGE as usize)] {
        write(machine, BASE + start, &pattern(length))?;
        expect(machine, BASE + start, &pattern(length))?;
    }
    Ok(())
}

fn unmapped(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 1), READ_WRITE)?;
    machine.unmap(SPACE, pages(0, 1)).map_err(|code| format!("unmap: {code:?}"))?;
    faults(machine, BASE, 1)?;
    faults(machine, 0, 1)?;
    ensure!(machine.unmap(SPACE, pages(0, 1)).is_ok(), "unmapping nothing fails");
    Ok(())
}

fn over_the_end(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 1), READ_WRITE)?;
    faults(machine, address(1) - 2, 4)?;
    faults(machine, BASE - 2, 4)?;
    write(machine, address(1) - 2, b"ok")
}

fn beyond(machine: &dyn Machine) -> Verdict {
    for at in [machine.user_end(), machine.user_end() - 1, 1 << 63, u64::MAX - 1] {
        faults(machine, at, 8)?;
    }
    for at in [machine.user_end(), !3] {
        ensure!(machine.compare_exchange(SPACE, at, 0, 0).is_err(), "a word at {at:#x} is accessible");
    }
    Ok(())
}

fn empty(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 1), READ_WRITE)?;
    read(machine, BASE, 0)?;
    write(machine, BASE, &[])
}

fn protection(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 3), READ_WRITE)?;
    write(machine, address(1), b"kept")?;
    let protect = |protection| {
        machine.protect(SPACE, pages(1, 1), protection).map_err(|code| format!("protect: {code:?}"))
    };
    protect(Protection::READ)?;
    ensure!(write(machine, address(1), b"x").is_err(), "a read-only page is written");
    expect(machine, address(1), b"kept")?;
    ensure!(write(machine, address(1) - 1, b"xy").is_err(), "a write into a read-only page succeeds");
    ensure!(
        machine.compare_exchange(SPACE, address(1), u32::from_le_bytes(*b"kept"), 1).is_err(),
        "a word of a read-only page is exchanged"
    );
    protect(Protection::empty())?;
    faults(machine, address(1), 1)?;
    protect(READ_WRITE)?;
    expect(machine, address(1), b"kept")?;
    write(machine, address(2), b"neighbour")
}

fn unmap_middle(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 3), READ_WRITE)?;
    write(machine, BASE, &pattern(3 * PAGE as usize))?;
    machine.unmap(SPACE, pages(1, 1)).map_err(|code| format!("unmap: {code:?}"))?;
    faults(machine, address(1), 1)?;
    faults(machine, address(2) - 1, 1)?;
    expect(machine, BASE, &pattern(PAGE as usize))?;
    expect(machine, address(2), &pattern(3 * PAGE as usize)[2 * PAGE as usize..])
}

fn replace(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 3), READ_WRITE)?;
    write(machine, BASE, &pattern(3 * PAGE as usize))?;
    map(machine, pages(1, 1), Protection::READ)?;
    expect(machine, address(1), &[0; PAGE as usize])?;
    ensure!(write(machine, address(1), b"x").is_err(), "the new protection does not count");
    expect(machine, BASE, &pattern(PAGE as usize))
}

fn compare_exchange(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 1), READ_WRITE)?;
    for (old, new, found, left) in [(0, 5, 0, 5), (0, 6, 5, 5), (5, 5, 5, 5), (5, u32::MAX, 5, u32::MAX)] {
        let result = machine.compare_exchange(SPACE, BASE + 8, old, new);
        ensure!(result == Ok(found), "({old}, {new}) gives {result:?} instead of {found}");
        expect(machine, BASE + 8, &u32::to_le_bytes(left))?;
    }
    expect(machine, BASE + 12, &[0; 4])?;
    ensure!(machine.compare_exchange(SPACE, address(1), 0, 1).is_err(), "an unmapped word is exchanged");
    Ok(())
}

fn relocate(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 2), READ_WRITE)?;
    map(machine, pages(8, 2), READ_WRITE)?;
    write(machine, BASE, &pattern(2 * PAGE as usize))?;
    machine.relocate(SPACE, pages(0, 2), pages(8, 2)).map_err(|code| format!("relocate: {code:?}"))?;
    expect(machine, address(8), &pattern(2 * PAGE as usize))?;
    faults(machine, BASE, 1)
}

fn relocate_resized(machine: &dyn Machine) -> Verdict {
    let moved = |from, to| machine.relocate(SPACE, from, to).map_err(|code| format!("relocate: {code:?}"));
    map(machine, pages(0, 2), READ_WRITE)?;
    write(machine, BASE, &pattern(2 * PAGE as usize))?;
    moved(pages(0, 2), pages(8, 4))?;
    expect(machine, address(8), &pattern(2 * PAGE as usize))?;
    expect(machine, address(10), &[0; 2 * PAGE as usize])?;
    write(machine, address(11), b"grown")?;
    moved(pages(8, 4), pages(0, 1))?;
    expect(machine, BASE, &pattern(PAGE as usize))?;
    faults(machine, address(1), 1)?;
    faults(machine, address(9), 1)
}

fn advise(machine: &dyn Machine, range: UserRange, advice: Advice) -> Verdict {
    machine.advise(SPACE, range, advice).map_err(|code| format!("{advice:?}: {code:?}"))
}

fn discard(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 3), READ_WRITE)?;
    write(machine, BASE, &pattern(3 * PAGE as usize))?;
    advise(machine, pages(1, 1), Advice::Discard)?;
    expect(machine, BASE, &pattern(PAGE as usize))?;
    expect(machine, address(1), &[0; PAGE as usize])?;
    expect(machine, address(2), &pattern(3 * PAGE as usize)[2 * PAGE as usize..])
}

fn free(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 2), READ_WRITE)?;
    write(machine, BASE, &pattern(2 * PAGE as usize))?;
    advise(machine, pages(0, 1), Advice::Free)?;
    let found = read(machine, BASE, PAGE as usize)?;
    ensure!(
        found == pattern(PAGE as usize) || found == [0; PAGE as usize],
        "a page is neither kept nor zero"
    );
    expect(machine, address(1), &pattern(2 * PAGE as usize)[PAGE as usize..])?;
    write(machine, BASE, b"written")?;
    expect(machine, BASE, b"written")
}

fn map_beyond(machine: &dyn Machine) -> Verdict {
    for start in [machine.user_end(), machine.user_end() - PAGE, u64::MAX - 2 * PAGE + 1] {
        let range = UserRange::new(start, 2 * PAGE);
        let mapped = machine.map(SPACE, range, READ_WRITE, Backing::Anonymous);
        ensure!(mapped.is_err(), "two pages at {start:#x} are mapped");
        ensure!(machine.unmap(SPACE, range).is_err(), "two pages at {start:#x} are unmapped");
    }
    faults(machine, machine.user_end() - PAGE, 1)
}

fn keep(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 2), READ_WRITE)?;
    write(machine, BASE, &pattern(PAGE as usize))?;
    for advice in [Advice::Populate, Advice::WillNeed] {
        advise(machine, pages(0, 2), advice)?;
    }
    // A host without huge pages may refuse these; the content stays in any case.
    for advice in [Advice::HugePages, Advice::SmallPages] {
        let _ = machine.advise(SPACE, pages(0, 2), advice);
    }
    expect(machine, BASE, &pattern(PAGE as usize))?;
    expect(machine, address(1), &[0; PAGE as usize])
}

/// Asks, and waits for the answer.
fn ask(machine: &dyn Machine, request: Request<'_>) -> Result<Reply, String> {
    let ticket = match machine.request(request) {
        Started::Ready(result) => return result.map_err(|code| format!("{request:?}: {code:?}")),
        Started::Later(ticket) => ticket,
    };
    let mut events = Vec::new();
    loop {
        machine.wait(CPU, Patience::Forever, true, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Completed { ticket: other, result } if other == ticket => {
                    return result.map_err(|code| format!("{request:?}: {code:?}"));
                }
                _ => {}
            }
        }
    }
}

fn object(machine: &dyn Machine, length: u64) -> Result<Handle, String> {
    match ask(machine, Request::MakeMemory { length })? {
        Reply::Opened { handle, .. } => Ok(handle),
        other => Err(format!("MakeMemory is answered by {other:?}")),
    }
}

fn map_object(machine: &dyn Machine, range: UserRange, handle: Handle, offset: u64, shared: bool) -> Verdict {
    let mapped = machine.map(SPACE, range, READ_WRITE, Backing::File { handle, offset, shared });
    mapped.map_err(|code| format!("map: {code:?}"))
}

fn shared(machine: &dyn Machine) -> Verdict {
    let handle = object(machine, 2 * PAGE)?;
    map_object(machine, pages(0, 2), handle, 0, true)?;
    map_object(machine, pages(8, 1), handle, PAGE, true)?;
    write(machine, address(1), b"seen")?;
    expect(machine, address(8), b"seen")?;
    write(machine, address(8), b"back")?;
    expect(machine, address(1), b"back")?;
    machine.close(handle);
    Ok(())
}

fn private(machine: &dyn Machine) -> Verdict {
    let handle = object(machine, PAGE)?;
    map_object(machine, pages(0, 1), handle, 0, true)?;
    map_object(machine, pages(8, 1), handle, 0, false)?;
    write(machine, BASE, b"first")?;
    expect(machine, address(8), b"first")?;
    write(machine, address(8), b"other")?;
    expect(machine, BASE, b"first")?;
    advise(machine, pages(8, 1), Advice::Discard)?;
    expect(machine, address(8), b"first")?;
    machine.close(handle);
    Ok(())
}

fn file_and_mapping(machine: &dyn Machine) -> Verdict {
    let handle = object(machine, PAGE)?;
    map_object(machine, pages(0, 1), handle, 0, true)?;
    let written = machine.write(handle, Some(16), Source::Kernel(b"written"));
    ensure!(written == Ok(Transfer::Done(7)), "a write gives {written:?}");
    expect(machine, BASE + 16, b"written")?;
    write(machine, BASE + 100, b"mapped")?;
    let mut bytes = [0; 6];
    let transfer = machine.read(handle, Some(100), Sink::Kernel(&mut bytes));
    machine.close(handle);
    ensure!(transfer == Ok(Transfer::Done(6)), "a read gives {transfer:?}");
    ensure!(&bytes == b"mapped", "a read finds {bytes:?}");
    Ok(())
}

fn beyond_object(machine: &dyn Machine) -> Verdict {
    let handle = object(machine, PAGE)?;
    map_object(machine, pages(0, 2), handle, 0, true)?;
    write(machine, BASE, b"inside")?;
    faults(machine, address(1), 1)?;
    machine.close(handle);
    Ok(())
}

fn clocks(machine: &dyn Machine) -> Verdict {
    let mut before = machine.now();
    for _ in 0..1000 {
        let now = machine.now();
        ensure!(now.monotonic_ns >= before.monotonic_ns, "{before:?} is followed by {now:?}");
        before = now;
    }
    // No machine of ours starts before 2020.
    ensure!(before.realtime_ns > 1_577_836_800_000_000_000, "the time is {}", before.realtime_ns);
    Ok(())
}

fn entropy(machine: &dyn Machine) -> Verdict {
    let mut samples = [[0; 32]; 3];
    samples.iter_mut().for_each(|sample| machine.entropy(sample));
    let differ = samples[0] != samples[1] && samples[1] != samples[2] && samples[0] != samples[2];
    ensure!(differ, "{samples:?}");
    let mut long = [0; 4096];
    machine.entropy(&mut long);
    ensure!(!long.windows(16).any(|window| window == [0; 16]), "a part is not filled");
    Ok(())
}

fn wait_none(machine: &dyn Machine) -> Verdict {
    let mut events = Vec::new();
    for collect in [false, true] {
        machine.wait(CPU, Patience::None, collect, &mut events);
    }
    Ok(())
}

fn wait_until(machine: &dyn Machine) -> Verdict {
    let mut events = Vec::new();
    let start_ns = machine.now().monotonic_ns;
    machine.wait(CPU, Patience::Until(start_ns), true, &mut events);
    machine.wait(CPU, Patience::Until(0), true, &mut events);
    let end_ns = start_ns + 5_000_000;
    // A wait may end early for a kick nobody remembers, but not for ever.
    for _ in 0..1000 {
        if machine.now().monotonic_ns >= end_ns {
            return Ok(());
        }
        machine.wait(CPU, Patience::Until(end_ns), true, &mut events);
    }
    Err(format!("the time is {} after waits until {end_ns}", machine.now().monotonic_ns))
}

fn kick(machine: &dyn Machine) -> Verdict {
    let mut events = Vec::new();
    for collect in [true, false] {
        machine.kick(CPU);
        machine.wait(CPU, Patience::Forever, collect, &mut events);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;
    use super::processor::{CALL, SPIN};
    use crate::Trap;
    use crate::fake::{Fake, Faults, Program};

    /// Steps that mean what the suite's code does.
    fn program() -> Program {
        let call = |step: &mut crate::fake::Step<'_>| {
            step.context.registers.rip += crate::fake::SPACING;
            Trap::Syscall
        };
        Program::new().at(CALL).step(call).step(|step| step.jump(CALL)).at(SPIN).step(|step| step.jump(SPIN))
    }

    #[test]
    fn fake_conforms() {
        for seed in 0..64 {
            for faults in [Faults::default(), Faults::HARMLESS] {
                let outcome = check(Fake::new(seed, faults, program()).as_ref());
                assert!(outcome.is_ok(), "seed {seed}: {}", outcome.unwrap_err());
            }
        }
    }
}
