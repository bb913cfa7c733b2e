//! The header before a frame that has arrived (`struct virtio_net_hdr`; virtio 1.2, 5.1.6).

const NEEDS_CHECKSUM: u8 = 1;
const CHECKSUM_VALID: u8 = 2;
/// Bytes with the count of buffers, and without, where the legacy interface does not merge them.
const LENGTH: usize = 12;
const LEGACY_LENGTH: usize = 10;

/// How frames arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bytes before each.
    pub header: usize,
    /// One may be spread over several buffers.
    pub merges: bool,
}

/// What is said of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its checksum is known to be right.
    pub verified: bool,
    /// Buffers that the rest of it is in.
    pub more: usize,
}

impl Format {
    /// The format that was agreed on.
    pub fn new(is_modern: bool, merges: bool) -> Self {
        Self { header: if is_modern || merges { LENGTH } else { LEGACY_LENGTH }, merges }
    }

    /// What is said of the frame that begins in a buffer, of which what was written is given; none if there
    /// is nothing behind the header.
    pub fn frame(self, written: &[u8]) -> Option<Frame> {
        let (header, rest) = written.split_at_checked(self.header)?;
        if rest.is_empty() {
            return None;
        }
        let count = if self.merges { u16::from_le_bytes([header[10], header[11]]) } else { 1 };
        let verified = header[0] & (NEEDS_CHECKSUM | CHECKSUM_VALID) != 0;
        Some(Frame { verified, more: usize::from(count.saturating_sub(1)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_counted_where_they_merge() {
        let mut bytes = [0; LENGTH + 1];
        bytes[10] = 3;
        let frame = |verified, more| Some(Frame { verified, more });
        assert_eq!(Format::new(true, true).frame(&bytes), frame(false, 2));
        assert_eq!(Format::new(true, false).frame(&bytes), frame(false, 0));
        assert_eq!(Format::new(false, false).frame(&bytes[..LEGACY_LENGTH + 1]), frame(false, 0));
        bytes[0] = CHECKSUM_VALID;
        bytes[10] = 0;
        assert_eq!(Format::new(true, true).frame(&bytes), frame(true, 0));
    }

    #[test]
    fn a_frame_without_a_byte_is_none() {
        for (modern, merges, header) in [(true, true, 12), (false, true, 12), (false, false, 10)] {
            let format = Format::new(modern, merges);
            assert!((0..=header).all(|length| format.frame(&[0xff; 20][..length]).is_none()));
            assert!(format.frame(&[0xff; 20][..=header]).is_some());
        }
    }
}
