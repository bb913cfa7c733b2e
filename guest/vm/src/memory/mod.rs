//! Memory: frames, translation tables, the library OS's own map, and the applications' space.

pub mod dirty;
pub mod flush;
pub mod frame;
pub mod layout;
pub mod map;
pub mod object;
pub mod space;
pub mod table;

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::Code;
use abi::address::{GATE_TABLE, GATE_TABLE_END, USER_END};
use machine::{Advice, PAGE, Protection, Space, UserRange};
use spin::Mutex;

use crate::code::{EFAULT, ENOMEM};

use object::Object;
use space::{Access, Failure, Shown};
use table::{NoMemory, Tables};

pub static CODE: entry::Code = entry::Code::new();

static SPACE: Mutex<space::Space> = Mutex::new(space::Space::new());

/// The physical address of the tables in use.
pub fn root() -> u64 {
    ROOT.load(core::sync::atomic::Ordering::Relaxed)
}
static ROOT: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);

/// Says which tables are in use.
pub fn use_root(root: u64) {
    ROOT.store(root, core::sync::atomic::Ordering::Relaxed);
}

fn with<T>(act: impl FnOnce(&mut space::Space, &mut Tables) -> T) -> T {
    let mut space = SPACE.lock();
    let mut tables = map::OWN.get().expect("invariant: built first").lock();
    act(&mut space, &mut tables)
}

/// A range of whole pages that belongs to applications.
fn check(space: Space, range: UserRange) -> Result<(), Code> {
    assert!(space == Space(0), "rule: there is one space so far");
    assert!((range.address | range.length).is_multiple_of(PAGE), "rule: ranges are page-aligned");
    let inside = range.end() <= USER_END;
    let gates = range.address < GATE_TABLE_END && range.end() > GATE_TABLE;
    if inside && !gates { Ok(()) } else { Err(ENOMEM) }
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

/// After a page fault with this error code: whether something was missing, or whether the address is beyond an
/// object's end.
pub fn resolve(address: u64, error: u64) -> Result<bool, bool> {
    if address >= USER_END {
        return Err(false);
    }
    let access = Access { write: error & 2 != 0, execute: error & 16 != 0 };
    let failure = loop {
        match with(|space, tables| space.resolve(tables, address, access)) {
            Ok(missing) => return Ok(missing),
            Err(Failure::Missing(object, page)) => match object.page(page) {
                Ok(_) => {}
                Err(absent) => break absent.into(),
            },
            Err(failure) => break failure,
        }
    };
    match failure {
        Failure::NoMemory => crate::vm::halt(abi::exit::Exit::OutOfMemory),
        failure => Err(matches!(failure, Failure::Beyond)),
    }
}

pub fn map(space: Space, range: UserRange, protection: Protection, shown: Shown) -> Result<(), Code> {
    check(space, range)?;
    CODE.forget(range);
    let private = matches!(shown, Shown::Object { shared: false, .. });
    with(|space, tables| space.map(tables, range, protection, shown));
    if private {
        CODE.remember(range, protection);
    }
    Ok(())
}

pub fn protect(space: Space, range: UserRange, protection: Protection) -> Result<(), Code> {
    check(space, range)?;
    CODE.protected(range, protection);
    Ok(with(|space, tables| space.protect(tables, range, protection))?)
}

pub fn unmap(space: Space, range: UserRange) -> Result<(), Code> {
    check(space, range)?;
    CODE.forget(range);
    with(|space, tables| space.unmap(tables, range));
    Ok(())
}

pub fn relocate(space: Space, from: UserRange, to: UserRange) -> Result<(), Code> {
    check(space, from)?;
    check(space, to)?;
    CODE.forget(from);
    CODE.forget(to);
    Ok(with(|space, tables| space.relocate(tables, from, to))?)
}

pub fn advise(space: Space, range: UserRange, advice: Advice) -> Result<(), Code> {
    check(space, range)?;
    if advice == Advice::Populate {
        return populate(range);
    }
    with(|space, tables| match advice {
        Advice::Discard => Ok(space.discard(tables, range)?),
        // They may be kept, and nobody needs the memory more.
        Advice::Free | Advice::WillNeed => Ok(()),
        Advice::Populate => Ok(()),
        Advice::HugePages | Advice::SmallPages => {
            space.want_large(range, advice == Advice::HugePages);
            Ok(())
        }
        Advice::Remove => {
            for (object, start, end) in space.objects(range) {
                space.forget(tables, &object, start, end);
                object.punch(start, end);
            }
            Ok(())
        }
    })
}

/// Makes every page of a range present, writable where that is allowed.
fn populate(range: UserRange) -> Result<(), Code> {
    for at in (range.address..range.end()).step_by(PAGE as usize) {
        let write = with(|space, _| space.protection(at)).ok_or(ENOMEM)?.contains(Protection::WRITE);
        resolve(at, u64::from(write) << 1).map_err(|_| EFAULT)?;
    }
    Ok(())
}

/// Writes over code, whatever its protection; a page that others have too is copied first.
pub fn write_code(at: u64, bytes: &[u8]) -> Option<()> {
    let end = at + bytes.len() as u64;
    for page in [at, end - 1].map(|address| address & !(PAGE - 1)) {
        resolve(page, 0).ok()?;
        with(|space, tables| space.make_own(tables, page))?;
    }
    let mut rest = bytes;
    let mut at = at;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min((PAGE - at % PAGE) as usize));
        let page = with(|_, tables| tables.find(at).map(|slot| slot.get().address()))?;
        // SAFETY: the page is the application's alone, and nobody runs its code.
        unsafe {
            let to = frame::direct(page + at % PAGE);
            to.copy_from_nonoverlapping(now.as_ptr(), now.len());
        }
        at += now.len() as u64;
        rest = later;
    }
    Some(())
}

/// Takes the dirty pages of an object, so that the next write to each is seen again.
pub fn take_dirty(object: &Arc<Object>, most: usize) -> Vec<object::Run> {
    with(|space, tables| {
        let runs = object.take_dirty(most);
        for run in &runs {
            space.clean(tables, object, run.first, run.first + run.pages.len() as u64);
        }
        runs
    })
}

/// Changes the length of an object that may be mapped.
pub fn resize(object: &Arc<Object>, length: u64) {
    with(|space, tables| {
        let old = object.length();
        object.resize(length);
        if length < old {
            space.cut_off(tables, object, length.next_multiple_of(PAGE));
        }
    });
}

/// Makes a part of an object that may be mapped zero.
pub fn punch(object: &Arc<Object>, start: u64, end: u64) {
    with(|space, tables| {
        // While the object has its pages they are told from copies.
        space.forget(tables, object, start, end);
        object.punch(start, end);
    });
}
