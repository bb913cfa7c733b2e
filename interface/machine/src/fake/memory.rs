//! User memory of the fake machine: pages with a protection, and content once they are written.
//!
//! One space is as good as another here, so pages are keyed by space and number. A private page reads
//! through to its file until it is written; a shared one never has content of its own.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use crate::{Advice, Code, Fault, PAGE, Protection, Space, UserRange};

/// The first address that applications cannot have.
pub const USER_END: u64 = 0x7e00_0000_0000;
const ENOMEM: Code = Code(12);

/// A file's bytes, seen by descriptors and mappings alike.
pub type Content = Arc<Mutex<Vec<u8>>>;

/// Where a page's content comes from.
#[derive(Clone)]
pub enum Origin {
    Anonymous,
    File { content: Content, offset: u64, shared: bool },
}

impl Origin {
    /// The same, `pages` further on.
    fn advanced(&self, pages: u64) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            Self::File { content, offset, shared } => {
                Self::File { content: content.clone(), offset: offset + pages * PAGE, shared: *shared }
            }
        }
    }
}

#[derive(Clone)]
struct Page {
    protection: Protection,
    origin: Origin,
    own: Option<Box<[u8]>>,
}

impl Page {
    /// The part of the file behind this page; `Err` if the file ends before it.
    fn file_part(content: &[u8], offset: u64) -> Result<&[u8], Fault> {
        let start = usize::try_from(offset).map_err(|_| Fault)?;
        let rest = content.get(start..).filter(|rest| !rest.is_empty()).ok_or(Fault)?;
        Ok(&rest[..rest.len().min(PAGE as usize)])
    }

    fn whole(&self) -> Result<Box<[u8]>, Fault> {
        if let Some(own) = &self.own {
            return Ok(own.clone());
        }
        let mut bytes = alloc::vec![0; PAGE as usize].into_boxed_slice();
        if let Origin::File { content, offset, .. } = &self.origin {
            let content = super::locked(content);
            let part = Self::file_part(&content, *offset)?;
            bytes[..part.len()].copy_from_slice(part);
        }
        Ok(bytes)
    }

