//! Why an image, or a part of it, cannot be read.

use core::fmt;

/// What is wrong. Nothing of it is ever the reader's state: the same question gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The source failed to give bytes that it says it has.
    Unreadable,
    /// The image refers to bytes beyond its own end.
    Truncated,
    /// There is no EROFS superblock.
    NotErofs,
    /// The superblock's checksum is not that of its bytes.
    Checksum,
    /// Blocks are not of 4096 bytes; the base-2 logarithm of what they are.
    BlockSize(u8),
    /// The image, or the file, is compressed.
    Compressed,
    /// Data lie on further devices.
    Devices,
    /// Attributes' names have prefixes that the image defines itself.
    Prefixes,
    /// Other features that a reader must know; their bits in `feature_incompat`.
    Features(u32),
    /// An inode has a form that is not known; its `i_format`.
    Form(u16),
    /// A chunked file has a form that is not known; its chunk format.
    Chunks(u16),
    /// The image contradicts itself; in what.
    Corrupt(&'static str),
    /// It was asked of something that is no directory.
    NotDirectory,
    /// It was asked of something that is no regular file.
    NotRegular,
    /// It was asked of something that is no symbolic link.
    NotLink,
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => to.write_str("the image cannot be read"),
            Self::Truncated => to.write_str("the image ends before what it refers to"),
            Self::NotErofs => to.write_str("this is no EROFS image"),
            Self::Checksum => to.write_str("the image's superblock is damaged: its checksum is wrong"),
            Self::BlockSize(bits) => write!(to, "blocks of 2^{bits} bytes; only 4096 bytes are supported"),
            Self::Compressed => to.write_str("compressed EROFS images are not supported"),
            Self::Devices => to.write_str("EROFS images over several devices are not supported"),
            Self::Prefixes => {
                to.write_str("EROFS images with attribute name prefixes of their own are not supported")
            }
            Self::Features(bits) => write!(to, "unknown EROFS features {bits:#x}"),
            Self::Form(format) => write!(to, "unknown form of inode {format:#x}"),
            Self::Chunks(format) => write!(to, "unknown form of chunks {format:#x}"),
            Self::Corrupt(what) => write!(to, "the image is damaged: {what}"),
            Self::NotDirectory => to.write_str("not a directory"),
            Self::NotRegular => to.write_str("not a regular file"),
            Self::NotLink => to.write_str("not a symbolic link"),
        }
    }
}

impl core::error::Error for Error {}
