//! Inodes: what stat(2) tells of a file, and where its data and attributes lie.
//!
//! An inode has 32 or 64 bytes; its own extended attributes follow, then what its data's layout keeps
//! beside it: the last part of the data, or a table of chunks.

use crate::format::{
    ATTRIBUTES_HEADER, CHUNK_BASED, CHUNK_BITS, CHUNK_INDEXES, COMPACT_LENGTH, COMPRESSED_COMPACT,
    COMPRESSED_FULL, EXTENDED_LENGTH, FLAT_INLINE, FLAT_PLAIN, Kind, PAGE, SLOT, Time, u16_at, u32_at,
    u64_at,
};
use crate::{Error, Source, Superblock};

/// A file of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    pub number: u64,
    pub kind: Kind,
    /// Type and permission bits, as in `st_mode`.
    pub mode: u16,
    pub links: u32,
    pub user: u32,
    pub group: u32,
    /// Bytes of data, at most 2⁶³ − 1. A chunked file may claim more than the image holds.
    pub size: u64,
    pub modified: Time,
    /// Device number of a device node, as in `st_rdev`.
    pub device: u32,
    /// Where its own attributes are, in bytes: their start, and how many.
    pub(crate) attributes: (u64, u64),
    pub(crate) layout: Layout,
}

/// Where data lie. Offsets are in bytes, and not yet known to be inside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In one piece from a block's start.
    Plain { start: u64 },
    /// Whole blocks from a block's start; the rest, which is never empty and in one block, elsewhere.
    Inline { start: u64, tail: u64 },
    /// In chunks of 2^`bits` bytes, whose places a table holds: block numbers, or eight bytes that end
    /// with one.
    Chunked { bits: u32, table: u64, indexes: bool },
    /// Nothing to read.
    Nowhere,
}

impl Inode {
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    pub(crate) fn read(source: &impl Source, superblock: &Superblock, number: u64) -> Result<Self, Error> {
        let at = number.checked_mul(SLOT).and_then(|it| it.checked_add(superblock.inodes_at));
        let at = at.ok_or(Error::Truncated)?;
        let mut record = [0; EXTENDED_LENGTH];
        source.read(at, &mut record[..COMPACT_LENGTH])?;
        let format = u16_at(&record, 0);
        let length = if format & 1 != 0 { EXTENDED_LENGTH } else { COMPACT_LENGTH };
        if format & 1 != 0 {
            source.read(at, &mut record)?;
        }
        let mode = u16_at(&record, 4);
        let kind = Kind::of_mode(mode).ok_or(Error::Corrupt("a mode without a type"))?;
        let mut inode = if format & 1 != 0 {
            Self {
                links: u32_at(&record, 44),
                user: u32_at(&record, 24),
                group: u32_at(&record, 28),
                size: u64_at(&record, 8),
                modified: Time { seconds: u64_at(&record, 32) as i64, nanoseconds: u32_at(&record, 40) },
                ..Self::empty(number, kind, mode)
            }
        } else {
            // Linux adds the record's own word to the time of building; it used to be reserved and zero.
            let built = superblock.built;
            let seconds = built.seconds.saturating_add(u32_at(&record, 12).into());
            Self {
                links: u16_at(&record, 6).into(),
                user: u16_at(&record, 24).into(),
                group: u16_at(&record, 26).into(),
                size: u32_at(&record, 8).into(),
                modified: Time { seconds, ..built },
                ..Self::empty(number, kind, mode)
            }
        };
        if inode.modified.nanoseconds >= 1_000_000_000 {
            return Err(Error::Corrupt("a time"));
        }
        if i64::try_from(inode.size).is_err() {
            return Err(Error::Corrupt("a size"));
        }
        let end = at.checked_add(length as u64).ok_or(Error::Truncated)?;
        let attributes = match u64::from(u16_at(&record, 2)) {
            0 => 0,
            words => ATTRIBUTES_HEADER + (words - 1) * 4,
        };
        inode.attributes = (end, attributes);
        let end = end.checked_add(attributes).ok_or(Error::Truncated)?;
        let word = u32_at(&record, 16);
        match kind {
            Kind::Character | Kind::Block => inode.device = word,
            Kind::Fifo | Kind::Socket => {}
            Kind::Regular | Kind::Directory | Kind::Link => {
                inode.layout = Layout::judge(format, word, end, inode.size)?;
            }
        }
        Ok(inode)
    }

    fn empty(number: u64, kind: Kind, mode: u16) -> Self {
        let modified = Time::default();
        let (links, user, group, size, device) = (0, 0, 0, 0, 0);
        let (attributes, layout) = ((0, 0), Layout::Nowhere);
        Self { number, kind, mode, links, user, group, size, modified, device, attributes, layout }
    }
}

impl Layout {
    /// What a format says, with the word that depends on it and the end of inode and attributes.
    fn judge(format: u16, word: u32, end: u64, size: u64) -> Result<Self, Error> {
        let start = u64::from(word) * PAGE;
        match format >> 1 {
            FLAT_PLAIN => Ok(Self::Plain { start }),
            FLAT_INLINE if size == 0 => Ok(Self::Nowhere),
            FLAT_INLINE => {
                let length = size % PAGE;
                if length == 0 || end % PAGE + length > PAGE {
                    return Err(Error::Corrupt("a file's last part leaves its block"));
                }
                Ok(Self::Inline { start, tail: end })
            }
            COMPRESSED_FULL | COMPRESSED_COMPACT => Err(Error::Compressed),
            CHUNK_BASED => {
                let chunks = word as u16;
                if chunks & !(CHUNK_BITS | CHUNK_INDEXES) != 0 {
                    return Err(Error::Chunks(chunks));
                }
                let indexes = chunks & CHUNK_INDEXES != 0;
                let table = end.checked_next_multiple_of(if indexes { 8 } else { 4 });
                let bits = PAGE.trailing_zeros() + u32::from(chunks & CHUNK_BITS);
                Ok(Self::Chunked { bits, table: table.ok_or(Error::Truncated)?, indexes })
            }
            _ => Err(Error::Form(format)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;
    use crate::Error;

    #[test]
    fn the_last_part_stays_in_its_block() {
        assert_eq!(Layout::judge(4, 1, 4096 + 96, 4000), Ok(Layout::Inline { start: 4096, tail: 4192 }));
        for size in [4001, 4095, 4096, 8192, 8192 + 4001] {
            assert!(matches!(Layout::judge(4, 1, 4096 + 96, size), Err(Error::Corrupt(_))), "{size}");
        }
        assert_eq!(Layout::judge(4, 1, 4096 + 96, 0), Ok(Layout::Nowhere));
    }

    #[test]
    fn other_layouts_are_refused_by_name() {
        assert_eq!(Layout::judge(2, 0, 0, 1), Err(Error::Compressed));
        assert_eq!(Layout::judge(7, 0, 0, 1), Err(Error::Compressed));
        assert_eq!(Layout::judge(10, 0, 0, 1), Err(Error::Form(10)));
        assert_eq!(Layout::judge(0x10, 0, 0, 1), Err(Error::Form(0x10)));
        assert_eq!(Layout::judge(8, 0x40, 0, 1), Err(Error::Chunks(0x40)));
        let chunked = Layout::Chunked { bits: 43, table: 40, indexes: true };
        assert_eq!(Layout::judge(9, 0x3f, 36, 1), Ok(chunked));
        assert_eq!(Layout::judge(8, 0, u64::MAX, 1), Err(Error::Truncated));
    }
}
