//! Writing what has been planned, from the first byte to the last.

use alloc::vec;
use alloc::vec::Vec;
use std::io::{ErrorKind, Read, Write};

use super::entries::Entries;
use super::plan::{Plan, Planned};
use super::tree::{Body, Content, Described, Special, Tree};
use super::{Problem, attributes};
use crate::checksum::{START, checksum};
use crate::format::{
    BLOCK_BITS, COMPATIBLE_CHECKSUM, COMPATIBLE_MODIFIED, FLAT_INLINE, FLAT_PLAIN, MAGIC, NO_BLOCK, PAGE,
    SUPERBLOCK,
};

/// Bytes of content in hand at a time.
const PART: usize = 0x1_0000;

/// Where the image goes, and how much of it has gone there.
struct Output<'w> {
    to: &'w mut dyn Write,
    position: u64,
    part: Vec<u8>,
}

impl Tree<'_> {
    /// Bytes of the image that [`Tree::write`] writes, a multiple of 4096.
    ///
    /// # Errors
    /// [`Problem::TooLarge`].
    pub fn length(&self) -> Result<u64, Problem> {
        Ok(u64::from(Plan::new(self)?.blocks) * PAGE)
    }

    /// Writes the image; answers its length in bytes, a multiple of 4096. Contents are opened and read
    /// one at a time.
    ///
    /// # Errors
    /// [`Problem::TooLarge`] before anything is written; [`Problem::Content`] and [`Problem::Io`], with a
    /// part of the image written.
    pub fn write(mut self, to: &mut dyn Write) -> Result<u64, Problem> {
        let plan = Plan::new(&self)?;
        let mut output = Output { to, position: 0, part: vec![0; PART] };
        output.put(&superblock(&plan))?;
        for (index, inode) in plan.inodes.iter().enumerate() {
            output.fill_to(inode.at)?;
            let described = &self.nodes[inode.node.0];
            output.put(&record(index, inode, described))?;
            output.put(&attributes::encode(&described.attributes.extended))?;
            output.beside(&plan, inode, &mut self)?;
        }
        for directories in [true, false] {
            for inode in plan.inodes.iter().filter(|inode| inode.start.is_some()) {
                if self.children(inode.node).is_some() == directories {
                    output.blocks(&plan, inode, &mut self)?;
                }
            }
        }
        output.fill_to(u64::from(plan.blocks) * PAGE)?;
        output.to.flush()?;
        Ok(output.position)
    }
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.to.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Writes zeroes up to an offset; none if it has been passed.
    fn fill_to(&mut self, offset: u64) -> Result<(), Problem> {
        const ZEROES: [u8; PAGE as usize] = [0; PAGE as usize];
        while self.position < offset {
            self.put(&ZEROES[..(offset - self.position).min(PAGE) as usize])?;
        }
        Ok(())
    }

    /// Writes the data that lie beside an inode.
    fn beside(&mut self, plan: &Plan, inode: &Planned, tree: &mut Tree<'_>) -> Result<(), Problem> {
        if inode.inline == 0 {
            return Ok(());
        }
        match &mut tree.nodes[inode.node.0].body {
            Body::File { length, content } => self.content(*length, content.take()),
            Body::Link(target) => self.put(target),
            Body::Special(_) => Ok(()),
            Body::Directory(_) => {
                let bytes = entries(plan, inode, tree);
                self.put(&bytes[bytes.len() - inode.inline as usize..])
            }
        }
    }

    /// Writes the data that lie in blocks, and fills the last one.
    fn blocks(&mut self, plan: &Plan, inode: &Planned, tree: &mut Tree<'_>) -> Result<(), Problem> {
        self.fill_to(inode.start.map_or(0, |start| u64::from(start) * PAGE))?;
        match &mut tree.nodes[inode.node.0].body {
            Body::File { length, content } => self.content(*length, content.take())?,
            Body::Link(target) => self.put(target)?,
            Body::Special(_) => {}
            Body::Directory(_) => {
                let bytes = entries(plan, inode, tree);
                self.put(&bytes[..bytes.len() - inode.inline as usize])?;
            }
        }
        self.fill_to(self.position.next_multiple_of(PAGE))
    }

    /// Streams a file's content, which must be as long as it was said to be.
    fn content(&mut self, expected: u64, content: Option<Content<'_>>) -> Result<(), Problem> {
        let Some(content) = content else { return Ok(()) };
        let mut content = content()?;
        let mut part = core::mem::take(&mut self.part);
        let mut left = expected;
        loop {
            // One byte more than there should be, to see that there is none.
            let most = part.len().min(usize::try_from(left.saturating_add(1)).unwrap_or(usize::MAX));
            let count = match content.read(&mut part[..most]) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if (count == 0) != (left == 0) || count as u64 > left {
                return Err(Problem::Content { expected });
            }
            if count == 0 {
                break;
            }
            self.put(&part[..count])?;
            left -= count as u64;
        }
        self.part = part;
        Ok(())
    }
}