    fn write(&mut self, at: usize, from: &[u8]) -> Result<(), Fault> {
        if let Origin::File { content, offset, shared: true } = &self.origin {
            let mut content = super::locked(content);
            // What is written behind the file's end is lost, as mmap(2) says.
            let length = Self::file_part(&content, *offset)?.len();
            let count = from.len().min(length.saturating_sub(at));
            let start = *offset as usize + at;
            content[start..start + count].copy_from_slice(&from[..count]);
            return Ok(());
        }
        if self.own.is_none() {
            self.own = Some(self.whole()?);
        }
        self.own.as_mut().ok_or(Fault)?[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
}

/// All pages of all spaces.
#[derive(Default)]
pub struct Memory(BTreeMap<(Space, u64), Page>);

fn checked(range: UserRange) -> Result<core::ops::Range<u64>, Code> {
    assert!(
        range.address.is_multiple_of(PAGE) && range.length.is_multiple_of(PAGE),
        "broken rule: a range that is not aligned"
    );
    match range.address.checked_add(range.length) {
        Some(end) if end <= USER_END => Ok(range.address / PAGE..end / PAGE),
        _ => Err(ENOMEM),
    }
}

/// Splits an access at page boundaries: page number, offset in it, and the piece of the buffer.
fn pieces(address: u64, length: usize) -> Result<Vec<(u64, usize, core::ops::Range<usize>)>, Fault> {
    if address.checked_add(length as u64).is_none_or(|end| end > USER_END) {
        return Err(Fault);
    }
    let mut found = Vec::new();
    let mut done = 0;
    while done < length {
        let at = address + done as u64;
        let offset = (at % PAGE) as usize;
        let count = (length - done).min(PAGE as usize - offset);
        found.push((at / PAGE, offset, done..done + count));
        done += count;
    }
    Ok(found)
}

impl Memory {
    pub fn map(
        &mut self,
        space: Space,
        range: UserRange,
        protection: Protection,
        origin: &Origin,
    ) -> Result<(), Code> {
        let pages = checked(range)?;
        for number in pages.clone() {
            let origin = origin.advanced(number - pages.start);
            self.0.insert((space, number), Page { protection, origin, own: None });
        }
        Ok(())
    }

    /// Fails at the first hole; what lies before it is changed (mprotect(2)).
    pub fn protect(&mut self, space: Space, range: UserRange, protection: Protection) -> Result<(), Code> {
        for number in checked(range)? {
            self.0.get_mut(&(space, number)).ok_or(ENOMEM)?.protection = protection;
        }
        Ok(())
    }

    pub fn unmap(&mut self, space: Space, range: UserRange) -> Result<(), Code> {
        let pages = checked(range)?;
        let mut tail = self.0.split_off(&(space, pages.start));
        self.0.append(&mut tail.split_off(&(space, pages.end)));
        Ok(())
    }

    /// Gives a space all pages of another one.
    pub fn copy(&mut self, from: Space, to: Space) {
        let pages: Vec<_> =
            self.0.range((from, 0)..=(from, u64::MAX)).map(|(key, page)| (key.1, page.clone())).collect();
        self.0.extend(pages.into_iter().map(|(number, page)| ((to, number), page)));
    }

    /// Unmaps everything.
    pub fn clear(&mut self, space: Space) {
        self.0.retain(|key, _| key.0 != space);
    }

    pub fn relocate(&mut self, space: Space, from: UserRange, to: UserRange) -> Result<(), Code> {
        let (source, target) = (checked(from)?, checked(to)?);
        if source.start < target.end && target.start < source.end {
            return Err(Code(22));
        }
        if source.clone().any(|number| !self.0.contains_key(&(space, number))) {
            return Err(Code(14));
        }
        self.unmap(space, to)?;
        let mut last = None;
        for (from, to) in source.zip(target.clone()) {
            let page = self.0.remove(&(space, from)).ok_or(Code(14))?;
            last = Some((to, page.protection, page.origin.clone()));
            self.0.insert((space, to), page);
        }
        self.unmap(space, from)?;
        let Some((end, protection, origin)) = last else { return Ok(()) };
        for number in end + 1..target.end {
            let origin = origin.advanced(number - end);
            self.0.insert((space, number), Page { protection, origin, own: None });
        }
        Ok(())
    }

    pub fn advise(&mut self, space: Space, range: UserRange, advice: Advice) -> Result<(), Code> {
        for number in checked(range)? {
            let page = self.0.get_mut(&(space, number)).ok_or(ENOMEM)?;
            match (advice, &page.origin) {
                (Advice::Discard | Advice::Free, _) => page.own = None,
                (Advice::Remove, Origin::File { content, offset, shared: true }) => {
                    let mut content = super::locked(content);
                    let start = (*offset as usize).min(content.len());
                    let end = (start + PAGE as usize).min(content.len());
                    content[start..end].fill(0);
                }
                (Advice::Remove, _) => return Err(Code(22)),
                _ => {}
            }
        }
        Ok(())
    }

    fn page(&mut self, space: Space, number: u64, needed: Protection) -> Result<&mut Page, Fault> {
        let page = self.0.get_mut(&(space, number)).ok_or(Fault)?;
        if page.protection.contains(needed) { Ok(page) } else { Err(Fault) }
    }

    /// Whether an instruction may be fetched there; `None` where nothing is mapped.
    pub fn executable(&self, space: Space, address: u64) -> Option<bool> {
        let page = self.0.get(&(space, address / PAGE))?;
        Some(page.protection.contains(Protection::EXECUTE))
    }

    pub fn copy_in(&mut self, space: Space, from: u64, to: &mut [u8]) -> Result<(), Fault> {
        for (number, offset, part) in pieces(from, to.len())? {
            let whole = self.page(space, number, Protection::READ)?.whole()?;
            to[part.clone()].copy_from_slice(&whole[offset..offset + part.len()]);
        }
        Ok(())
    }

    pub fn copy_out(&mut self, space: Space, from: &[u8], to: u64) -> Result<(), Fault> {
        for (number, offset, part) in pieces(to, from.len())? {
            self.page(space, number, Protection::WRITE)?.write(offset, &from[part])?;
        }
        Ok(())
    }

    pub fn compare_exchange(&mut self, space: Space, address: u64, old: u32, new: u32) -> Result<u32, Fault> {
        assert!(address.is_multiple_of(4), "broken rule: a word that is not aligned");
        let mut bytes = [0; 4];
        self.copy_in(space, address, &mut bytes)?;
        let found = u32::from_le_bytes(bytes);
        if found == old && old != new {
            self.copy_out(space, &new.to_le_bytes(), address)?;
        }
        Ok(found)
    }
}
