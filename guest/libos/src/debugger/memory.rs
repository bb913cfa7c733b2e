//! The program's memory as the debugger sees and changes it, and the breakpoints in it.
//!
//! A breakpoint is the instruction `int3`, which the debugger never sees: it reads what was there before, and what
//! it writes there takes its place. Whatever a private mapping forbids its program the debugger may do; all threads
//! stand still meanwhile, so nobody notices how. What a shared mapping shows is others' as well: only what its program
//! may write there the debugger may (as by ptrace(2)), and there are no breakpoints in it.

use alloc::collections::BTreeMap;

use machine::{PAGE, Protection, UserRange};

use crate::errno::{Errno, Result};
use crate::process::Process;

const INT3: u8 = 0xcc;

/// Breakpoints by address, each with the byte that it covers.
#[derive(Default)]
pub struct Breakpoints(BTreeMap<u64, u8>);

impl Breakpoints {
    pub fn contains(&self, address: u64) -> bool {
        self.0.contains_key(&address)
    }

    /// Forgets them: the program they were in is gone.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    pub fn insert(&mut self, process: &Process, address: u64) -> Result<()> {
        if self.contains(address) {
            return Ok(());
        }
        let shared = process.memory().lock().mappings.containing(address).map(|(_, mapping)| mapping.shared);
        if shared.ok_or(Errno::EFAULT)? {
            return Err(Errno::EIO);
        }
        let mut covered = [0];
        process.kernel.machine.copy_in(process.space(), address, &mut covered)?;
        write_over(process, address, &[INT3])?;
        self.0.insert(address, covered[0]);
        Ok(())
    }

    /// Where something else stands by now there is nothing to put back.
    pub fn remove(&mut self, process: &Process, address: u64) -> Result<()> {
        let Some(covered) = self.0.remove(&address) else { return Ok(()) };
        let mut found = [0];
        process.kernel.machine.copy_in(process.space(), address, &mut found)?;
        if found[0] == INT3 { write_over(process, address, &[covered]) } else { Ok(()) }
    }

    /// Removes all of them.
    pub fn remove_all(&mut self, process: &Process) {
        while let Some((&address, _)) = self.0.first_key_value() {
            // What cannot be written any more does not trap any more either.
            let _ = self.remove(process, address);
        }
    }

    /// Takes them out of a copy of the program's memory, which nobody debugs and which is the active one.
    pub fn remove_from_copy(&self, copy: &Process) {
        for (&address, &covered) in &self.0 {
            let _ = write_over(copy, address, &[covered]);
        }
    }

    /// Reads as much of a range as can be reached; answers how much that was.
    pub fn read(&self, process: &Process, address: u64, to: &mut [u8]) -> usize {
        let machine = &process.kernel.machine;
        let mut done = 0;
        while done < to.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let end = to.len().min(done + (PAGE - at % PAGE) as usize);
            if machine.copy_in(process.space(), at, &mut to[done..end]).is_err() {
                break;
            }
            done = end;
        }
        for (at, covered) in self.0.range(address..address.saturating_add(done as u64)) {
            let byte = &mut to[(at - address) as usize];
            if *byte == INT3 {
                *byte = *covered;
            }
        }
        done
    }

    /// Writes a range.
    pub fn write(&mut self, process: &Process, address: u64, bytes: &[u8]) -> Result<()> {
        let end = address.checked_add(bytes.len() as u64).ok_or(Errno::EFAULT)?;
        let mut bytes = bytes.to_vec();
        for (at, covered) in self.0.range_mut(address..end) {
            *covered = core::mem::replace(&mut bytes[(at - address) as usize], INT3);
        }
        write_over(process, address, &bytes)
    }
}

/// Writes whatever the mappings' rights are.
fn write_over(process: &Process, address: u64, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    let mut at = address;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min((PAGE - at % PAGE) as usize));
        write_page(process, at, now)?;
        at += now.len() as u64;
        rest = later;
    }
    Ok(())
}

/// Writes within one page, which becomes writable for a moment if it is not.
fn write_page(process: &Process, at: u64, bytes: &[u8]) -> Result<()> {
    let (machine, space) = (&process.kernel.machine, process.space());
    let memory = process.memory();
    let memory = memory.lock();
    let (_, mapping) = memory.mappings.containing(at).ok_or(Errno::EFAULT)?;
    let protection = mapping.protection;
    if protection.contains(Protection::WRITE) {
        return Ok(machine.copy_out(space, bytes, at)?);
    }
    if mapping.shared {
        return Err(Errno::EIO);
    }
    let page = UserRange::new(at & !(PAGE - 1), PAGE);
    machine.protect(space, page, Protection::READ | Protection::WRITE)?;
    let written = machine.copy_out(space, bytes, at);
    machine.protect(space, page, protection)?;
    Ok(written?)
}
