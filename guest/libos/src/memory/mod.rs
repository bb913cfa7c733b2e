//! An address space as its process sees it: which ranges are mapped, to what, with which rights.
//!
//! The machine holds the pages; this map says what they are, finds free addresses, and is what
//! /proc/PID/maps prints. Invariant: mappings do not overlap, are page-aligned, and end below the
//! machine's `user_end`; the machine is called before the map changes, so a refusal changes nothing.

mod map;
mod shared;

use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{Advice, Backing, Handle, Machine, PAGE, Protection, Space, UserRange};

use crate::errno::{Errno, Result};
use crate::file::File;
use crate::file_system::Location;
pub use map::{Content, Inheritance, Mapping, Mappings, rights};
pub use shared::Memory;

/// Addresses below this are not given out unasked (vm.mmap_min_addr).
const LOWEST: u64 = 0x1_0000;
/// Gap kept below the end of the address space, where the stack is.
const TOP_GAP: u64 = 0x1_0000_0000;

/// A file that mappings keep, and the granted object its pages come from.
pub struct Backed {
    pub handle: Handle,
    pub file: Arc<dyn File>,
    /// Keeps the file's node, if it has one.
    pub location: Option<Location>,
    /// Whether shared pages may be written: the file was opened for it.
    pub writable: bool,
}

/// Rounds up to whole pages; `None` on overflow.
pub fn page_up(length: u64) -> Option<u64> {
    length.checked_add(PAGE - 1).map(|end| end & !(PAGE - 1))
}

/// One process's address space.
pub struct AddressSpace {
    pub mappings: Mappings,
    end: u64,
    /// Where the last unasked-for mapping went; the next is tried below it.
    cursor: u64,
    pub break_start: u64,
    pub break_end: u64,
}

/// What a new mapping shall be.
pub struct Wanted {
    pub protection: Protection,
    pub shared: bool,
    pub content: Content,
}

impl AddressSpace {
    pub fn new(end: u64) -> Self {
        Self { mappings: Mappings::default(), end, cursor: end - TOP_GAP, break_start: 0, break_end: 0 }
    }

    /// The same for a copy of the space.
    fn inherited(&self) -> Self {
        Self { mappings: self.mappings.inherited(), ..*self }
    }

    /// The end of the addresses a program may have.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Checks a range that a program names: aligned, not empty, inside.
    pub fn check(&self, address: u64, length: u64) -> Result<UserRange> {
        let length = page_up(length).filter(|length| *length != 0).ok_or(Errno::EINVAL)?;
        if !address.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        match address.checked_add(length) {
            Some(end) if end <= self.end => Ok(UserRange::new(address, length)),
            _ => Err(Errno::ENOMEM),
        }
    }

    /// A free range of `length` bytes, near `hint` if that is free. `below` limits it (MAP_32BIT).
    pub fn find_free(&mut self, hint: u64, length: u64, below: u64) -> Result<UserRange> {
        let hint = hint & !(PAGE - 1);
        if hint >= LOWEST && hint.checked_add(length).is_some_and(|end| end <= self.end && end <= below) {
            let range = UserRange::new(hint, length);
            if self.mappings.is_free(range) {
                return Ok(range);
            }
        }
        let top = below.min(self.end - TOP_GAP);
        if self.cursor <= top
            && let Some(start) = self.cursor.checked_sub(length)
        {
            let range = UserRange::new(start, length);
            if start >= LOWEST && self.mappings.is_free(range) {
                self.cursor = start;
                return Ok(range);
            }
        }
        let start = self.mappings.highest_gap(length, LOWEST, top).ok_or(Errno::ENOMEM)?;
        if below >= self.end {
            self.cursor = start;
        }
        Ok(UserRange::new(start, length))
    }

    /// Maps `range`, replacing what is there.
    pub fn map(
        &mut self,
        machine: &dyn Machine,
        space: Space,
        range: UserRange,
        wanted: Wanted,
    ) -> Result<()> {
        let backing = match &wanted.content {
            Content::File { backed, offset, .. } => {
                Backing::File { handle: backed.handle, offset: *offset, shared: wanted.shared }
            }
            _ => Backing::Anonymous,
        };
        machine.map(space, range, wanted.protection, backing)?;
        self.mappings.insert(
            range,
            Mapping {
                protection: wanted.protection,
                shared: wanted.shared,
                content: wanted.content,
                locked: false,
                inheritance: Inheritance::default(),
            },
        );
        Ok(())
    }

    pub fn unmap(&mut self, machine: &dyn Machine, space: Space, range: UserRange) -> Result<()> {
        machine.unmap(space, range)?;
        self.mappings.remove(range);
        if range.end() > self.cursor && range.address <= self.cursor {
            self.cursor = range.end().min(self.end - TOP_GAP);
        }
        Ok(())
    }

