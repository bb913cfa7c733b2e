//! The superblock: what an image says of itself, and whether it can be read at all.

use crate::checksum::{START, checksum};
use crate::format::{
    BLOCK_BITS, CHUNKED_FILES, COMPATIBLE_CHECKSUM, COMPRESSION, DEVICE_TABLE, MAGIC, NAME_PREFIXES, PAGE,
    SUPERBLOCK, SUPERBLOCK_LENGTH, Time, ZERO_PADDING, u16_at, u32_at, u64_at,
};
use crate::{Error, Source};

/// An image's own description. `inodes`, `blocks`, `identity` and `label` are claims that nothing here
/// relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The number of the root directory's inode.
    pub root: u64,
    pub inodes: u64,
    /// Blocks of 4096 bytes.
    pub blocks: u32,
    /// When the image was made; the modification time of inodes that have none of their own.
    pub built: Time,
    /// The volume's UUID.
    pub identity: [u8; 16],
    /// The volume's name, padded with zeroes.
    pub label: [u8; 16],
    /// Where inodes are counted from, in bytes.
    pub(crate) inodes_at: u64,
    /// Where shared attributes are counted from, in bytes.
    pub(crate) attributes_at: u64,
}

impl Superblock {
    /// Reads and judges it.
    pub(crate) fn read(source: &impl Source) -> Result<Self, Error> {
        let mut record = [0; SUPERBLOCK_LENGTH];
        source.read(SUPERBLOCK, &mut record).map_err(|error| match error {
            Error::Truncated => Error::NotErofs,
            other => other,
        })?;
        if u32_at(&record, 0) != MAGIC {
            return Err(Error::NotErofs);
        }
        if record[12] != BLOCK_BITS {
            return Err(Error::BlockSize(record[12]));
        }
        if u32_at(&record, 8) & COMPATIBLE_CHECKSUM != 0 {
            verify(source, &record)?;
        }
        features(u32_at(&record, 80))?;
        // A table of devices that the feature does not announce is not used.
        if record[90] != 0 {
            return Err(Error::Corrupt("directories have blocks of another size"));
        }
        let built = Time { seconds: u64_at(&record, 24) as i64, nanoseconds: u32_at(&record, 32) };
        if built.nanoseconds >= 1_000_000_000 {
            return Err(Error::Corrupt("a time"));
        }
        let text = |at: usize| core::array::from_fn(|index| record[at + index]);
        Ok(Self {
            root: u16_at(&record, 14).into(),
            inodes: u64_at(&record, 16),
            blocks: u32_at(&record, 36),
            built,
            identity: text(48),
            label: text(64),
            inodes_at: u64::from(u32_at(&record, 40)) * PAGE,
            attributes_at: u64::from(u32_at(&record, 44)) * PAGE,
        })
    }
}

/// The checksum is that of the superblock to the end of its block, as if it were zero itself.
fn verify(source: &impl Source, record: &[u8; SUPERBLOCK_LENGTH]) -> Result<(), Error> {
    let mut sum = checksum(START, &record[..4]);
    sum = checksum(sum, &[0; 4]);
    sum = checksum(sum, &record[8..]);
    let mut at = SUPERBLOCK + SUPERBLOCK_LENGTH as u64;
    let mut part = [0; 128];
    while at < PAGE {
        source.read(at, &mut part)?;
        sum = checksum(sum, &part);
        at += part.len() as u64;
    }
    if sum == u32_at(record, 4) { Ok(()) } else { Err(Error::Checksum) }
}

/// Padding concerns only compressed files, each of which is refused by itself.
fn features(bits: u32) -> Result<(), Error> {
    const KNOWN: u32 = ZERO_PADDING | COMPRESSION | CHUNKED_FILES | DEVICE_TABLE | NAME_PREFIXES;
    if bits & !KNOWN != 0 {
        return Err(Error::Features(bits & !KNOWN));
    }
    if bits & COMPRESSION != 0 {
        return Err(Error::Compressed);
    }
    if bits & DEVICE_TABLE != 0 {
        return Err(Error::Devices);
    }
    if bits & NAME_PREFIXES != 0 { Err(Error::Prefixes) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::Superblock;
    use crate::Error;
    use crate::checksum::{START, checksum};

    /// The first block of an image: a superblock with a checksum.
    fn block(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut block = vec![0; 4096];
        block[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
        block[1032] = 1;
        block[1036] = 12;
        block[1038] = 36;
        change(&mut block);
        let sum = checksum(START, &block[1024..]);
        block[1028..1032].copy_from_slice(&sum.to_le_bytes());
        block
    }

    fn judged(change: impl FnOnce(&mut [u8])) -> Result<Superblock, Error> {
        Superblock::read(&block(change).as_slice())
    }

    #[test]
    fn a_sound_one_is_read() {
        let read = judged(|block| block[1024 + 40] = 2).expect("it is sound");
        assert_eq!((read.root, read.inodes_at), (36, 8192));
        // One that is only about padding of compressed files does no harm.
        assert!(judged(|block| block[1104] = 1).is_ok());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        assert_eq!(judged(|block| block[1024] = 0), Err(Error::NotErofs));
        assert_eq!(judged(|block| block[1036] = 9), Err(Error::BlockSize(9)));
        for bit in [1, 4, 5] {
            assert_eq!(judged(|block| block[1104] = 1 << bit), Err(Error::Compressed));
        }
        assert_eq!(judged(|block| block[1104] = 8), Err(Error::Devices));
        assert_eq!(judged(|block| block[1104] = 0x40), Err(Error::Prefixes));
        assert_eq!(judged(|block| block[1107] = 0x80), Err(Error::Features(0x8000_0000)));
        assert!(matches!(judged(|block| block[1024 + 90] = 1), Err(Error::Corrupt(_))));
        assert!(matches!(judged(|block| block[1024 + 35] = 0xff), Err(Error::Corrupt(_))));
    }

    #[test]
    fn damage_is_noticed() {
        let sound = block(|_| ());
        for at in [1028, 1040, 1200, 4095] {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            assert_eq!(Superblock::read(&damaged.as_slice()), Err(Error::Checksum), "{at}");
        }
        for length in [0, 1024, 1151] {
            assert_eq!(Superblock::read(&&sound[..length]), Err(Error::NotErofs));
        }
        assert_eq!(Superblock::read(&&sound[..4095]), Err(Error::Truncated));
    }
}
