//! What is promised in an address space: areas, and what each shows.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{PAGE, Protection, UserRange};

use super::layout::LARGE;
use super::object::Object;

/// Areas of this length or more get large pages without being asked.
const LARGE_FROM: u64 = 32 << 20;

/// What a mapping shows.
#[derive(Clone)]
pub enum Shown {
    Nothing,
    /// An object from this page on.
    Object {
        object: Arc<Object>,
        page: u64,
        shared: bool,
    },
}

/// A mapping.
#[derive(Clone)]
pub struct Area {
    pub end: u64,
    pub protection: Protection,
    pub shown: Shown,
    /// Large pages are wanted, or not; none: by the length.
    pub large: Option<bool>,
}

impl Area {
    /// The same from a later address on.
    pub fn from(&self, start: u64, at: u64) -> Self {
        let mut rest = self.clone();
        if let Shown::Object { page, .. } = &mut rest.shown {
            *page += (at - start) / PAGE;
        }
        rest
    }
    /// Whether what is written belongs to the object, and so to all who show it.
    pub fn is_shared(&self) -> bool {
        matches!(self.shown, Shown::Object { shared: true, .. })
    }

    /// Whether the large page around an address is to be one; the area starts there.
    pub fn wants_large(&self, start: u64, address: u64) -> bool {
        let block = address & !(LARGE - 1);
        matches!(self.shown, Shown::Nothing)
            && self.large.unwrap_or(self.end - start >= LARGE_FROM)
            && start <= block
            && block + LARGE <= self.end
    }
}

/// The areas of a space by their starts; they do not overlap.
#[derive(Clone)]
pub struct Areas(BTreeMap<u64, Area>);

impl Areas {
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Takes all.
    pub fn take(&mut self) -> Self {
        Self(core::mem::take(&mut self.0))
    }

    /// The area around an address, and where it starts.
    pub fn at(&self, address: u64) -> Option<(u64, &Area)> {
        let (&start, area) = self.0.range(..=address).next_back()?;
        (address < area.end).then_some((start, area))
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Area)> {
        self.0.iter().map(|(&start, area)| (start, area))
    }

    /// Adds an area where there is none.
    pub fn insert(&mut self, start: u64, area: Area) {
        self.0.insert(start, area);
    }

    /// Removes the part of the areas in a range: the pieces.
    pub fn cut(&mut self, range: UserRange) -> Vec<(u64, Area)> {
        let (start, end) = (range.address, range.end());
        let met: Vec<u64> =
            self.0.range(..end).rev().take_while(|(_, area)| area.end > start).map(|(&at, _)| at).collect();
        let mut pieces = Vec::new();
        for at in met {
            let area = self.0.remove(&at).expect("invariant: just found");
            if area.end > end {
                self.0.insert(end, area.from(at, end));
            }
            let first = at.max(start);
            let mut piece = area.from(at, first);
            piece.end = area.end.min(end);
            if at < start {
                self.0.insert(at, Area { end: start, ..area });
            }
            pieces.push((first, piece));
        }
        pieces
    }

    /// Where objects are shown in a range: object, and the part of it in bytes.
    pub fn objects(&self, range: UserRange) -> Vec<(Arc<Object>, u64, u64)> {
        let mut found = Vec::new();
        for (&start, area) in
            self.0.range(..range.end()).rev().take_while(|(_, area)| area.end > range.address)
        {
            if let Shown::Object { object, page, .. } = &area.shown {
                let (first, last) = (start.max(range.address), area.end.min(range.end()));
                let base = page * PAGE;
                found.push((object.clone(), base + (first - start), base + (last - start)));
            }
        }
        found
    }

    /// Where a part of an object is shown: the addresses, the number of the first page, and whether what is
    /// written there is shared.
    pub fn shows(
        &self,
        object: &Arc<Object>,
        start: u64,
        end: u64,
    ) -> impl Iterator<Item = (u64, u64, u64, bool)> {
        self.0.iter().filter_map(move |(&at, area)| {
            let Shown::Object { object: shown, page, shared } = &area.shown else { return None };
            let base = page * PAGE;
            let first = at + start.max(base).saturating_sub(base);
            let last = area.end.min(at.saturating_add(end.saturating_sub(base)));
            let number = page + (first - at) / PAGE;
            (Arc::ptr_eq(shown, object) && first < last).then_some((first, last, number, *shared))
        })
    }
}
