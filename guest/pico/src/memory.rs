//! Applications' mappings, by the host's own memory management.
//!
//! They are those of the process that the calling CPU is in. Only ranges below `USER_END` and outside the
//! gate table are touched, and always with an address of the caller's (MAP_FIXED): the library OS keeps the
//! map. The gate table lies where an application linked very low might want to be; such a mapping is refused.

use abi::Code;
use abi::address::{GATE_TABLE, GATE_TABLE_END, USER_END};
use entry::patch::Change;
use entry::user_memory;
use linux_raw_sys::{errno, general as linux};
use machine::{Advice, Backing, PAGE, Protection, Space, UserRange};

use crate::local::Local;
use crate::{hold, host};

/// The calling CPU.
fn local() -> &'static Local {
    Local::current().expect("invariant: only virtual CPUs have applications")
}

/// The code of the space that is active.
fn code() -> &'static entry::Code {
    &local().space().code
}

/// A range of whole pages that belongs to applications.
fn check(space: Space, range: UserRange) -> Result<(), Code> {
    assert!(space == local().space().number(), "rule: the space is active");
    assert!((range.address | range.length).is_multiple_of(PAGE), "rule: ranges are page-aligned");
    let inside = range.end() <= USER_END;
    let gates = range.address < GATE_TABLE_END && range.end() > GATE_TABLE;
    if inside && !gates { Ok(()) } else { Err(Code(errno::ENOMEM as u16)) }
}

fn bits(protection: Protection) -> u64 {
    // The three bits are Linux's PROT_READ, PROT_WRITE and PROT_EXEC.
    protection.bits() as u64
}

pub fn map(space: Space, range: UserRange, protection: Protection, backing: Backing) -> Result<(), Code> {
    check(space, range)?;
    let (flags, file, offset) = match backing {
        Backing::Anonymous => (linux::MAP_PRIVATE | linux::MAP_ANONYMOUS, u64::MAX, 0),
        Backing::File { handle, offset, shared } => {
            let kind = if shared { linux::MAP_SHARED } else { linux::MAP_PRIVATE };
            (kind, handle.descriptor() as u64, offset)
        }
    };
    let flags = (flags | linux::MAP_FIXED | linux::MAP_NORESERVE) as u64;
    code().forget(range);
    // SAFETY: the range is the applications', which no Rust object lies in.
    unsafe {
        host::call(linux::__NR_mmap, [range.address, range.length, bits(protection), flags, file, offset])
    }?;
    let private_file = matches!(backing, Backing::File { shared: false, .. });
    if private_file {
        code().remember(range, protection);
    }
    Ok(())
}

pub fn protect(space: Space, range: UserRange, protection: Protection) -> Result<(), Code> {
    check(space, range)?;
    code().protected(range, protection);
    // SAFETY: as in `map`.
    unsafe { host::call(linux::__NR_mprotect, [range.address, range.length, bits(protection)]) }.map(drop)
}

pub fn unmap(space: Space, range: UserRange) -> Result<(), Code> {
    check(space, range)?;
    code().forget(range);
    // SAFETY: as in `map`.
    unsafe { host::call(linux::__NR_munmap, [range.address, range.length]) }.map(drop)
}

pub fn relocate(space: Space, from: UserRange, to: UserRange) -> Result<(), Code> {
    check(space, from)?;
    check(space, to)?;
    code().forget(from);
    code().forget(to);
    let flags = (linux::MREMAP_MAYMOVE | linux::MREMAP_FIXED) as u64;
    let arguments = if from.address == to.address {
        [from.address, from.length, to.length, 0, 0]
    } else {
        [from.address, from.length, to.length, flags, to.address]
    };
    // SAFETY: as in `map`.
    unsafe { host::call(linux::__NR_mremap, arguments) }.map(drop)
}

pub fn advise(space: Space, range: UserRange, advice: Advice) -> Result<(), Code> {
    check(space, range)?;
    let advice = match advice {
        Advice::Discard => linux::MADV_DONTNEED,
        Advice::Free => linux::MADV_FREE,
        Advice::WillNeed => linux::MADV_WILLNEED,
        Advice::Populate => linux::MADV_POPULATE_WRITE,
        Advice::HugePages => linux::MADV_HUGEPAGE,
        Advice::SmallPages => linux::MADV_NOHUGEPAGE,
        Advice::Remove => linux::MADV_REMOVE,
    };
    // SAFETY: as in `map`.
    unsafe { host::call(linux::__NR_madvise, [range.address, range.length, advice as u64]) }.map(drop)
}

/// Writes over code while nobody runs any; its pages are not executable in that moment.
pub fn change_code(local: &Local, change: Change<'_>) -> Option<()> {
    let _held = hold::others(local);
    let page = change.at & !(PAGE - 1);
    let end = change.at + change.bytes.len() as u64;
    let range = UserRange::new(page, end.next_multiple_of(PAGE) - page);
    let protect = |protection: Protection| {
        // SAFETY: whole pages of an application's mapping.
        unsafe { host::call(linux::__NR_mprotect, [range.address, range.length, bits(protection)]) }.ok()
    };
    protect(Protection::READ | Protection::WRITE)?;
    let written = user_memory::copy_out(USER_END, change.bytes, change.at);
    protect(change.protection)?;
    written.ok()
}
