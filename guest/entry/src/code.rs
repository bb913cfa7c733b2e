//! What is known of the code in one address space: where files are mapped privately, which is the only code
//! that is ever patched, and what was patched of it.
//!
//! Just-in-time compilers write and check their code themselves, so theirs stays as it is. Whoever owns the
//! space keeps its `Code` and tells it of every change of a mapping before it happens.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use machine::{Context, Protection, UserRange};
use spin::Mutex;

use crate::stub::Patches;

#[derive(Clone, Copy)]
struct Area {
    end: u64,
    protection: Protection,
}

/// Sites whose traps are counted apart; others share a count.
const COUNTS: usize = 1024;

/// One address space's code.
pub struct Code {
    /// Areas by start; they do not overlap.
    areas: Mutex<BTreeMap<u64, Area>>,
    pub(crate) patches: Patches,
    /// Traps seen per site, by a hash of its address; a collision only makes patching earlier or later.
    traps: [AtomicU8; COUNTS],
}

impl Default for Code {
    fn default() -> Self {
        Self::new()
    }
}

impl Code {
    pub const fn new() -> Self {
        Self {
            areas: Mutex::new(BTreeMap::new()),
            patches: Patches::new(),
            traps: [const { AtomicU8::new(0) }; COUNTS],
        }
    }

    /// The same for a space that has been copied, whose code is as patched as this one's.
    pub fn copied(&self) -> Self {
        let areas = self.areas.lock().clone();
        let traps = core::array::from_fn(|at| AtomicU8::new(self.traps[at].load(Relaxed)));
        Self { areas: Mutex::new(areas), patches: self.patches.copied(), traps }
    }

    /// Notes a new private file mapping.
    pub fn remember(&self, range: UserRange, protection: Protection) {
        if range.length > 0 {
            self.areas.lock().insert(range.address, Area { end: range.end(), protection });
        }
    }

    /// Notes that something else takes a range's place, or nothing.
    pub fn forget(&self, range: UserRange) {
        let (touched, executable) = self.cut(range, None);
        if touched && executable {
            self.patches.forget(range);
            // Other code may come to stand there.
            self.traps.iter().for_each(|traps| traps.store(0, Relaxed));
        }
    }

    /// Notes a change of protection.
    pub fn protected(&self, range: UserRange, protection: Protection) {
        self.cut(range, Some(protection));
    }

    /// Before an entry: lets a context whose address has been overwritten go on in the stub.
    #[inline]
    pub(crate) fn resume(&self, context: &mut Context) {
        if context.resume == 0 {
            context.resume = self.patches.continuation(context.registers.rip);
        }
    }

    /// The count of the traps at a site.
    pub(crate) fn traps(&self, site: u64) -> &AtomicU8 {
        &self.traps[(site.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize % COUNTS]
    }

    /// The file mapping around an address whose code may be patched.
    pub(crate) fn around(&self, address: u64) -> Option<(u64, u64, Protection)> {
        let areas = self.areas.lock();
        let (&start, area) = areas.range(..=address).next_back()?;
        let fit = address < area.end
            && area.protection.contains(Protection::READ | Protection::EXECUTE)
            && !area.protection.contains(Protection::WRITE);
        fit.then_some((start, area.end, area.protection))
    }

    /// Removes a range from the areas, or gives the part that was there another protection. Answers whether
    /// there was such a part, and whether some of it was executable.
    fn cut(&self, range: UserRange, protection: Option<Protection>) -> (bool, bool) {
        let (start, end) = (range.address, range.end());
        let mut areas = self.areas.lock();
        let met: Vec<(u64, Area)> = areas
            .range(..end)
            .rev()
            .take_while(|(_, area)| area.end > start)
            .map(|(&at, &area)| (at, area))
            .collect();
        for &(at, area) in &met {
            areas.remove(&at);
            if at < start {
                areas.insert(at, Area { end: start, ..area });
            }
            if area.end > end {
                areas.insert(end, area);
            }
            if let Some(protection) = protection {
                areas.insert(at.max(start), Area { end: area.end.min(end), protection });
            }
        }
        let executable = met.iter().any(|(_, area)| area.protection.contains(Protection::EXECUTE));
        (!met.is_empty(), executable)
    }
}
