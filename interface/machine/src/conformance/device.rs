//! Granted objects: transfers to and from them, and what mappings of them share.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use abi::request::{Reply, Request};

use super::{
    CPU, READ_WRITE, SPACE, Verdict, address, advise, expect, faults, map, map_object, object, pages,
    pattern, write,
};
use crate::{
    Advice, Backing, Code, Event, Handle, Machine, PAGE, Patience, Protection, Sink, Source, Started,
    Transfer, UserRange,
};

/// The bytes of a transfer, once it is over.
fn finished(machine: &dyn Machine, transfer: Result<Transfer, Code>) -> Result<u64, String> {
    let ticket = match transfer {
        Ok(Transfer::Done(count)) => return Ok(count as u64),
        Ok(Transfer::Later(ticket)) => ticket,
        other => return Err(format!("a transfer gives {other:?}")),
    };
    let mut events = Vec::new();
    loop {
        machine.wait(CPU, Patience::Forever, true, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Completed { ticket: other, result } if other == ticket => match result {
                    Ok(Reply::Number(count)) => return finished(machine, machine.finish(ticket, count)),
                    other => return Err(format!("a transfer ends in {other:?}")),
                },
                _ => {}
            }
        }
    }
}

fn put(machine: &dyn Machine, handle: Handle, offset: Option<u64>, bytes: &[u8]) -> Verdict {
    let count = finished(machine, machine.write(handle, offset, Source::Kernel(bytes)))?;
    ensure!(count == bytes.len() as u64, "{count} of {} bytes are written", bytes.len());
    Ok(())
}

fn get(machine: &dyn Machine, handle: Handle, offset: Option<u64>, bytes: &[u8]) -> Verdict {
    let mut found = vec![0xee; bytes.len()];
    let count = finished(machine, machine.read(handle, offset, Sink::Kernel(&mut found)))?;
    ensure!(count == bytes.len() as u64 && found == bytes, "{count} bytes, {found:x?} instead of {bytes:x?}");
    Ok(())
}

pub fn positions(machine: &dyn Machine) -> Verdict {
    let handle = object(machine, PAGE)?;
    put(machine, handle, None, b"first")?;
    put(machine, handle, None, b"second")?;
    put(machine, handle, Some(2), b"R")?;
    get(machine, handle, Some(0), b"fiRstsecond")?;
    get(machine, handle, None, b"\0\0")?;
    let end = finished(machine, machine.read(handle, Some(PAGE), Sink::Kernel(&mut [0; 8])))?;
    machine.close(handle);
    ensure!(end == 0, "{end} bytes are read behind the end");
    Ok(())
}

pub fn user_ranges(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 2), READ_WRITE)?;
    write(machine, address(0), b"one")?;
    write(machine, address(1), b"three")?;
    let handle = object(machine, PAGE)?;
    let ranges =
        [UserRange::new(address(0), 3), UserRange::new(address(0), 0), UserRange::new(address(1), 5)];
    let written = finished(machine, machine.write(handle, Some(0), Source::User(&ranges)))?;
    ensure!(written == 8, "{written} of 8 bytes are written");
    get(machine, handle, Some(0), b"onethree")?;
    let ranges = [UserRange::new(address(1) - 2, 4), UserRange::new(address(1) + 100, 4)];
    let read = finished(machine, machine.read(handle, Some(0), Sink::User(&ranges)))?;
    machine.close(handle);
    ensure!(read == 8, "{read} of 8 bytes are read");
    expect(machine, address(1) - 2, b"onet")?;
    expect(machine, address(1) + 100, b"hree")
}

pub fn user_faults(machine: &dyn Machine) -> Verdict {
    const EFAULT: u16 = 14;
    map(machine, pages(0, 1), Protection::READ)?;
    let handle = object(machine, PAGE)?;
    let range = |address| [UserRange::new(address, 8)];
    // Elsewhere than in applications' memory, unmapped, and (for reads) not writable.
    for at in [machine.user_end(), u64::MAX - 3, address(8), address(0)] {
        let read = machine.read(handle, Some(0), Sink::User(&range(at)));
        let refused = matches!(read, Err(Code(EFAULT))) || finished(machine, read).is_err();
        ensure!(refused, "a read into {at:#x} succeeds");
    }
    for at in [machine.user_end(), u64::MAX - 3, address(8)] {
        let written = machine.write(handle, Some(0), Source::User(&range(at)));
        let refused = matches!(written, Err(Code(EFAULT))) || finished(machine, written).is_err();
        ensure!(refused, "a write from {at:#x} succeeds");
    }
    get(machine, handle, Some(0), &[0; 8])?;
    machine.close(handle);
    Ok(())
}

pub fn only_collectors_get_events(machine: &dyn Machine) -> Verdict {
    let mut events = Vec::new();
    let Started::Later(ticket) = machine.request(Request::MakeMemory { length: PAGE }) else { return Ok(()) };
    let soon_ns = machine.now().monotonic_ns + 1_000_000;
    machine.wait(CPU, Patience::Until(soon_ns), false, &mut events);
    ensure!(events.is_empty(), "a wait that does not collect brings {events:?}");
    while events.is_empty() {
        machine.wait(CPU, Patience::Forever, true, &mut events);
    }
    match events.remove(0) {
        Event::Completed { ticket: other, result: Ok(Reply::Opened { handle, .. }) } if other == ticket => {
            machine.close(handle);
            Ok(())
        }
        other => Err(format!("a request is answered by {other:?}")),
    }
}

pub fn offsets(machine: &dyn Machine) -> Verdict {
    let handle = object(machine, 3 * PAGE)?;
    let content = pattern(3 * PAGE as usize);
    put(machine, handle, Some(0), &content)?;
    for shared in [false, true] {
        map_object(machine, pages(0, 2), handle, PAGE, shared)?;
        expect(machine, address(0), &content[PAGE as usize..])?;
    }
    let mapped =
        machine.map(SPACE, pages(4, 1), Protection::READ, Backing::File { handle, offset: 0, shared: true });
    ensure!(mapped.is_ok(), "a read-only mapping is refused: {mapped:?}");
    expect(machine, address(4), &content[..PAGE as usize])?;
    ensure!(write(machine, address(4), b"x").is_err(), "a read-only mapping is written");
    machine.close(handle);
    Ok(())
}

pub fn advice_on_objects(machine: &dyn Machine) -> Verdict {
    let handle = object(machine, 2 * PAGE)?;
    let content = pattern(2 * PAGE as usize);
    put(machine, handle, Some(0), &content)?;
    map_object(machine, pages(0, 2), handle, 0, true)?;
    advise(machine, pages(0, 2), Advice::Discard)?;
    expect(machine, address(0), &content)?;
    advise(machine, pages(1, 1), Advice::Remove)?;
    expect(machine, address(0), &content[..PAGE as usize])?;
    expect(machine, address(1), &[0; PAGE as usize])?;
    get(machine, handle, Some(PAGE), &[0; 16])?;
    machine.close(handle);
    Ok(())
}

pub fn relocated_objects(machine: &dyn Machine) -> Verdict {
    let handle = object(machine, 3 * PAGE)?;
    let content = pattern(3 * PAGE as usize);
    put(machine, handle, Some(0), &content)?;
    map_object(machine, pages(0, 1), handle, PAGE, true)?;
    let moved = machine.relocate(SPACE, pages(0, 1), pages(8, 2));
    ensure!(moved.is_ok(), "relocate: {moved:?}");
    expect(machine, address(8), &content[PAGE as usize..])?;
    faults(machine, address(0), 1)?;
    machine.close(handle);
    Ok(())
}
