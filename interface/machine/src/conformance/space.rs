//! Address spaces: made, copied, active, dropped.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::processor::{CALL, call_once, prepared};
use super::{
    CPU, READ_WRITE, SPACE, Verdict, address, expect, faults, map, map_object, object, pages, write,
};
use crate::{Backing, Context, Machine, PAGE, Protection, Space};

fn make(machine: &dyn Machine) -> Result<Space, String> {
    machine.make_space(CPU).map_err(|code| format!("make_space: {code:?}"))
}

fn copy(machine: &dyn Machine) -> Result<Space, String> {
    machine.copy_space(CPU).map_err(|code| format!("copy_space: {code:?}"))
}

/// Does something in another space, and comes back.
fn within<T>(
    machine: &dyn Machine,
    space: Space,
    act: impl FnOnce() -> Result<T, String>,
) -> Result<T, String> {
    machine.activate(CPU, space);
    let result = act();
    machine.activate(CPU, SPACE);
    result
}

fn read(machine: &dyn Machine, space: Space, from: u64, length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0xee; length];
    let copied = machine.copy_in(space, from, &mut bytes);
    copied.map_err(|_| format!("a read at {from:#x} in {space:?} faults")).map(|()| bytes)
}

fn expect_in(machine: &dyn Machine, space: Space, from: u64, bytes: &[u8]) -> Verdict {
    let found = read(machine, space, from, bytes.len())?;
    ensure!(found == bytes, "{found:x?} instead of {bytes:x?} at {from:#x} in {space:?}");
    Ok(())
}

fn write_in(machine: &dyn Machine, space: Space, to: u64, bytes: &[u8]) -> Verdict {
    machine.copy_out(space, bytes, to).map_err(|_| format!("a write at {to:#x} in {space:?} faults"))
}

pub fn made(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 1), READ_WRITE)?;
    write(machine, address(0), b"first")?;
    let space = make(machine)?;
    ensure!(space != SPACE, "a new space is the first one");
    within(machine, space, || {
        ensure!(read(machine, space, address(0), 1).is_err(), "a new space is not empty");
        let mapped = machine.map(space, pages(0, 2), READ_WRITE, Backing::Anonymous);
        mapped.map_err(|code| format!("map: {code:?}"))?;
        expect_in(machine, space, address(0), &[0; 8])?;
        write_in(machine, space, address(1) - 2, b"other")
    })?;
    expect(machine, address(0), b"first\0\0\0")?;
    faults(machine, address(1), 1)?;
    within(machine, space, || expect_in(machine, space, address(1) - 2, b"other"))?;
    machine.drop_space(CPU, space);
    expect(machine, address(0), b"first")
}

pub fn copied(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 4), READ_WRITE)?;
    for page in 0..3 {
        write(machine, address(page), &[page as u8 + 1; 16])?;
    }
    let protect = machine.protect(SPACE, pages(2, 1), Protection::READ);
    protect.map_err(|code| format!("protect: {code:?}"))?;
    let space = copy(machine)?;
    write(machine, address(0), b"parent")?;
    write(machine, address(3), b"parent")?;
    within(machine, space, || {
        expect_in(machine, space, address(0), &[1; 16])?;
        expect_in(machine, space, address(3), &[0; 6])?;
        write_in(machine, space, address(1), b"child")?;
        let denied = machine.copy_out(space, b"x", address(2));
        ensure!(denied.is_err(), "a copied page loses its protection");
        // What is mapped later is one space's alone, as is what is unmapped.
        let mapped = machine.map(space, pages(5, 1), READ_WRITE, Backing::Anonymous);
        mapped.map_err(|code| format!("map: {code:?}"))?;
        machine.unmap(space, pages(3, 1)).map_err(|code| format!("unmap: {code:?}"))
    })?;
    expect(machine, address(1), &[2; 16])?;
    expect(machine, address(2), &[3; 16])?;
    expect(machine, address(3), b"parent")?;
    faults(machine, address(5), 1)?;
    machine.drop_space(CPU, space);
    expect(machine, address(0), b"parent")?;
    write(machine, address(1), b"alone")
}

pub fn shared(machine: &dyn Machine) -> Verdict {
    let handle = object(machine, 2 * PAGE)?;
    map_object(machine, pages(0, 1), handle, 0, true)?;
    map_object(machine, pages(1, 1), handle, PAGE, false)?;
    write(machine, address(0), b"before")?;
    write(machine, address(1), b"before")?;
    let space = copy(machine)?;
    write(machine, address(0), b"parent")?;
    write(machine, address(1), b"parent")?;
    within(machine, space, || {
        expect_in(machine, space, address(0), b"parent")?;
        expect_in(machine, space, address(1), b"before")?;
        write_in(machine, space, address(0), b"child!")
    })?;
    expect(machine, address(0), b"child!")?;
    machine.drop_space(CPU, space);
    machine.close(handle);
    Ok(())
}

/// A context that makes a call with this number.
fn numbered(machine: &dyn Machine, number: u64) -> Result<Context, String> {
    let mut context = prepared(machine, CALL)?;
    context.registers.rax = number;
    Ok(context)
}

pub fn entered(machine: &dyn Machine) -> Verdict {
    let mut context = numbered(machine, 1000)?;
    call_once(machine, &mut context)?;
    let space = make(machine)?;
    within(machine, space, || {
        // There is no code in this one.
        let trap = machine.enter(CPU, &mut context, crate::Slice::Unlimited, &mut |_| false);
        machine.leave(CPU, &mut context);
        let fault = matches!(trap, crate::Trap::Exception(exception) if exception.vector == 14);
        ensure!(fault || trap == crate::Trap::Interrupt, "code that is not there ends in {trap:?}");
        Ok(())
    })?;
    machine.drop_space(CPU, space);
    let mut context = numbered(machine, 1001)?;
    call_once(machine, &mut context)
}

pub fn copied_code(machine: &dyn Machine) -> Verdict {
    let mut parent = numbered(machine, 1000)?;
    // Often enough for a machine to change the site.
    for _ in 0..8 {
        call_once(machine, &mut parent)?;
    }
    let space = copy(machine)?;
    let mut child = parent.clone();
    for round in 0..8 {
        child.registers.rbx = round;
        within(machine, space, || call_once(machine, &mut child))?;
        ensure!(child.registers.rbx == round, "a register changes in a copied space");
        call_once(machine, &mut parent)?;
    }
    machine.drop_space(CPU, space);
    call_once(machine, &mut parent)
}

pub fn dropped(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 1), READ_WRITE)?;
    write(machine, address(0), b"first")?;
    let space = copy(machine)?;
    machine.activate(CPU, space);
    machine.drop_space(CPU, space);
    expect(machine, address(0), b"first")?;
    machine.activate(CPU, SPACE);
    expect(machine, address(0), b"first")
}

pub fn many(machine: &dyn Machine) -> Verdict {
    map(machine, pages(0, 8), READ_WRITE)?;
    let mut spaces = Vec::new();
    for round in 0..40_u8 {
        write(machine, address(u64::from(round % 8)), &[round; 64])?;
        spaces.push((round, copy(machine)?));
        if round % 3 == 2 {
            let (_, space) = spaces.remove(usize::from(round) % spaces.len());
            machine.drop_space(CPU, space);
        }
    }
    for (round, space) in spaces {
        let at = address(u64::from(round % 8));
        within(machine, space, || expect_in(machine, space, at, &[round; 64]))?;
        machine.drop_space(CPU, space);
    }
    Ok(())
}
