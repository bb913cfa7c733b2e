//! A directory's data: blocks of entries and names, in order.

use alloc::vec::Vec;

use crate::format::{ENTRY_LENGTH, PAGE};

/// Names with what they stand for, whatever that is.
pub struct Entries<'t, T> {
    sorted: Vec<(&'t [u8], T)>,
}

impl<'t, T: Copy> Entries<'t, T> {
    /// A directory's names, those for itself and its parent among them.
    pub fn new(own: T, parent: T, names: impl Iterator<Item = (&'t [u8], T)>) -> Self {
        let mut sorted: Vec<_> = names.chain([(&b"."[..], own), (&b".."[..], parent)]).collect();
        sorted.sort_by_key(|(name, _)| *name);
        Self { sorted }
    }

    /// As many entries as fit, block by block.
    fn blocks(&self) -> impl Iterator<Item = (&[(&'t [u8], T)], usize)> {
        let mut rest = &self.sorted[..];
        core::iter::from_fn(move || {
            let mut length = 0;
            let fits = |(name, _): &&(&[u8], T)| {
                length += ENTRY_LENGTH + name.len();
                length <= PAGE as usize
            };
            let count = rest.iter().take_while(fits).count();
            let (block, later) = rest.split_at(count);
            rest = later;
            let length = block.iter().map(|(name, _)| ENTRY_LENGTH + name.len()).sum();
            (count > 0).then_some((block, length))
        })
    }

    /// Bytes of all blocks, the last one without what fills it up.
    pub fn length(&self) -> u64 {
        self.blocks().fold(0, |before: u64, (_, length)| before.next_multiple_of(PAGE) + length as u64)
    }

    /// The bytes; `describe` tells the inode's number and its kind as entries tell it.
    pub fn encode(&self, describe: impl Fn(T) -> (u64, u8)) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::new();
        for (block, _) in self.blocks() {
            bytes.resize(bytes.len().next_multiple_of(PAGE as usize), 0);
            let mut name_at = block.len() * ENTRY_LENGTH;
            for (name, what) in block {
                let (number, kind) = describe(*what);
                bytes.extend_from_slice(&number.to_le_bytes());
                bytes.extend_from_slice(&(name_at as u16).to_le_bytes());
                bytes.extend_from_slice(&[kind, 0]);
                name_at += name.len();
            }
            block.iter().for_each(|(name, _)| bytes.extend_from_slice(name));
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::Entries;

    #[test]
    fn the_length_is_that_of_the_bytes() {
        for count in [0, 1, 100, 126, 127, 128, 129, 1000] {
            let names: Vec<String> = (0..count).map(|number| format!("{number:020}")).collect();
            let entries = Entries::new(1, 2, names.iter().map(|name| (name.as_bytes(), 3)));
            assert_eq!(entries.encode(|it| (it, 0)).len() as u64, entries.length(), "{count}");
        }
    }

    #[test]
    fn names_are_in_the_order_of_their_bytes() {
        let entries = Entries::new(1, 2, [(&b"b"[..], 3), (b"\xff", 4), (b"!", 5)].into_iter());
        let bytes = entries.encode(|it| (it, it as u8));
        assert_eq!(&bytes[60..], b"!...b\xff");
        assert_eq!([bytes[0], bytes[12], bytes[24], bytes[36], bytes[48]], [5, 1, 2, 3, 4]);
    }
}
