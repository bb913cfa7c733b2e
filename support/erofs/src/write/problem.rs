//! Why a tree cannot be described or written.

use std::fmt;
use std::io;

/// What is wrong with a tree, or with writing it.
#[derive(Debug)]
pub enum Problem {
    /// A name is empty, `.` or `..`, holds a slash or NUL, or has more than 255 bytes.
    Name,
    /// The directory has that name already.
    Taken,
    /// The directory has no such name.
    Missing,
    /// It is no directory of this tree.
    NotDirectory,
    /// A directory has one name only.
    IsDirectory,
    /// A mode has bits beyond 07777.
    Mode,
    /// A time has 10⁹ nanoseconds or more.
    Time,
    /// A link's target is empty, holds a NUL or has more than 4095 bytes.
    Target,
    /// An extended attribute has a name that EROFS cannot hold.
    AttributeName,
    /// An extended attribute's value, or all of an inode's attributes, are too long.
    AttributeLength,
    /// A file or the image would be longer than EROFS can count.
    TooLarge,
    /// A file's content was not as long as it was said to be, in bytes.
    Content { expected: u64 },
    /// Reading content or writing the image failed.
    Io(io::Error),
}

impl fmt::Display for Problem {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => to.write_str("not a name for a file"),
            Self::Taken => to.write_str("the name is taken"),
            Self::Missing => to.write_str("there is no such name"),
            Self::NotDirectory => to.write_str("not a directory"),
            Self::IsDirectory => to.write_str("a directory cannot have two names"),
            Self::Mode => to.write_str("a mode with bits beyond 07777"),
            Self::Time => to.write_str("a time with a second's worth of nanoseconds"),
            Self::Target => to.write_str("not a target for a symbolic link"),
            Self::AttributeName => to.write_str("an extended attribute's name is not one EROFS can hold"),
            Self::AttributeLength => to.write_str("extended attributes are longer than EROFS can hold"),
            Self::TooLarge => to.write_str("more bytes than EROFS can count"),
            Self::Content { expected } => write!(to, "a file does not have the {expected} bytes it should"),
            Self::Io(error) => error.fmt(to),
        }
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
