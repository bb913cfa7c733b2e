//! Where applications have mapped files privately: the only code that is ever patched.
//!
//! Just-in-time compilers write and check their code themselves, so theirs stays as it is.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use machine::{Protection, UserRange};
use spin::Mutex;

use crate::{patch, stub};

#[derive(Clone, Copy)]
struct Area {
    end: u64,
    protection: Protection,
}

/// Areas by start; they do not overlap.
static AREAS: Mutex<BTreeMap<u64, Area>> = Mutex::new(BTreeMap::new());

/// Notes a new private file mapping.
pub fn remember(range: UserRange, protection: Protection) {
    if range.length > 0 {
        AREAS.lock().insert(range.address, Area { end: range.end(), protection });
    }
}

/// Notes that something else takes a range's place, or nothing.
pub fn forget(range: UserRange) {
    let (touched, executable) = cut(range, None);
    if touched && executable {
        stub::forget(range);
        patch::forget();
    }
}

/// Notes a change of protection.
pub fn protected(range: UserRange, protection: Protection) {
    cut(range, Some(protection));
}

/// The file mapping around an address whose code may be patched.
pub fn around(address: u64) -> Option<(u64, u64, Protection)> {
    let areas = AREAS.lock();
    let (&start, area) = areas.range(..=address).next_back()?;
    let fit = address < area.end
        && area.protection.contains(Protection::READ | Protection::EXECUTE)
        && !area.protection.contains(Protection::WRITE);
    fit.then_some((start, area.end, area.protection))
}

/// Removes a range from the areas, or gives the part that was there another protection. Answers whether
/// there was such a part, and whether some of it was executable.
fn cut(range: UserRange, protection: Option<Protection>) -> (bool, bool) {
    let (start, end) = (range.address, range.end());
    let mut areas = AREAS.lock();
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
