//! User memory of a space that need not be the active one, and code that is not writable: reached where the direct map
//! has the pages.
//!
//! The space's mappings are locked while bytes are copied, so that a page is neither given back nor shared with a copy
//! of the space meanwhile.

use abi::address::USER_END;
use machine::{Fault, PAGE};

use super::fault::{Access, Failure};
use super::frame;
use super::layout::LARGE;
use super::mappings::Mappings;
use super::spaces::Space;

impl Space {
    /// Makes an access possible, fetching what is missing, and does something before that changes again; it is told
    /// whether the access was not possible before. It fails with anything but [`Failure::Missing`].
    pub fn access<T>(
        &self,
        address: u64,
        access: Access,
        act: impl FnOnce(&mut Mappings, bool) -> T,
    ) -> Result<T, Failure> {
        loop {
            let mut mappings = self.mappings.lock();
            match mappings.resolve(address, access) {
                Ok(missing) => return Ok(act(&mut mappings, missing)),
                Err(Failure::Missing(object, page)) => {
                    drop(mappings);
                    // It may wait for a device.
                    object.page(page)?;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Copies between this space's memory, which is written or read, and our own.
    ///
    /// # Safety
    /// `own` names as many bytes that may be read, or written.
    pub unsafe fn transfer(&self, user: u64, own: *mut u8, length: u64, write: bool) -> Result<(), Fault> {
        let end = user.checked_add(length).filter(|end| *end <= USER_END).ok_or(Fault)?;
        let mut at = user;
        while at < end {
            let count = (PAGE - at % PAGE).min(end - at) as usize;
            let own = own.wrapping_add((at - user) as usize);
            let copy = |mappings: &mut Mappings, _| {
                let page = direct(mappings, at).expect("invariant: just made present");
                // SAFETY: the page is there as long as the lock is held; the count ends with it, and for our side there
                // is the caller's promise.
                unsafe {
                    if write {
                        page.copy_from(own, count);
                    } else {
                        own.copy_from(page, count);
                    }
                }
            };
            self.access(at, Access { write, execute: false }, copy).map_err(|_| Fault)?;
            at += count as u64;
        }
        Ok(())
    }

    /// Writes over code, whatever its protection; a page that others have too is copied first.
    pub fn write_code(&self, at: u64, bytes: &[u8]) -> Option<()> {
        let pages = || [at, at + bytes.len() as u64 - 1].into_iter().map(|address| address & !(PAGE - 1));
        for page in pages() {
            self.access(page, Access { write: false, execute: false }, |_, _| ()).ok()?;
        }
        // All of it under the lock: a copy of the space has the whole change or nothing of it.
        let mut mappings = self.mappings.lock();
        pages().try_for_each(|page| mappings.make_own(page))?;
        let mut rest = bytes;
        let mut at = at;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min((PAGE - at % PAGE) as usize));
            // SAFETY: the page is the application's alone, and nobody runs its code.
            unsafe { direct(&mappings, at)?.copy_from_nonoverlapping(now.as_ptr(), now.len()) };
            at += now.len() as u64;
            rest = later;
        }
        Some(())
    }
}

/// Where the direct map has the byte behind an address, if that is present.
fn direct(mappings: &Mappings, at: u64) -> Option<*mut u8> {
    let entry = mappings.tables.find(at)?.get();
    let length = if entry.is_large() { LARGE } else { PAGE };
    entry.is_present().then(|| frame::direct(entry.address() + at % length))
}
