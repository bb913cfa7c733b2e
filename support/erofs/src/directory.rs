//! Directories: finding a name, and listing names.
//!
//! A directory's data are blocks; each holds entries of twelve bytes and then their names. Names ascend
//! strictly within a block and from block to block, so a name is found by halving, first among blocks and
//! then in one. `.` and `..` are entries like all others. A listing checks that names ascend, so that
//! no image makes it longer than the directory is.

use core::cmp::Ordering;
use core::ops::ControlFlow;

use crate::data::{Extent, Place};
use crate::format::{ENTRY_LENGTH, Kind, NAME_MAX, PAGE, u16_at, u64_at};
use crate::{Error, Image, Inode, Source};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The inode's number.
    pub number: u64,
    /// The kind that the entry claims, if it claims one; the inode itself may be another.
    pub kind: Option<Kind>,
}

/// An entry of a directory, in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// 1 to 255 bytes, without NUL and slash.
    pub name: &'a [u8],
    pub found: Found,
    /// Where a listing goes on after this entry.
    pub next: u64,
}

/// A block of a directory.
#[derive(Clone, Copy)]
struct Block {
    /// Where it is in the image.
    at: u64,
    /// Bytes of it that are the directory's.
    length: u64,
    /// Entries in it, at least one; the first name follows the last of them.
    count: u64,
}

/// A name with room for the longest.
struct Name {
    bytes: [u8; NAME_MAX],
    length: usize,
}

impl Name {
    fn new() -> Self {
        Self { bytes: [0; NAME_MAX], length: 0 }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

const OUT_OF_PLACE: Error = Error::Corrupt("a directory's name is out of place");

impl<S: Source> Image<S> {
    /// Finds a name in a directory.
    ///
    /// # Errors
    /// [`Error::NotDirectory`], [`Error::Truncated`], [`Error::Corrupt`].
    pub fn look_up(&self, directory: &Inode, name: &[u8]) -> Result<Option<Found>, Error> {
        if !directory.is_directory() {
            return Err(Error::NotDirectory);
        }
        let mut here = Name::new();
        // The last block whose first name is not above the name.
        let (mut low, mut high) = (0, directory.size.div_ceil(PAGE));
        let mut chosen = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let block = self.block(directory, middle)?;
            let found = self.entry(&block, 0, &mut here)?;
            match here.bytes().cmp(name) {
                Ordering::Equal => return Ok(Some(found)),
                Ordering::Less => (low, chosen) = (middle + 1, Some(block)),
                Ordering::Greater => high = middle,
            }
        }
        let Some(block) = chosen else { return Ok(None) };
        let (mut low, mut high) = (1, block.count);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.entry(&block, middle, &mut here)?;
            match here.bytes().cmp(name) {
                Ordering::Equal => return Ok(Some(found)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// Hands out a directory's entries in the order of their names, until `visit` breaks off. `from` is
    /// zero, or where an earlier listing of the same directory was to go on ([`Entry::next`]).
    ///
    /// # Errors
    /// [`Error::NotDirectory`], [`Error::Truncated`], [`Error::Corrupt`].
    pub fn list(
        &self,
        directory: &Inode,
        from: u64,
        mut visit: impl FnMut(Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        if !directory.is_directory() {
            return Err(Error::NotDirectory);
        }
        let (mut here, mut before) = (Name::new(), Name::new());
        let mut first = from % PAGE;
        for index in from / PAGE..directory.size.div_ceil(PAGE) {
            let block = self.block(directory, index)?;
            for number in first..block.count {
                let found = self.entry(&block, number, &mut here)?;
                if here.bytes() <= before.bytes() {
                    return Err(Error::Corrupt("a directory's names are not in order"));
                }
                // Entries are longer than a byte, so there are fewer than bytes in a block.
                let entry = Entry { name: here.bytes(), found, next: index * PAGE + number + 1 };
                if visit(entry).is_break() {
                    return Ok(());
                }
                core::mem::swap(&mut here, &mut before);
            }
            first = 0;
        }
        Ok(())
    }

    /// A block of a directory, which must have it.
    fn block(&self, directory: &Inode, index: u64) -> Result<Block, Error> {
        let Extent { place, length } = self.extent(directory, index * PAGE)?;
        let length = length.min(PAGE);
        let (Place::Block(at) | Place::Inline(at)) = place else {
            return Err(Error::Corrupt("a directory has a hole"));
        };
        if length < ENTRY_LENGTH as u64 {
            return Err(OUT_OF_PLACE);
        }
        let mut entry = [0; ENTRY_LENGTH];
        self.source.read(at, &mut entry)?;
        let names = u64::from(u16_at(&entry, 8));
        let count = names / ENTRY_LENGTH as u64;
        if count == 0 || names % ENTRY_LENGTH as u64 != 0 || names >= length {
            return Err(OUT_OF_PLACE);
        }
        Ok(Block { at, length, count })
    }

    /// What an entry of a block says, and its name.
    fn entry(&self, block: &Block, number: u64, name: &mut Name) -> Result<Found, Error> {
        let mut entries = [0; 2 * ENTRY_LENGTH];
        let is_last = number + 1 >= block.count;
        let part = if is_last { ENTRY_LENGTH } else { 2 * ENTRY_LENGTH };
        let at = |offset: u64| block.at.checked_add(offset).ok_or(Error::Truncated);
        self.source.read(at(number * ENTRY_LENGTH as u64)?, &mut entries[..part])?;
        let start = u64::from(u16_at(&entries, 8));
        let end = if is_last { block.length } else { u16_at(&entries, 8 + ENTRY_LENGTH).into() };
        if start < block.count * ENTRY_LENGTH as u64 || start >= end || end > block.length {
            return Err(OUT_OF_PLACE);
        }
        let length = (end - start).min(NAME_MAX as u64);
        name.length = length as usize;
        self.source.read(at(start)?, &mut name.bytes[..name.length])?;
        let nul = name.bytes().iter().position(|byte| *byte == 0);
        match nul {
            // Zeroes may follow a block's last name.
            Some(nul) if is_last => name.length = nul,
            Some(_) => return Err(Error::Corrupt("a directory's name holds a NUL")),
            None if length == end - start => {}
            None if is_last => self.expect_zero(at(start + length)?)?,
            None => return Err(Error::Corrupt("a directory's name is too long")),
        }
        if name.length == 0 || name.bytes().contains(&b'/') {
            return Err(Error::Corrupt("a directory's name is none"));
        }
        Ok(Found { number: u64_at(&entries, 0), kind: Kind::of_entry(entries[10]) })
    }

    /// Requires that a name of the greatest length ends here.
    fn expect_zero(&self, at: u64) -> Result<(), Error> {
        let mut byte = [0];
        self.source.read(at, &mut byte)?;
        if byte == [0] { Ok(()) } else { Err(Error::Corrupt("a directory's name is too long")) }
    }
}
