//! The image's other service: the checks that every machine must pass, run where the library OS would, and some
//! of this machine's own: what takes several CPUs, and what only a slow disk brings about.
//!
//! Only in images built for the test of the monitor that judges them; the status is the number of checks
//! that hold.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use abi::boot::Boot;
use abi::exit::Exit;
use abi::request::{Reply, Request};
use libos::HostClock;
use machine::{
    Advice, Backing, Context, Cpu, Event, Machine, PAGE, Patience, Protection, Slice, Source, Space, Started,
    Ticket, Transfer, Trap, UserRange, conformance,
};

use crate::io;

pub fn run(machine: Arc<dyn Machine>, boot: Boot, _: HostClock) -> ! {
    if boot.program == b"/family" {
        family(machine.as_ref());
    }
    let checked = conformance::check(machine.as_ref()).and_then(|count| {
        let single = slow_reads(machine.as_ref()).and_then(|()| slice_elsewhere(machine.as_ref()));
        let own = single.and_then(|()| together(&machine, boot.cpus));
        own.map(|()| count + 3).map_err(|failure| format!("\n  {failure}"))
    });
    machine.halt(match checked {
        Ok(count) => Exit::Status(u8::try_from(count).unwrap_or(u8::MAX)),
        Err(failures) => Exit::Broken { message: format!("the machine breaks its contract:{failures}") },
    })
}

/// Many spaces, one of them active and larger than others, for ever: the test kills some process.
fn family(machine: &dyn Machine) -> ! {
    let mut last = Space::FIRST;
    for round in 0..200 {
        let made = if round % 2 == 0 { machine.copy_space(Cpu(0)) } else { machine.make_space(Cpu(0)) };
        last = made.unwrap_or(last);
        if round % 10 == 0 {
            machine.activate(Cpu(0), last);
        }
    }
    machine.activate(Cpu(0), last);
    let range = UserRange::new(AT, 8 << 20);
    let protection = Protection::READ | Protection::WRITE;
    let mapped = machine.map(last, range, protection, Backing::Anonymous);
    let _ = mapped.and_then(|()| machine.advise(last, range, Advice::Populate));
    loop {
        machine.wait(Cpu(0), Patience::Forever, true, &mut Vec::new());
    }
}

/// The event that completes an operation.
fn completion(machine: &dyn Machine, wanted: Ticket) -> Result<Reply, String> {
    let mut events = Vec::new();
    loop {
        machine.wait(Cpu(0), Patience::Forever, true, &mut events);
        for event in events.drain(..) {
            if let Event::Completed { ticket, result } = event
                && ticket == wanted
            {
                return result.map_err(|code| format!("{code:?}"));
            }
        }
    }
}

/// What the I/O threads read for another space than theirs comes there, however long it is.
fn slow_reads(machine: &dyn Machine) -> Result<(), String> {
    const LENGTH: usize = 700_000;
    let Started::Later(ticket) = machine.request(Request::MakeMemory { length: LENGTH as u64 }) else {
        return Err("memory is not made later".into());
    };
    let Reply::Opened { handle, .. } = completion(machine, ticket)? else { return Err("no memory".into()) };
    let content: Vec<u8> = (0..LENGTH).map(|at| (at / 7) as u8).collect();
    machine.write(handle, Some(0), Source::Kernel(&content)).map_err(|code| format!("write: {code:?}"))?;
    for space in [Ok(Space::FIRST), machine.make_space(Cpu(0))] {
        let space = space.map_err(|code| format!("make_space: {code:?}"))?;
        machine.activate(Cpu(0), space);
        let range = UserRange::new(AT, (LENGTH as u64).next_multiple_of(PAGE));
        let protection = Protection::READ | Protection::WRITE;
        machine.map(space, range, protection, Backing::Anonymous).map_err(|code| format!("map: {code:?}"))?;
        // More than there is, in two parts.
        let parts = alloc::vec![[AT, 1000], [AT + 1000, range.length - 1000]];
        let mut ticket = Ticket(1 << 40);
        io::start(io::Job { ticket: ticket.0, file: handle.descriptor(), offset: 0, parts, done: 0 });
        let read = loop {
            let Reply::Number(length) = completion(machine, ticket)? else { return Err("no number".into()) };
            match machine.finish(ticket, length).map_err(|code| format!("finish: {code:?}"))? {
                Transfer::Later(next) => ticket = next,
                Transfer::Done(length) => break length,
                Transfer::NotReady => return Err("a file is not ready".into()),
            }
        };
        let mut found = alloc::vec![0; LENGTH];
        machine.copy_in(space, AT, &mut found).map_err(|_| "a read faults")?;
        if read != LENGTH || found != content {
            return Err(format!(
                "{read} bytes are read slowly in {space:?}, and perhaps others than there are"
            ));
        }
        if space == Space::FIRST {
            machine.unmap(space, range).map_err(|code| format!("unmap: {code:?}"))?;
        } else {
            machine.drop_space(Cpu(0), space);
        }
    }
    machine.close(handle);
    Ok(())
}

