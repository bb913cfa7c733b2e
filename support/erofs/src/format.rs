//! The format's numbers, for reader and writer alike (Linux, fs/erofs/erofs_fs.h). All are little-endian.

/// Bytes in a page, and in a block of the images read and written here.
pub const PAGE: u64 = 4096;
/// Bytes in the longest name of a directory's entry, or of an extended attribute behind its prefix.
pub const NAME_MAX: usize = 255;

/// The superblock: where it is, how long its fixed part is, its first four bytes.
pub const SUPERBLOCK: u64 = 1024;
pub const SUPERBLOCK_LENGTH: usize = 128;
pub const MAGIC: u32 = 0xe0f5_e1e2;
pub const BLOCK_BITS: u8 = 12;

/// Features that a reader may ignore: the superblock has a checksum; inodes have modification times.
pub const COMPATIBLE_CHECKSUM: u32 = 1;
#[cfg(feature = "write")]
pub const COMPATIBLE_MODIFIED: u32 = 2;
/// Features that a reader must know.
pub const ZERO_PADDING: u32 = 0x1;
pub const COMPRESSION: u32 = 0x2 | 0x10 | 0x20;
pub const CHUNKED_FILES: u32 = 0x4;
pub const DEVICE_TABLE: u32 = 0x8;
pub const NAME_PREFIXES: u32 = 0x40;

/// Inodes lie at multiples of this many bytes; their number counts these.
pub const SLOT: u64 = 32;
pub const COMPACT_LENGTH: usize = 32;
pub const EXTENDED_LENGTH: usize = 64;

/// What `i_format` holds above its lowest bit, which tells an extended inode.
pub const FLAT_PLAIN: u16 = 0;
pub const COMPRESSED_FULL: u16 = 1;
pub const FLAT_INLINE: u16 = 2;
pub const COMPRESSED_COMPACT: u16 = 3;
pub const CHUNK_BASED: u16 = 4;

/// Of a chunk format: the base-2 logarithm of a chunk's blocks, and whether entries have eight bytes.
pub const CHUNK_BITS: u16 = 0x1f;
pub const CHUNK_INDEXES: u16 = 0x20;
/// The block of what is not stored.
pub const NO_BLOCK: u32 = u32::MAX;

/// Bytes of a directory entry without its name.
pub const ENTRY_LENGTH: usize = 12;

/// Bytes before an inode's own extended attributes, and before the name of one.
pub const ATTRIBUTES_HEADER: u64 = 12;
pub const ATTRIBUTE_HEADER: usize = 4;
/// What names of extended attributes begin with, by number. The two without a dot are whole names.
pub const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// A point in time: seconds since 1970, and nanoseconds (below 10⁹) after that second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Time {
    /// Nanoseconds since 1970; the nearest there are, for times before 1677 or after 2262.
    pub fn total_ns(self) -> i64 {
        let total = i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds);
        total.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

/// What kind of thing an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Regular,
    Directory,
    Character,
    Block,
    Fifo,
    Socket,
    Link,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Regular, Self::Directory, Self::Character, Self::Block, Self::Fifo, Self::Socket, Self::Link];

    /// The type bits of a mode, as in `st_mode`.
    pub const fn mode(self) -> u16 {
        match self {
            Self::Fifo => 0o010000,
            Self::Character => 0o020000,
            Self::Directory => 0o040000,
            Self::Block => 0o060000,
            Self::Regular => 0o100000,
            Self::Link => 0o120000,
            Self::Socket => 0o140000,
        }
    }

    pub(crate) fn of_mode(mode: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.mode() == mode & 0o170000)
    }

    /// The number by which directory entries tell a kind (fs_types.h: FT_REG_FILE and so on).
    pub(crate) fn of_entry(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    #[cfg(feature = "write")]
    pub(crate) fn entry(self) -> u8 {
        Self::ALL.iter().position(|kind| *kind == self).map_or(0, |index| index as u8 + 1)
    }
}

/// Numbers at constant offsets of records, which are longer than these.
pub fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

pub fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from(u16_at(record, at)) | u32::from(u16_at(record, at + 2)) << 16
}

pub fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from(u32_at(record, at)) | u64::from(u32_at(record, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::{Kind, Time, u64_at};

    #[test]
    fn kinds_are_told_by_mode_and_by_entry() {
        for (kind, number) in Kind::ALL.into_iter().zip(1..) {
            assert_eq!(Kind::of_mode(kind.mode() | 0o7777), Some(kind));
            assert_eq!(Kind::of_entry(number), Some(kind));
        }
        assert_eq!(Kind::of_entry(1), Some(Kind::Regular));
        assert_eq!((Kind::of_entry(0), Kind::of_entry(8), Kind::of_mode(0o170000)), (None, None, None));
    }

    #[test]
    fn times_beyond_all_bounds_stay_in_them() {
        let time = |seconds, nanoseconds| Time { seconds, nanoseconds }.total_ns();
        assert_eq!(time(-1, 999_999_999), -1);
        assert_eq!(time(2, 5), 2_000_000_005);
        assert_eq!((time(i64::MAX, 0), time(i64::MIN, 0)), (i64::MAX, i64::MIN));
    }

    #[test]
    fn numbers_are_little_endian() {
        assert_eq!(u64_at(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 1), 0x0807_0605_0403_0201);
    }
}
