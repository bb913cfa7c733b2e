//! Extended attributes as they follow an inode. None are shared between inodes.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Problem;
use crate::extended::VALUE_MAX;
use crate::format::{ATTRIBUTE_HEADER, ATTRIBUTES_HEADER, NAME_MAX, PREFIXES};

type Extended = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes that follow an inode of these attributes: none, or a header and all of them.
pub fn length(extended: &Extended) -> Result<u64, Problem> {
    if extended.is_empty() {
        return Ok(0);
    }
    let mut total = ATTRIBUTES_HEADER;
    for (name, value) in extended {
        let (_, rest) = split(name).ok_or(Problem::AttributeName)?;
        if value.len() > VALUE_MAX {
            return Err(Problem::AttributeLength);
        }
        total += (ATTRIBUTE_HEADER + rest.len() + value.len()).next_multiple_of(4) as u64;
    }
    if words(total) > u64::from(u16::MAX) { Err(Problem::AttributeLength) } else { Ok(total) }
}

/// How an inode tells that length: words after the header, which counts as one.
pub fn words(length: u64) -> u64 {
    length.checked_sub(ATTRIBUTES_HEADER).map_or(0, |rest| 1 + rest / 4)
}

/// The bytes of that length.
pub fn encode(extended: &Extended) -> Vec<u8> {
    let mut bytes = Vec::new();
    if extended.is_empty() {
        return bytes;
    }
    bytes.resize(ATTRIBUTES_HEADER as usize, 0);
    for (name, value) in extended {
        // Each has been judged by `length`.
        let Some((number, rest)) = split(name) else { continue };
        bytes.extend_from_slice(&[rest.len() as u8, number]);
        bytes.extend_from_slice(&(value.len() as u16).to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// The number of a name's prefix, and the rest.
fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    let (number, prefix, rest) =
        PREFIXES.iter().find_map(|(number, prefix)| Some((*number, prefix, name.strip_prefix(*prefix)?)))?;
    let fits = rest.is_empty() != prefix.ends_with(b".") && rest.len() <= NAME_MAX && !rest.contains(&0);
    fits.then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::{Problem, encode, length, words};

    fn one(name: &[u8], value: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        BTreeMap::from([(name.to_vec(), vec![7; value])])
    }

    #[test]
    fn the_length_is_that_of_the_bytes() {
        for value in 0..9 {
            let extended = one(b"user.name", value);
            let length = length(&extended).expect("it fits");
            assert_eq!(encode(&extended).len() as u64, length);
            assert_eq!(12 + (words(length) - 1) * 4, length);
        }
        assert_eq!((length(&BTreeMap::new()).expect("it fits"), words(0)), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for name in [&b"user."[..], b"other.name", b"system.posix_acl_accessory", b"user.a\0b", b"user"] {
            assert!(matches!(length(&one(name, 0)), Err(Problem::AttributeName)), "{name:?}");
        }
        assert!(length(&one(b"system.posix_acl_access", 28)).is_ok());
        let long = [&b"user."[..], &[b'x'; 256]].concat();
        assert!(matches!(length(&one(&long, 0)), Err(Problem::AttributeName)));
        assert!(length(&one(&long[..260], 0xffff)).is_ok());
        assert!(matches!(length(&one(b"user.x", 0x1_0000)), Err(Problem::AttributeLength)));
        let many = (b'a'..=b'e').map(|last| (vec![b'u', b's', b'e', b'r', b'.', last], vec![0; 0xffff]));
        assert!(matches!(length(&many.collect()), Err(Problem::AttributeLength)));
    }
}