/// The thread that ends slices is another process's than the one that runs.
fn slice_elsewhere(machine: &dyn Machine) -> Result<(), String> {
    let space = machine.make_space(Cpu(0)).map_err(|code| format!("make_space: {code:?}"))?;
    machine.activate(Cpu(0), space);
    let mapped = machine.map(space, UserRange::new(AT, PAGE), Protection::all(), Backing::Anonymous);
    mapped.map_err(|code| format!("map: {code:?}"))?;
    // jmp .
    machine.copy_out(space, &[0xeb, 0xfe], AT).map_err(|_| "a write faults")?;
    let mut context = Context::new(AT, AT + PAGE);
    let trap = machine.enter(Cpu(0), &mut context, Slice::Tick, &mut |_| false);
    machine.leave(Cpu(0), &mut context);
    machine.drop_space(Cpu(0), space);
    if trap == Trap::Interrupt { Ok(()) } else { Err(format!("a slice in {space:?} ends in {trap:?}")) }
}

/// How often each CPU goes around.
const ROUNDS: u32 = 400;
/// Spaces that all CPUs visit.
const SPACES: u32 = 3;
const AT: u64 = 0x2000_0000;

/// What went wrong on any CPU.
static WRONG: AtomicU32 = AtomicU32::new(0);
/// CPUs that have gone around as often as they should.
static DONE: AtomicU32 = AtomicU32::new(0);

/// All CPUs go through the same spaces and count in each, while each makes and drops others; in the end a space
/// is dropped where all are.
fn together(machine: &Arc<dyn Machine>, cpus: u16) -> Result<(), String> {
    let range = UserRange::new(AT, PAGE);
    let protection = Protection::READ | Protection::WRITE;
    machine
        .map(Space::FIRST, range, protection, Backing::Anonymous)
        .map_err(|code| format!("map: {code:?}"))?;
    let mut spaces = Vec::new();
    for number in 0..SPACES {
        let written = machine.copy_out(Space::FIRST, &[0, number].map(u32::to_le_bytes).concat(), AT);
        written.map_err(|_| "a write faults")?;
        spaces.push(machine.copy_space(Cpu(0)).map_err(|code| format!("copy_space: {code:?}"))?);
    }
    let spaces: Arc<[Space]> = spaces.into();
    for cpu in 1..cpus {
        let (machine_there, spaces) = (machine.clone(), spaces.clone());
        let body = move |cpu| {
            around(machine_there.as_ref(), cpu, &spaces);
            loop {
                machine_there.wait(cpu, Patience::Forever, false, &mut Vec::new());
            }
        };
        machine.start_cpu(Cpu(cpu), Arc::new(body)).map_err(|code| format!("start_cpu: {code:?}"))?;
    }
    around(machine.as_ref(), Cpu(0), &spaces);
    while DONE.load(SeqCst) < u32::from(cpus) {
        machine.wait(Cpu(0), Patience::Until(machine.now().monotonic_ns + 1_000_000), false, &mut Vec::new());
    }
    for &space in spaces.iter() {
        machine.activate(Cpu(0), space);
        let counted = machine.compare_exchange(space, AT, 0, 0);
        let expected = ROUNDS * u32::from(cpus);
        if counted != Ok(expected) {
            return Err(format!("{counted:?} visits of {space:?} instead of {expected}"));
        }
        machine.drop_space(Cpu(0), space);
    }
    match WRONG.load(SeqCst) {
        0 => Ok(()),
        wrong => Err(format!("{wrong} visits found another space than they came to")),
    }
}

fn around(machine: &dyn Machine, cpu: Cpu, spaces: &[Space]) {
    for round in 0..ROUNDS {
        for (number, &space) in spaces.iter().enumerate() {
            machine.activate(cpu, space);
            let found = machine.compare_exchange(space, AT + 4, 0, 0);
            let counted = (0..u32::MAX)
                .try_fold(0, |old, _| match machine.compare_exchange(space, AT, old, old + 1) {
                    Ok(was) if was == old => Err(true),
                    Ok(was) => Ok(was),
                    Err(_) => Err(false),
                })
                .is_err_and(|counted| counted);
            if found != Ok(number as u32) || !counted {
                WRONG.fetch_add(1, SeqCst);
            }
        }
        if round % 20 == u32::from(cpu.0) {
            let own = if round % 40 < 20 { machine.copy_space(cpu) } else { machine.make_space(cpu) };
            match own {
                Ok(own) => {
                    machine.activate(cpu, own);
                    machine.drop_space(cpu, own);
                }
                Err(_) => drop(WRONG.fetch_add(1, SeqCst)),
            }
        }
        machine.wait(cpu, Patience::None, false, &mut Vec::new());
    }
    // Everybody is in the last space when it goes.
    machine.activate(cpu, spaces[spaces.len() - 1]);
    DONE.fetch_add(1, SeqCst);
}
