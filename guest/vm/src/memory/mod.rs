//! Memory: frames, translation tables, the library OS's own map, and the applications' spaces.
//!
//! What is here are the machine's calls on memory. They act on the space that is active on their CPU; those on objects
//! act wherever an object is shown.

pub mod active;
pub mod area;
mod copy;
pub mod dirty;
mod entry;
pub mod fault;
pub mod flush;
pub mod frame;
pub mod layout;
pub mod map;
mod mappings;
pub mod object;
pub mod shortage;
pub mod spaces;
pub mod table;
mod user;

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Code;
use abi::address::{GATE_TABLE, GATE_TABLE_END, USER_END};
use machine::{Advice, PAGE, Protection, Space, UserRange};

use crate::code::{EFAULT, ENOMEM, EOPNOTSUPP};

use area::Shown;
use fault::{Access, Failure};
use mappings::Mappings;
use object::Object;
use table::NoMemory;

/// The physical address of the first tables.
pub fn root() -> u64 {
    ROOT.load(core::sync::atomic::Ordering::Relaxed)
}
static ROOT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Says which tables are the first.
pub fn use_root(root: u64) {
    ROOT.store(root, core::sync::atomic::Ordering::Relaxed);
}

/// Does something with the active space.
fn with<T>(act: impl FnOnce(&mut Mappings) -> T) -> T {
    spaces::with_active(|space| act(&mut space.mappings.lock()))
}

/// A range of whole pages that belongs to applications.
fn check(space: Space, range: UserRange) -> Result<(), Code> {
    spaces::check(space);
    assert!((range.address | range.length).is_multiple_of(PAGE), "rule: ranges are page-aligned");
    let inside = range.end() <= USER_END;
    let gates = range.address < GATE_TABLE_END && range.end() > GATE_TABLE;
    if inside && !gates { Ok(()) } else { Err(ENOMEM) }
}

/// Tells what is known of code in the active space.
fn code(tell: impl FnOnce(&::entry::Code)) {
    spaces::with_active(|space| tell(&space.code));
}

impl From<NoMemory> for Code {
    fn from(_: NoMemory) -> Self {
        ENOMEM
    }
}

impl From<Failure> for Code {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoMemory => ENOMEM,
            Failure::Denied | Failure::Beyond | Failure::Missing(..) => EFAULT,
        }
    }
}

/// After a page fault in the active space with this error code: whether something was missing. Why not is never that
/// something has to be fetched first.
pub fn resolve(address: u64, error: u64) -> Result<bool, Failure> {
    if address >= USER_END {
        return Err(Failure::Denied);
    }
    let access = Access { write: error & 2 != 0, execute: error & 16 != 0 };
    spaces::with_active(|space| space.access(address, access, |_, missing| missing))
}

pub fn map(space: Space, range: UserRange, protection: Protection, shown: Shown) -> Result<(), Code> {
    check(space, range)?;
    code(|code| code.forget(range));
    let private = matches!(shown, Shown::Object { shared: false, .. });
    with(|mappings| mappings.separate(range))?;
    with(|mappings| mappings.map(range, protection, shown));
    if private {
        code(|code| code.remember(range, protection));
    }
    Ok(())
}

pub fn protect(space: Space, range: UserRange, protection: Protection) -> Result<(), Code> {
    check(space, range)?;
    code(|code| code.protected(range, protection));
    Ok(with(|mappings| mappings.protect(range, protection))?)
}

pub fn unmap(space: Space, range: UserRange) -> Result<(), Code> {
    check(space, range)?;
    code(|code| code.forget(range));
    with(|mappings| mappings.separate(range))?;
    with(|mappings| mappings.unmap(range));
    Ok(())
}

pub fn relocate(space: Space, from: UserRange, to: UserRange) -> Result<(), Code> {
    check(space, from)?;
    check(space, to)?;
    code(|code| [from, to].into_iter().for_each(|range| code.forget(range)));
    Ok(with(|mappings| mappings.relocate(from, to))?)
}

pub fn advise(space: Space, range: UserRange, advice: Advice) -> Result<(), Code> {
    check(space, range)?;
    match advice {
        Advice::Populate => populate(range),
        Advice::Discard => Ok(with(|mappings| mappings.discard(range))?),
        // They may be kept, and nobody needs the memory more.
        Advice::Free | Advice::WillNeed => Ok(()),
        Advice::HugePages | Advice::SmallPages => {
            with(|mappings| mappings.want_large(range, advice == Advice::HugePages));
            Ok(())
        }
        Advice::Remove => {
            let objects = with(|mappings| mappings.areas.objects(range));
            // What is kept elsewhere would still be there.
            if objects.iter().any(|(object, ..)| object.is_kept()) {
                return Err(EOPNOTSUPP);
            }
            objects.iter().for_each(|(object, start, end)| punch(object, *start, *end));
            Ok(())
        }
    }
}

/// Makes every page of a range present, writable where that is allowed.
fn populate(range: UserRange) -> Result<(), Code> {
    for at in (range.address..range.end()).step_by(PAGE as usize) {
        if shortage::is_there() {
            return Err(ENOMEM);
        }
        let protection = with(|mappings| mappings.areas.at(at).map(|(_, area)| area.protection));
        let write = protection.ok_or(ENOMEM)?.contains(Protection::WRITE);
        resolve(at, u64::from(write) << 1)?;
    }
    Ok(())
}

/// Writes over code of the active space, whatever its protection; a page that others have too is copied first.
pub fn write_code(at: u64, bytes: &[u8]) -> Option<()> {
    spaces::with_active(|space| space.write_code(at, bytes))
}

/// Takes the dirty pages of an object, so that the next write to each is seen again. What is written meanwhile is
/// either part of what is stored, or seen.
pub fn take_dirty(object: &Arc<Object>, most: usize) -> Vec<object::Run> {
    let runs = object.take_dirty(most);
    if !runs.is_empty() {
        spaces::each(|space| space.mappings.lock().clean(object, &runs));
    }
    runs
}

/// Changes the length of an object that may be mapped.
pub fn resize(object: &Arc<Object>, length: u64) {
    let old = object.length();
    // First, so that no fault finds what is cut off.
    object.resize(length);
    if length < old {
        spaces::each(|space| space.mappings.lock().cut_off(object, length.next_multiple_of(PAGE)));
    }
}

/// Makes a part of an object that may be mapped zero.
pub fn punch(object: &Arc<Object>, start: u64, end: u64) {
    // They are kept meanwhile, so that nothing else has their places.
    let removed = object.punch(start, end);
    if !removed.is_empty() {
        spaces::each(|space| space.mappings.lock().forget(object, &removed));
    }
}
