//! A reference to a page of memory.

use core::sync::atomic::Ordering::*;

use machine::PAGE;

use super::frame::{self, direct};

/// One reference to a page.
#[derive(Debug, PartialEq, Eq)]
pub struct Page(u64);

impl Page {
    /// A page of whatever content. Pages of files that can be read again make room.
    pub fn take() -> Option<Self> {
        const SHED: usize = 64;
        let page = frame::take_page();
        let page = page.or_else(|| if crate::device::shed(SHED) { frame::take_page() } else { None });
        page.map(Self)
    }

    pub fn zeroed() -> Option<Self> {
        let page = Self::take()?;
        // SAFETY: the page is this reference's alone.
        unsafe { page.bytes().write_bytes(0, PAGE as usize) };
        Some(page)
    }

    /// A page with the same content.
    pub fn copied(&self) -> Option<Self> {
        let page = Self::take()?;
        // SAFETY: the new page is nobody else's, so the two do not overlap.
        unsafe { page.bytes().copy_from_nonoverlapping(self.bytes(), PAGE as usize) };
        Some(page)
    }

    pub fn address(&self) -> u64 {
        self.0
    }

    pub fn bytes(&self) -> *mut u8 {
        direct(self.0)
    }

    /// Whether this is the only reference.
    pub fn is_alone(&self) -> bool {
        frame::count(self.0).is_some_and(|count| count.load(Acquire) == 1)
    }

    /// Gives the reference to a table, which keeps only the address.
    pub fn into_address(self) -> u64 {
        let address = self.0;
        core::mem::forget(self);
        address
    }

    /// Takes a reference back from a table; of memory that is not ours there may be any number.
    ///
    /// # Safety
    /// The address came from `into_address`, and is not used any more, or is that of memory that is
    /// never given back.
    pub unsafe fn from_address(address: u64) -> Self {
        Self(address)
    }
}

impl Clone for Page {
    fn clone(&self) -> Self {
        if let Some(count) = frame::count(self.0) {
            count.fetch_add(1, Relaxed);
        }
        Self(self.0)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: this reference, which goes.
        unsafe { frame::give_pages(core::iter::once(self.0)) };
    }
}
