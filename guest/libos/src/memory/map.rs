//! The ordered map of a process's mappings.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use machine::{Protection, UserRange};

use super::Backed;
use crate::file::File;

/// What a mapping holds.
#[derive(Clone)]
pub enum Content {
    Anonymous,
    Heap,
    Stack,
    /// The vDSO.
    Code,
    /// A file from an offset on; the path is for /proc.
    File {
        backed: Arc<Backed>,
        offset: u64,
        path: Arc<[u8]>,
        device: u64,
        inode: u64,
    },
}

/// What a new process gets of a mapping (madvise(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inheritance {
    #[default]
    Copied,
    /// MADV_DONTFORK.
    Absent,
    /// MADV_WIPEONFORK.
    Wiped,
}

/// One mapping.
#[derive(Clone)]
pub struct Mapping {
    pub protection: Protection,
    pub shared: bool,
    pub content: Content,
    pub locked: bool,
    pub inheritance: Inheritance,
}

impl Mapping {
    /// The same mapping seen from `distance` bytes further on.
    fn advanced(&self, distance: u64) -> Self {
        let mut later = self.clone();
        if let Content::File { offset, .. } = &mut later.content {
            *offset += distance;
        }
        later
    }

    /// Whether `next`, `distance` bytes further on, continues this mapping.
    fn continues(&self, next: &Self, distance: u64) -> bool {
        let content = match (&self.content, &next.content) {
            (Content::Anonymous, Content::Anonymous) => true,
            (Content::Heap, Content::Heap) => true,
            (Content::File { backed: a, offset: x, .. }, Content::File { backed: b, offset: y, .. }) => {
                Arc::ptr_eq(a, b) && x + distance == *y
            }
            _ => false,
        };
        content
            && self.protection == next.protection
            && self.shared == next.shared
            && self.locked == next.locked
            && self.inheritance == next.inheritance
    }
}

/// Mappings by start address, each with its end.
#[derive(Clone, Default)]
pub struct Mappings(BTreeMap<u64, (u64, Mapping)>);

impl Mappings {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (UserRange, &Mapping)> {
        self.0.iter().map(|(start, (end, mapping))| (UserRange::new(*start, end - start), mapping))
    }

