//! Control messages beside a socket's data: `struct cmsghdr` and what follows it (cmsg(3)).

use crate::errno::{Errno, Result};

/// Bytes of `struct cmsghdr`.
pub const HEADER: usize = 16;

/// One message of a sender's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    pub level: u32,
    pub kind: u32,
    pub data: &'a [u8],
}

/// The messages in a buffer; one whose length is wrong is EINVAL, and the last.
pub fn read(mut rest: &[u8]) -> impl Iterator<Item = Result<Control<'_>>> {
    core::iter::from_fn(move || {
        let header = rest.first_chunk::<HEADER>()?;
        let length = usize::try_from(u64::from_le_bytes(*header.first_chunk()?)).unwrap_or(usize::MAX);
        let Some(data) = rest.get(HEADER..length) else {
            rest = &[];
            return Some(Err(Errno::EINVAL));
        };
        let level = u32::from_le_bytes(*header[8..].first_chunk()?);
        let kind = u32::from_le_bytes(*header[12..].first_chunk()?);
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or(&[]);
        Some(Ok(Control { level, kind, data }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn header(length: u64) -> Vec<u8> {
        [&length.to_le_bytes()[..], &[1, 0, 0, 0], &[2, 0, 0, 0]].concat()
    }

    #[test]
    fn messages_are_aligned_and_follow_each_other() {
        let bytes = [&header(20)[..], &[7, 7, 7, 7, 0, 0, 0, 0], &header(16)[..]].concat();
        let read: Vec<_> = read(&bytes).collect();
        let control = |data| Ok(Control { level: 1, kind: 2, data });
        assert_eq!(read, [control(&[7, 7, 7, 7]), control(&[])]);
    }

    #[test]
    fn a_wrong_length_ends_them() {
        for length in [0, 15, 17, u64::MAX] {
            let bytes = [header(16), header(length)].concat();
            let read: Vec<_> = read(&bytes).collect();
            assert_eq!(read.last(), Some(&Err(Errno::EINVAL)), "{length}");
            assert_eq!(read.len(), 2);
        }
        assert_eq!(read(&header(16)[..15]).count(), 0);
    }
}