/// A directory's data.
fn entries(plan: &Plan, inode: &Planned, tree: &Tree<'_>) -> Vec<u8> {
    let children = tree.children(inode.node).into_iter().flatten();
    let names = children.map(|(name, child)| (&name[..], *child));
    Entries::new(inode.node, inode.parent, names).encode(|node| {
        let number = plan.inode(node).map_or(0, Planned::number);
        (number, tree.nodes[node.0].body.kind().entry())
    })
}

/// The first block.
fn superblock(plan: &Plan) -> Vec<u8> {
    let mut block = vec![0; PAGE as usize];
    let mut put = |at: usize, value: &[u8]| {
        let at = SUPERBLOCK as usize + at;
        block[at..at + value.len()].copy_from_slice(value);
    };
    let root = plan.inodes.first().map_or(0, Planned::number);
    put(0, &MAGIC.to_le_bytes());
    put(8, &(COMPATIBLE_CHECKSUM | COMPATIBLE_MODIFIED).to_le_bytes());
    put(12, &[BLOCK_BITS]);
    // It is the first of all, so its number is small.
    put(14, &(root as u16).to_le_bytes());
    put(16, &(plan.inodes.len() as u64).to_le_bytes());
    put(24, &plan.built.seconds.to_le_bytes());
    put(32, &plan.built.nanoseconds.to_le_bytes());
    put(36, &plan.blocks.to_le_bytes());
    let sum = checksum(START, &block[SUPERBLOCK as usize..]);
    block[SUPERBLOCK as usize + 4..][..4].copy_from_slice(&sum.to_le_bytes());
    block
}

/// An inode.
fn record(index: usize, inode: &Planned, described: &Described<'_>) -> Vec<u8> {
    let Described { attributes, body } = described;
    let layout = if inode.inline > 0 { FLAT_INLINE } else { FLAT_PLAIN };
    let format = layout << 1 | u16::from(!inode.compact);
    // Both have been judged to fit.
    let words = attributes::length(&attributes.extended).map_or(0, attributes::words) as u16;
    let (links, size) = (inode.links as u16, inode.size as u32);
    let word = match body {
        Body::Special(Special::Character(device) | Special::Block(device)) => *device,
        Body::Special(_) => 0,
        _ => inode.start.unwrap_or(NO_BLOCK),
    };
    // For 32-bit stat(2) only.
    let serial = index as u32 + 1;
    let mode = body.kind().mode() | attributes.mode;
    let mut bytes = Vec::new();
    [format, words, mode].iter().for_each(|it| bytes.extend_from_slice(&it.to_le_bytes()));
    if inode.compact {
        bytes.extend_from_slice(&links.to_le_bytes());
        [size, 0, word, serial].iter().for_each(|it| bytes.extend_from_slice(&it.to_le_bytes()));
        bytes.extend_from_slice(&(attributes.user as u16).to_le_bytes());
        bytes.extend_from_slice(&(attributes.group as u16).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        return bytes;
    }
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&inode.size.to_le_bytes());
    let words = [word, serial, attributes.user, attributes.group];
    words.iter().for_each(|it| bytes.extend_from_slice(&it.to_le_bytes()));
    bytes.extend_from_slice(&attributes.modified.seconds.to_le_bytes());
    let words = [attributes.modified.nanoseconds, inode.links];
    words.iter().for_each(|it| bytes.extend_from_slice(&it.to_le_bytes()));
    bytes.extend_from_slice(&[0; 16]);
    bytes
}
