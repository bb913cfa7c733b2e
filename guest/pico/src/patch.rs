//! Patching call sites that have trapped a few times.
//!
//! Sites that run once are not worth it: a trap costs less than a patch. A site that cannot be patched
//! is not tried again. While bytes change, no other CPU runs the application, so no instruction is ever
//! seen half-written; the pages are not executable in that moment.

use alloc::vec;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use abi::pico::USER_END;
use linux_raw_sys::general as linux;
use machine::{Context, PAGE, Protection};

use crate::local::Local;
use crate::lock::Mutex;
use crate::{code, hold, host, stub, user_memory};

/// Traps before a site is patched.
const PATIENCE: u8 = 3;
/// How much code around a site is searched for jumps into it.
const REACH: u64 = 8 * 1024;

/// Traps seen per site, by a hash of its address; a collision only makes patching earlier or later.
static TRAPS: [AtomicU8; 4096] = [const { AtomicU8::new(0) }; 4096];
/// Held while a site is patched.
static PATCHING: Mutex<()> = Mutex::new(());

/// Patches the site of the system call that has just trapped, if it may be and is worth it.
#[cold]
pub fn consider(local: &Local, context: &Context) {
    let site = context.registers.rip - 2;
    let traps = &TRAPS[(site.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize];
    let seen = traps.load(Relaxed);
    if seen > PATIENCE {
        return;
    }
    traps.store(seen + 1, Relaxed);
    if seen == PATIENCE {
        patch(local, site, context.registers.rax as u32);
    }
}

/// Code has gone away: others may come to stand there.
pub fn forget() {
    TRAPS.iter().for_each(|traps| traps.store(0, Relaxed));
}

fn patch(local: &Local, site: u64, number: u32) -> Option<()> {
    let _patching = PATCHING.lock();
    let (start, end, protection) = code::around(site)?;
    let start = start.max(site.saturating_sub(REACH));
    let mut bytes = vec![0; (end.min(site + REACH) - start) as usize];
    user_memory::copy_in(USER_END, start, &mut bytes).ok()?;
    let plan = gate::plan(gate::Code { start, bytes: &bytes }, site, number).ok()?;
    let slot = stub::make(&plan)?;
    let _held = hold::others(local);
    let page = plan.at & !(PAGE - 1);
    let length = (plan.at + gate::PATCH as u64 - page).next_multiple_of(PAGE);
    protect(page, length, Protection::READ | Protection::WRITE)?;
    let written = user_memory::copy_out(USER_END, &plan.jump(slot), plan.at);
    protect(page, length, protection)?;
    written.ok()
}

fn protect(page: u64, length: u64, protection: Protection) -> Option<()> {
    // SAFETY: whole pages of an application's mapping.
    unsafe { host::call(linux::__NR_mprotect, [page, length, protection.bits() as u64]) }.ok().map(drop)
}
