//! Extended attributes: an inode's own, which follow it, and those it shares with others.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use crate::format::{ATTRIBUTE_HEADER, ATTRIBUTES_HEADER, NAME_MAX, PREFIXES, u16_at, u32_at};
use crate::{Error, Image, Inode, Source};

/// Bytes in the longest value.
pub const VALUE_MAX: usize = 0xffff;
/// Bytes in all names of one inode, each with a NUL behind it, as listxattr(2) limits them.
pub const NAMES_MAX: usize = 0x1_0000;

/// An attribute, with the part of its name that is stored with it.
struct Attribute<'a> {
    prefix: &'static [u8],
    rest: &'a [u8],
    /// Where its value is, in bytes of the image, and how long.
    value: u64,
    length: u16,
}

type Visit<'v> = &'v mut dyn FnMut(Attribute<'_>) -> Result<ControlFlow<()>, Error>;

impl<S: Source> Image<S> {
    /// The names of an inode's extended attributes, in the image's order. Those whose name has a prefix
    /// that Linux does not know are left out, as Linux does.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Corrupt`].
    pub fn extended_names(&self, inode: &Inode) -> Result<Vec<Vec<u8>>, Error> {
        let mut names = Vec::new();
        let mut total = 0;
        self.attributes(inode, &mut |attribute| {
            total += attribute.prefix.len() + attribute.rest.len() + 1;
            if total > NAMES_MAX {
                return Err(Error::Corrupt("too many names of attributes"));
            }
            names.push([attribute.prefix, attribute.rest].concat());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(names)
    }

    /// The value of one of an inode's extended attributes, at most [`VALUE_MAX`] bytes; `None` if it has
    /// none of that name.
    ///
    /// # Errors
    /// [`Error::Truncated`], [`Error::Corrupt`].
    pub fn extended(&self, inode: &Inode, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut found = None;
        self.attributes(inode, &mut |attribute| {
            if name.strip_prefix(attribute.prefix) != Some(attribute.rest) {
                return Ok(ControlFlow::Continue(()));
            }
            let mut value = vec![0; attribute.length.into()];
            self.source.read(attribute.value, &mut value)?;
            found = Some(value);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Hands out an inode's own attributes, then the shared ones.
    fn attributes(&self, inode: &Inode, visit: Visit<'_>) -> Result<(), Error> {
        let (start, length) = inode.attributes;
        if length == 0 {
            return Ok(());
        }
        let mut header = [0; ATTRIBUTES_HEADER as usize];
        self.source.read(start, &mut header)?;
        let shared = u64::from(header[4]);
        let own = ATTRIBUTES_HEADER + shared * 4;
        if own > length {
            return Err(Error::Corrupt("more shared attributes than there is room for"));
        }
        let (mut at, mut left) = (start.checked_add(own).ok_or(Error::Truncated)?, length - own);
        while left > 0 {
            let (taken, flow) = self.attribute(at, left, visit)?;
            if flow.is_break() {
                return Ok(());
            }
            // No more than `left`, whose end `Inode::read` has added up.
            at += taken;
            left -= taken;
        }
        for index in 0..shared {
            let mut number = [0; 4];
            self.source.read(start + ATTRIBUTES_HEADER + index * 4, &mut number)?;
            let at = self.superblock.attributes_at.checked_add(u64::from(u32_at(&number, 0)) * 4);
            if self.attribute(at.ok_or(Error::Truncated)?, u64::MAX, visit)?.1.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hands out the attribute at a place, if its prefix is known; how many bytes it takes, at most `left`.
    fn attribute(&self, at: u64, left: u64, visit: Visit<'_>) -> Result<(u64, ControlFlow<()>), Error> {
        let mut header = [0; ATTRIBUTE_HEADER];
        self.source.read(at, &mut header)?;
        let (name_length, length) = (usize::from(header[0]), u16_at(&header, 2));
        let taken = ATTRIBUTE_HEADER as u64 + name_length as u64 + u64::from(length);
        let taken = taken.next_multiple_of(4);
        if taken > left {
            return Err(Error::Corrupt("an attribute is longer than its place"));
        }
        let Some((_, prefix)) = PREFIXES.iter().find(|(number, _)| *number == header[1]) else {
            return Ok((taken, ControlFlow::Continue(())));
        };
        let mut name = [0; NAME_MAX];
        let rest = &mut name[..name_length];
        let name_at = at.checked_add(ATTRIBUTE_HEADER as u64).ok_or(Error::Truncated)?;
        self.source.read(name_at, rest)?;
        // A prefix with a dot wants more, one without is all there is.
        if rest.contains(&0) || rest.is_empty() == prefix.ends_with(b".") {
            return Err(Error::Corrupt("an attribute's name"));
        }
        let value = name_at.checked_add(name_length as u64).ok_or(Error::Truncated)?;
        Ok((taken, visit(Attribute { prefix, rest, value, length })?))
    }
}
