//! Data of files, directories and links: where a stretch of them lies, and reading it.

use alloc::vec;
use alloc::vec::Vec;

use crate::format::{Kind, NO_BLOCK, PAGE, u16_at, u32_at};
use crate::inode::Layout;
use crate::{Error, Image, Inode, Source};

/// Bytes in the longest target of a symbolic link (PATH_MAX without the NUL).
pub const LINK_MAX: usize = 4095;

/// Where a stretch of data begins in the image, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a block of its own; at a block's start if the stretch is.
    Block(u64),
    /// Beside its inode.
    Inline(u64),
    /// Nowhere: it is zero.
    Hole,
}

/// A stretch of data that is stored in one piece, from an offset asked for; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub place: Place,
    /// Bytes in it.
    pub length: u64,
}

impl<S: Source> Image<S> {
    /// The stretch that begins at an offset, which must be below the inode's size.
    pub(crate) fn extent(&self, inode: &Inode, offset: u64) -> Result<Extent, Error> {
        let rest = inode.size.checked_sub(offset).filter(|rest| *rest > 0).ok_or(Error::Truncated)?;
        let from = |start: u64, offset: u64| start.checked_add(offset).ok_or(Error::Truncated);
        match inode.layout {
            Layout::Nowhere => Err(Error::Corrupt("data without a place")),
            Layout::Plain { start } => Ok(Extent { place: Place::Block(from(start, offset)?), length: rest }),
            Layout::Inline { start, tail } => {
                let whole = inode.size - inode.size % PAGE;
                match whole.checked_sub(offset) {
                    None | Some(0) => {
                        Ok(Extent { place: Place::Inline(from(tail, offset - whole)?), length: rest })
                    }
                    Some(length) => Ok(Extent { place: Place::Block(from(start, offset)?), length }),
                }
            }
            Layout::Chunked { bits, table, indexes } => {
                let within = offset & ((1 << bits) - 1);
                let length = ((1 << bits) - within).min(rest);
                let place = match self.chunk(table, indexes, offset >> bits)? {
                    NO_BLOCK => Place::Hole,
                    block => Place::Block(from(u64::from(block) * PAGE, within)?),
                };
                Ok(Extent { place, length })
            }
        }
    }

    /// The block where a chunk begins, from the table.
    fn chunk(&self, table: u64, indexes: bool, number: u64) -> Result<u32, Error> {
        let width = if indexes { 8 } else { 4 };
        let at = number.checked_mul(width).and_then(|it| it.checked_add(table)).ok_or(Error::Truncated)?;
        let mut entry = [0; 8];
        self.source.read(at, &mut entry[..width as usize])?;
        if !indexes {
            return Ok(u32_at(&entry, 0));
        }
        let block = u32_at(&entry, 4);
        if u16_at(&entry, 2) != 0 && block != NO_BLOCK { Err(Error::Devices) } else { Ok(block) }
    }

    /// Reads a regular file from `offset` on, as pread(2) does; answers how many bytes there were, fewer
    /// than asked for only at the file's end.
    ///
    /// # Errors
    /// [`Error::NotRegular`]; [`Error::Truncated`] and [`Error::Corrupt`], with `to` partly overwritten.
    pub fn read(&self, file: &Inode, offset: u64, to: &mut [u8]) -> Result<usize, Error> {
        if file.kind != Kind::Regular {
            return Err(Error::NotRegular);
        }
        self.read_data(file, offset, to)
    }

    fn read_data(&self, inode: &Inode, mut offset: u64, to: &mut [u8]) -> Result<usize, Error> {
        let length = to.len().min(usize::try_from(inode.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        let mut left = &mut to[..length];
        while !left.is_empty() {
            let extent = self.extent(inode, offset)?;
            let part = left.len().min(usize::try_from(extent.length).unwrap_or(usize::MAX));
            let (now, later) = left.split_at_mut(part);
            match extent.place {
                Place::Block(at) | Place::Inline(at) => self.source.read(at, now)?,
                Place::Hole => now.fill(0),
            }
            offset += part as u64;
            left = later;
        }
        Ok(length)
    }

    /// Where a symbolic link points to. It is never empty, has no NUL and at most [`LINK_MAX`] bytes.
    ///
    /// # Errors
    /// [`Error::NotLink`], [`Error::Truncated`], [`Error::Corrupt`].
    pub fn target(&self, link: &Inode) -> Result<Vec<u8>, Error> {
        if link.kind != Kind::Link {
            return Err(Error::NotLink);
        }
        let length = usize::try_from(link.size).ok().filter(|length| (1..=LINK_MAX).contains(length));
        let mut target = vec![0; length.ok_or(Error::Corrupt("a link's length"))?];
        self.read_data(link, 0, &mut target)?;
        if target.contains(&0) { Err(Error::Corrupt("a link's target holds a NUL")) } else { Ok(target) }
    }
}