    pub fn ranges(&self) -> Vec<UserRange> {
        self.iter().map(|(range, _)| range).collect()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The mapping that holds an address.
    pub fn containing(&self, address: u64) -> Option<(UserRange, &Mapping)> {
        let (start, (end, mapping)) = self.0.range(..=address).next_back()?;
        (address < *end).then(|| (UserRange::new(*start, end - start), mapping))
    }

    /// The mapping at an address, as if it began there.
    pub fn offset_content(&self, address: u64) -> Option<Mapping> {
        let (range, mapping) = self.containing(address)?;
        Some(mapping.advanced(address - range.address))
    }

    pub fn is_free(&self, range: UserRange) -> bool {
        match self.0.range(..range.end()).next_back() {
            Some((_, (end, _))) => *end <= range.address,
            None => true,
        }
    }

    /// Whether every page of the range is mapped.
    pub fn is_covered(&self, range: UserRange) -> bool {
        self.first_hole(range).is_none()
    }

    /// The first address of the range that is not mapped.
    pub fn first_hole(&self, range: UserRange) -> Option<u64> {
        let mut address = range.address;
        while address < range.end() {
            match self.containing(address) {
                Some((found, _)) => address = found.end(),
                None => return Some(address),
            }
        }
        None
    }

    /// Whether the range lies in mappings that continue one another.
    pub fn is_uniform(&self, range: UserRange) -> bool {
        let Some(first) = self.offset_content(range.address) else { return false };
        let mut address = range.address;
        while address < range.end() {
            match (self.containing(address), self.offset_content(address)) {
                (Some((found, _)), Some(piece)) => {
                    if address != range.address && !first.continues(&piece, address - range.address) {
                        return false;
                    }
                    address = found.end();
                }
                _ => return false,
            }
        }
        true
    }

    /// Whether nothing in the range is shared with a file that was not opened for writing.
    pub fn may_write(&self, range: UserRange) -> bool {
        self.within(range).all(|mapping| match &mapping.content {
            Content::File { backed, .. } => !mapping.shared || backed.writable,
            _ => true,
        })
    }

    /// The mappings that have a part in a range.
    pub fn within(&self, range: UserRange) -> impl Iterator<Item = &Mapping> {
        let first = self.containing(range.address).map_or(range.address, |(found, _)| found.address);
        self.0.range(first..range.end()).map(|(_, (_, mapping))| mapping)
    }

    /// Whether a file is mapped so that it can be written through the mapping.
    pub fn writes_to(&self, file: &Arc<dyn File>) -> bool {
        self.0.values().any(|(_, mapping)| match &mapping.content {
            Content::File { backed, .. } => {
                mapping.shared && backed.writable && Arc::ptr_eq(&backed.file, file)
            }
            _ => false,
        })
    }

    /// The mapped parts of a range.
    pub fn pieces(&self, range: UserRange) -> Vec<UserRange> {
        let mut pieces = Vec::new();
        let first = self.containing(range.address).map_or(range.address, |(found, _)| found.address);
        for (start, (end, _)) in self.0.range(first..range.end()) {
            let from = (*start).max(range.address);
            let to = (*end).min(range.end());
            if from < to {
                pieces.push(UserRange::new(from, to - from));
            }
        }
        pieces
    }

    /// Splits the mapping that crosses an address, so that one begins there.
    fn split(&mut self, address: u64) {
        let Some((range, mapping)) = self.containing(address) else { return };
        if range.address == address {
            return;
        }
        let later = mapping.advanced(address - range.address);
        if let Some(entry) = self.0.get_mut(&range.address) {
            entry.0 = address;
        }
        self.0.insert(address, (range.end(), later));
    }

    pub fn remove(&mut self, range: UserRange) {
        self.split(range.address);
        self.split(range.end());
        let inside: Vec<u64> = self.0.range(range.address..range.end()).map(|(start, _)| *start).collect();
        for start in inside {
            self.0.remove(&start);
        }
    }

    /// Inserts a mapping over what is there, joined with neighbours that it continues.
    pub fn insert(&mut self, range: UserRange, mapping: Mapping) {
        self.remove(range);
        self.0.insert(range.address, (range.end(), mapping));
        self.join(range.address);
        self.join(range.end());
    }

    /// Joins the mapping that begins at `address` with the one that ends there, if they are one.
    fn join(&mut self, address: u64) {
        let Some((end, later)) = self.0.get(&address) else { return };
        let Some((start, (middle, earlier))) = self.0.range(..address).next_back() else { return };
        if *middle != address || !earlier.continues(later, address - start) {
            return;
        }
        let (start, end) = (*start, *end);
        self.0.remove(&address);
        if let Some(entry) = self.0.get_mut(&start) {
            entry.0 = end;
        }
    }

    /// Changes every mapping in a range, split at its ends.
    pub fn change(&mut self, range: UserRange, mut change: impl FnMut(&mut Mapping)) {
        self.split(range.address);
        self.split(range.end());
        let starts: Vec<u64> = self.0.range(range.address..range.end()).map(|(start, _)| *start).collect();
        for start in &starts {
            if let Some((_, mapping)) = self.0.get_mut(start) {
                change(mapping);
            }
        }
        for start in starts {
            self.join(start);
        }
        self.join(range.end());
    }

    /// Start of the highest gap of `length` bytes between `low` and `high`.
    pub fn highest_gap(&self, length: u64, low: u64, high: u64) -> Option<u64> {
        let mut ceiling = high;
        for (start, (end, _)) in self.0.iter().rev() {
            if *start >= high {
                continue;
            }
            if ceiling >= *end && ceiling - end >= length {
                return Some(ceiling - length).filter(|start| *start >= low);
            }
            ceiling = ceiling.min(*start);
        }
        ceiling.checked_sub(length).filter(|start| *start >= low)
    }
}

impl Mappings {
    /// The same in a copy of the address space: locks are not inherited (mlock(2)).
    pub fn inherited(&self) -> Self {
        let mut copy = self.clone();
        copy.0.values_mut().for_each(|(_, mapping)| mapping.locked = false);
        copy
    }

    /// What is not simply copied for a new process.
    pub fn exceptions(&self) -> Vec<(UserRange, Inheritance)> {
        let exceptional = |mapping: &Mapping| mapping.inheritance != Inheritance::Copied;
        let found = self.iter().filter(|(_, mapping)| exceptional(mapping));
        found.map(|(range, mapping)| (range, mapping.inheritance)).collect()
    }
}

/// `rwxp` as /proc prints it.
pub fn rights(mapping: &Mapping) -> [u8; 4] {
    let flag = |bit: Protection, letter: u8| if mapping.protection.contains(bit) { letter } else { b'-' };
    [
        flag(Protection::READ, b'r'),
        flag(Protection::WRITE, b'w'),
        flag(Protection::EXECUTE, b'x'),
        if mapping.shared { b's' } else { b'p' },
    ]
}
