//! Where everything will be, before anything is written.
//!
//! The first block is the superblock's. Inodes follow, a directory before what it names, each with its
//! attributes and what lies beside it; then the blocks of directories; then those of files, in the inodes'
//! order. Inodes are counted from the image's start, so an inode's number is its offset over 32.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::entries::Entries;
use super::tree::{Body, Node, Tree};
use super::{INLINE_MAX, Problem, attributes};
use crate::format::{COMPACT_LENGTH, EXTENDED_LENGTH, PAGE, SLOT, Time};

/// An inode with its place.
pub struct Planned {
    pub node: Node,
    /// The directory that a directory is in.
    pub parent: Node,
    /// Offset of the inode, in bytes.
    pub at: u64,
    /// Whether it has 32 bytes and not 64.
    pub compact: bool,
    pub links: u32,
    /// Bytes of data.
    pub size: u64,
    /// Those of them that lie beside the inode.
    pub inline: u64,
    /// The first block of the others, if there are any.
    pub start: Option<u32>,
}

impl Planned {
    pub fn number(&self) -> u64 {
        self.at / SLOT
    }

    /// Blocks of its own.
    pub fn blocks(&self) -> u64 {
        (self.size - self.inline).div_ceil(PAGE)
    }
}

pub struct Plan {
    /// In the order of their places.
    pub inodes: Vec<Planned>,
    /// Where in `inodes` a node is, if it has a name.
    places: Vec<Option<usize>>,
    /// The time of inodes that have none of their own.
    pub built: Time,
    /// Blocks of the whole image.
    pub blocks: u32,
}

impl Plan {
    pub fn new(tree: &Tree<'_>) -> Result<Self, Problem> {
        let mut plan = Self {
            inodes: Vec::new(),
            places: vec![None; tree.nodes.len()],
            built: Time::default(),
            blocks: 0,
        };
        plan.walk(tree);
        plan.built = usual(plan.inodes.iter().map(|inode| tree.nodes[inode.node.0].attributes.modified));
        plan.place(tree)?;
        Ok(plan)
    }

    /// The inode of a node that has a name.
    pub fn inode(&self, node: Node) -> Option<&Planned> {
        self.inodes.get((*self.places.get(node.0)?)?)
    }

    /// Finds all nodes that have names, and counts those.
    fn walk(&mut self, tree: &Tree<'_>) {
        let mut waiting = vec![(tree.root(), tree.root())];
        while let Some((node, parent)) = waiting.pop() {
            if let Some(known) = self.places[node.0] {
                self.inodes[known].links = self.inodes[known].links.saturating_add(1);
                continue;
            }
            self.places[node.0] = Some(self.inodes.len());
            let Body::Directory(children) = &tree.nodes[node.0].body else {
                self.inodes.push(planned(node, parent, 1));
                continue;
            };
            let below = children.values().filter(|child| tree.children(**child).is_some()).count();
            self.inodes.push(planned(node, parent, u32::try_from(below + 2).unwrap_or(u32::MAX)));
            waiting.extend(children.values().rev().map(|child| (*child, node)));
        }
    }

    fn place(&mut self, tree: &Tree<'_>) -> Result<(), Problem> {
        let mut end = PAGE;
        for inode in &mut self.inodes {
            let described = &tree.nodes[inode.node.0];
            let (size, inline_max) = match &described.body {
                Body::Directory(children) => {
                    let names = children.iter().map(|(name, child)| (&name[..], *child));
                    (Entries::new(inode.node, inode.parent, names).length(), INLINE_MAX)
                }
                Body::File { length, .. } => (*length, tree.inline),
                Body::Link(target) => (target.len() as u64, INLINE_MAX),
                Body::Special(_) => (0, 0),
            };
            inode.size = size;
            inode.inline = match &described.body {
                // A directory is never mapped, so that its last part may be elsewhere than the others.
                Body::Directory(_) => size % PAGE,
                _ => size,
            };
            if inode.inline > inline_max.into() {
                inode.inline = 0;
            }
            inode.compact = is_compact(inode, &described.attributes, self.built);
            let form = if inode.compact { COMPACT_LENGTH } else { EXTENDED_LENGTH } as u64;
            let before = form + attributes::length(&described.attributes.extended)?;
            let whole = matches!(described.body, Body::Link(_));
            inode.at = fit(end, before, inode.inline, whole);
            end = (inode.at + before + inode.inline).next_multiple_of(SLOT);
        }
        let mut block = end.div_ceil(PAGE);
        for directories in [true, false] {
            for inode in &mut self.inodes {
                let (blocks, is_directory) = (inode.blocks(), tree.children(inode.node).is_some());
                if is_directory == directories && blocks > 0 {
                    inode.start = Some(u32::try_from(block).map_err(|_| Problem::TooLarge)?);
                    block = block.checked_add(blocks).ok_or(Problem::TooLarge)?;
                }
            }
        }
        // The greatest number stands for no block.
        self.blocks = u32::try_from(block).ok().filter(|it| *it < u32::MAX).ok_or(Problem::TooLarge)?;
        Ok(())
    }
}

fn planned(node: Node, parent: Node, links: u32) -> Planned {
    let (at, compact, size, inline, start) = (0, false, 0, 0, None);
    Planned { node, parent, at, compact, links, size, inline, start }
}

/// The time that most have; the earliest of several.
fn usual(times: impl Iterator<Item = Time>) -> Time {
    let mut counts = BTreeMap::<_, u64>::new();
    times.for_each(|time| *counts.entry(time).or_default() += 1);
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(time, _)| time).unwrap_or_default()
}

fn is_compact(inode: &Planned, attributes: &super::Attributes, built: Time) -> bool {
    let short = |value: u32| u16::try_from(value).is_ok();
    short(attributes.user)
        && short(attributes.group)
        && short(inode.links)
        && u32::try_from(inode.size).is_ok()
        && attributes.modified == built
}

/// The first slot from `from` on where what lies beside an inode is in one block; if `whole`, and if they
/// fit, so are the inode and its attributes (`before` bytes of them), which older kernels want of links.
fn fit(from: u64, before: u64, inline: u64, whole: bool) -> u64 {
    let (first, length) = match before + inline {
        all if whole && all <= PAGE => (from, all),
        _ => (from + before, inline),
    };
    if first % PAGE + length <= PAGE {
        return from;
    }
    from + (PAGE - first % PAGE).next_multiple_of(SLOT)
}

#[cfg(test)]
mod tests {
    use super::{Time, fit, usual};

    #[test]
    fn nothing_leaves_its_block() {
        for before in [32, 64, 76, 92, 64 + 12 + 5000] {
            for inline in [0, 1, 31, 32, 2048] {
                for from in (4096..12288).step_by(32) {
                    let at = fit(from, before, inline, false);
                    assert!(at >= from && at.is_multiple_of(32));
                    assert!((at + before) % 4096 + inline <= 4096, "{from} {before} {inline}");
                    let at = fit(from, before, inline, true);
                    assert!(before + inline > 4096 || at % 4096 + before + inline <= 4096);
                }
            }
        }
    }

    #[test]
    fn the_usual_time_is_the_most_frequent_one() {
        let times =
            |seconds: &[i64]| seconds.iter().map(|it| Time { seconds: *it, nanoseconds: 0 }).collect();
        let times: fn(&[i64]) -> alloc::vec::Vec<Time> = times;
        assert_eq!(usual(times(&[1, 2, 3, 2]).into_iter()).seconds, 2);
        assert_eq!(usual(times(&[3, 1, 3, 1]).into_iter()).seconds, 1);
    }
}
