//! Patching call sites that have trapped a few times.
//!
//! Sites that run once are not worth it: a trap costs less than a patch. A site that cannot be patched
//! is not tried again. The machine writes the bytes, and while they change, it lets no other CPU run the
//! application, so that no instruction is ever seen half-written.

use alloc::vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use abi::address::USER_END;
use machine::{Context, Protection};
use spin::Mutex;

use crate::code::Code;
use crate::user_memory;

/// Traps before a site is patched.
const PATIENCE: u8 = 3;
/// How much code around a site is searched for jumps into it.
const REACH: u64 = 8 * 1024;

/// Held while a site is patched.
static PATCHING: Mutex<()> = Mutex::new(());

/// Bytes to be written over code that has this protection.
pub struct Change<'a> {
    pub at: u64,
    pub bytes: &'a [u8],
    pub protection: Protection,
}

/// Patches the site of the system call that has just trapped, if it may be and is worth it; the machine's
/// `write` does so, or tells that it cannot.
#[cold]
pub fn consider(code: &Code, context: &Context, write: impl FnOnce(Change<'_>) -> Option<()>) {
    let site = context.registers.rip - 2;
    let traps = code.traps(site);
    let seen = traps.load(Relaxed);
    if seen > PATIENCE || REFUSED.load(Relaxed) {
        return;
    }
    traps.store(seen + 1, Relaxed);
    if seen == PATIENCE {
        patch(code, site, context.registers.rax as u32, write);
    }
}

/// As long as what this answers lives, no site is patched.
pub fn pause() -> impl Sized {
    PATCHING.lock()
}

/// Patches no site from now on: a debugger is to see the program's own instructions, one by one.
pub fn refuse() {
    REFUSED.store(true, Relaxed);
}
static REFUSED: AtomicBool = AtomicBool::new(false);

fn patch(code: &Code, site: u64, number: u32, write: impl FnOnce(Change<'_>) -> Option<()>) -> Option<()> {
    let _patching = PATCHING.lock();
    let (start, end, protection) = code.around(site)?;
    let start = start.max(site.saturating_sub(REACH));
    let mut bytes = vec![0; (end.min(site + REACH) - start) as usize];
    user_memory::copy_in(USER_END, start, &mut bytes).ok()?;
    let plan = gate::plan(gate::Code { start, bytes: &bytes }, site, number).ok()?;
    let slot = code.patches.make(&plan)?;
    write(Change { at: plan.at, bytes: &plan.jump(slot), protection })
}