    pub fn protect(
        &mut self,
        machine: &dyn Machine,
        space: Space,
        range: UserRange,
        protection: Protection,
    ) -> Result<()> {
        // What lies before a hole is changed, as on Linux.
        let hole = self.mappings.first_hole(range);
        let range = UserRange::new(range.address, hole.unwrap_or(range.end()) - range.address);
        if range.length == 0 {
            return Err(Errno::ENOMEM);
        }
        if protection.contains(Protection::WRITE) && !self.mappings.may_write(range) {
            return Err(Errno::EACCES);
        }
        machine.protect(space, range, protection)?;
        self.mappings.change(range, |mapping| mapping.protection = protection);
        if hole.is_some() { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// mremap(2) by moving, growing in place or shrinking.
    pub fn remap(
        &mut self,
        machine: &dyn Machine,
        space: Space,
        from: UserRange,
        length: u64,
        target: Option<u64>,
        may_move: bool,
    ) -> Result<u64> {
        let (_, mapping) = self.mappings.containing(from.address).ok_or(Errno::EFAULT)?;
        let mapping = mapping.clone();
        if from.length != 0 && !self.mappings.is_uniform(from) {
            return Err(Errno::EFAULT);
        }
        if target.is_none() && length <= from.length {
            if length < from.length {
                self.unmap(machine, space, UserRange::new(from.address + length, from.length - length))?;
            }
            return Ok(from.address);
        }
        let growth = UserRange::new(from.end(), length.saturating_sub(from.length));
        let room = growth.end() <= self.end && self.mappings.is_free(growth);
        let address = match target {
            Some(address) => address,
            // One mapping of the host's stays one, which two beside each other need not become (mremap(2), EFAULT).
            None if room => from.address,
            None if may_move => self.find_free(0, length, self.end)?.address,
            None => return Err(Errno::ENOMEM),
        };
        self.relocate(machine, space, from, UserRange::new(address, length), mapping)?;
        Ok(address)
    }

    fn relocate(
        &mut self,
        machine: &dyn Machine,
        space: Space,
        from: UserRange,
        to: UserRange,
        mapping: Mapping,
    ) -> Result<()> {
        machine.relocate(space, from, to)?;
        let moved = self.mappings.offset_content(from.address).unwrap_or(mapping);
        self.mappings.remove(from);
        self.mappings.insert(to, moved);
        Ok(())
    }

    /// mremap(2) with MREMAP_DONTUNMAP: what is left behind is as fresh. Private memory only.
    pub fn remap_away(
        &mut self,
        machine: &dyn Machine,
        space: Space,
        from: UserRange,
        target: Option<u64>,
    ) -> Result<u64> {
        let (_, mapping) = self.mappings.containing(from.address).ok_or(Errno::EFAULT)?;
        let mapping = mapping.clone();
        if !self.mappings.is_uniform(from) {
            return Err(Errno::EFAULT);
        }
        if mapping.shared || !matches!(mapping.content, Content::Anonymous) {
            return Err(Errno::EINVAL);
        }
        let address = match target {
            Some(address) => address,
            None => self.find_free(0, from.length, self.end)?.address,
        };
        let wanted = Wanted { protection: mapping.protection, shared: false, content: Content::Anonymous };
        self.relocate(machine, space, from, UserRange::new(address, from.length), mapping)?;
        self.map(machine, space, from, wanted)?;
        Ok(address)
    }

    /// brk(2): the new end, or the old one if it cannot be moved.
    pub fn set_break(&mut self, machine: &dyn Machine, space: Space, wanted: u64, limit: u64) -> u64 {
        let (Some(new), Some(old)) = (page_up(wanted), page_up(self.break_end)) else {
            return self.break_end;
        };
        if wanted < self.break_start || wanted - self.break_start > limit || new > self.end {
            return self.break_end;
        }
        let done = if new > old {
            let range = UserRange::new(old, new - old);
            let wanted = Wanted {
                protection: Protection::READ | Protection::WRITE,
                shared: false,
                content: Content::Heap,
            };
            // One free page is kept above the heap, as Linux keeps the stack gap.
            self.mappings.is_free(UserRange::new(old, new - old + PAGE))
                && self.map(machine, space, range, wanted).is_ok()
        } else if new < old {
            self.unmap(machine, space, UserRange::new(new, old - new)).is_ok()
        } else {
            true
        };
        if done {
            self.break_end = wanted;
        }
        self.break_end
    }

    /// Passes advice on; discarding is checked against the map (ENOMEM for holes, as madvise(2)).
    pub fn advise(
        &mut self,
        machine: &dyn Machine,
        space: Space,
        range: UserRange,
        advice: Advice,
    ) -> Result<()> {
        let pieces: Vec<UserRange> = self.mappings.pieces(range);
        for piece in &pieces {
            machine.advise(space, *piece, advice)?;
        }
        if self.mappings.is_covered(range) { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Does in a copy for a new process what the program wanted of it.
    pub fn except(&mut self, machine: &dyn Machine, space: Space) {
        for (range, inheritance) in self.mappings.exceptions() {
            let _ = match inheritance {
                Inheritance::Wiped => machine.advise(space, range, Advice::Discard).map_err(Errno::from),
                _ => self.unmap(machine, space, range),
            };
        }
    }

    /// Unmaps everything, for a new program.
    pub fn clear(&mut self, machine: &dyn Machine, space: Space) {
        for range in self.mappings.ranges() {
            let _ = machine.unmap(space, range);
        }
        *self = Self::new(self.end);
    }
}
