//! Granted trees of the fake machine, in memory: names, the nodes behind them, and requests on both.
//!
//! Paths are whole keys, so a directory's entries are the names that begin with it. As the monitor, it
//! follows no link.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use abi::boot::Tree;
use abi::file::{At, Attributes, Change, Entry, Owner, SetTime};

use super::locked;
use super::memory::Content;
use crate::Code;

const ENOENT: Code = Code(2);
const EEXIST: Code = Code(17);
const ENOTDIR: Code = Code(20);
const EISDIR: Code = Code(21);
const EINVAL: Code = Code(22);
const ENOTEMPTY: Code = Code(39);
const ENODATA: Code = Code(61);
const TYPE: u32 = 0o170000;
const REGULAR: u32 = 0o100000;
const DIRECTORY: u32 = 0o040000;
const LINK: u32 = 0o120000;
/// Entries in one answer: few, so that going on from a cookie is tested.
const ENTRIES_MAX: usize = 3;

/// A file, directory or link.
pub struct Node {
    attributes: Attributes,
    /// A file's bytes or a link's target.
    pub content: Content,
    extended: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// All trees.
#[derive(Default)]
pub struct Trees {
    names: BTreeMap<(Tree, Vec<u8>), u64>,
    nodes: BTreeMap<u64, Node>,
    inodes: u64,
}

impl Trees {
    /// Adds a node, and the directories above it that do not exist yet.
    pub fn add(&mut self, tree: Tree, path: &[u8], mode: u32, content: &[u8]) {
        if !path.is_empty() {
            let above = parent(path);
            if !self.names.contains_key(&(tree, above.to_vec())) {
                self.add(tree, above, DIRECTORY | 0o755, b"");
            }
        }
        let inode = self.new_node(mode, Owner { user: 0, group: 0 }, content);
        self.names.insert((tree, path.to_vec()), inode);
    }

    /// A node without a name (a memory object).
    pub fn new_node(&mut self, mode: u32, owner: Owner, content: &[u8]) -> u64 {
        self.inodes += 1;
        let attributes = Attributes {
            device: 1,
            inode: self.inodes,
            mode,
            links: 1,
            user: owner.user,
            group: owner.group,
            block_size: 4096,
            ..Attributes::default()
        };
        let content = Arc::new(Mutex::new(content.to_vec()));
        self.nodes.insert(self.inodes, Node { attributes, content, extended: BTreeMap::new() });
        self.inodes
    }

    pub fn node(&mut self, inode: u64) -> Result<&mut Node, Code> {
        self.nodes.get_mut(&inode).ok_or(ENOENT)
    }

    pub fn find(&self, at: At<'_>) -> Result<u64, Code> {
        if let Some(inode) = self.names.get(&(at.tree, at.path.to_vec())) {
            return Ok(*inode);
        }
        // A part of the path that is no directory is another error than one that is not there.
        let mut above = parent(at.path);
        while !self.names.contains_key(&(at.tree, above.to_vec())) && !above.is_empty() {
            above = parent(above);
        }
        match self.names.get(&(at.tree, above.to_vec())) {
            Some(inode) if self.kind(*inode) != DIRECTORY => Err(ENOTDIR),
            _ => Err(ENOENT),
        }
    }

    fn kind(&self, inode: u64) -> u32 {
        self.nodes.get(&inode).map_or(0, |node| node.attributes.mode & TYPE)
    }

    pub fn is_directory(&self, inode: u64) -> bool {
        self.kind(inode) == DIRECTORY
    }

    pub fn is_link(&self, inode: u64) -> bool {
        self.kind(inode) == LINK
    }

    /// Makes a node with a new name.
    pub fn create(&mut self, at: At<'_>, mode: u32, owner: Owner, content: &[u8]) -> Result<u64, Code> {
        if self.names.contains_key(&(at.tree, at.path.to_vec())) {
            return Err(EEXIST);
        }
        if !self.is_directory(self.find(At { path: parent(at.path), ..at })?) {
            return Err(ENOTDIR);
        }
        let inode = self.new_node(mode, owner, content);
        self.names.insert((at.tree, at.path.to_vec()), inode);
        Ok(inode)
    }

    pub fn attributes(&self, inode: u64) -> Result<Attributes, Code> {
        let node = self.nodes.get(&inode).ok_or(ENOENT)?;
        let size = locked(&node.content).len() as u64;
        Ok(Attributes { size, blocks: size.div_ceil(512), ..node.attributes })
    }

    pub fn list(&self, at: At<'_>, cookie: u64) -> Result<(Vec<Entry>, Option<u64>), Code> {
        if !self.is_directory(self.find(at)?) {
            return Err(ENOTDIR);
        }
        let below = self.below(at.tree, at.path);
        let mut children = below.iter().filter(|(path, _)| parent(path) == at.path && !path.is_empty());
        let entries: Vec<Entry> = children
            .by_ref()
            .skip(cookie as usize)
            .take(ENTRIES_MAX)
            .map(|(path, inode)| Entry {
                name: path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).to_vec(),
                inode: *inode,
                kind: (self.kind(*inode) >> 12) as u8,
            })
            .collect();
        let next = children.next().map(|_| cookie + entries.len() as u64);
        Ok((entries, next))
    }

    /// Everything in a tree below a path, the path itself not included.
    fn below(&self, tree: Tree, path: &[u8]) -> Vec<(Vec<u8>, u64)> {
        let inside = |other: &[u8]| match other.strip_prefix(path) {
            Some(rest) => !rest.is_empty() && (path.is_empty() || rest[0] == b'/'),
            None => false,
        };
        let names = self.names.iter().filter(|((other, path), _)| *other == tree && inside(path));
        names.map(|((_, path), inode)| (path.clone(), *inode)).collect()
    }

    pub fn hard_link(&mut self, from: At<'_>, to: At<'_>) -> Result<(), Code> {
        let inode = self.find(from)?;
        if self.names.contains_key(&(to.tree, to.path.to_vec())) {
            return Err(EEXIST);
        }
        self.node(inode)?.attributes.links += 1;
        self.names.insert((to.tree, to.path.to_vec()), inode);
        Ok(())
    }

    pub fn rename(&mut self, from: At<'_>, to: At<'_>, flags: u32) -> Result<(), Code> {
        let inode = self.find(from)?;
        let existing = self.find(to).ok();
        match (flags, existing) {
            (1, Some(_)) => return Err(EEXIST),
            (0 | 1, None) => {}
            (0, Some(other)) if other == inode => return Ok(()),
            (0, Some(other)) => self.remove(to, self.is_directory(other))?,
            // An exchange is not known here.
            _ => return Err(EINVAL),
        }
        let mut moved = self.below(from.tree, from.path);
        moved.push((from.path.to_vec(), inode));
        for (path, inode) in moved {
            self.names.remove(&(from.tree, path.clone()));
            let path = [to.path, &path[from.path.len()..]].concat();
            self.names.insert((to.tree, path), inode);
        }
        Ok(())
    }

    /// Removes a name. The node stays: somebody may have it open.
    pub fn remove(&mut self, at: At<'_>, directory: bool) -> Result<(), Code> {
        let inode = self.find(at)?;
        match (directory, self.is_directory(inode)) {
            (true, false) => return Err(ENOTDIR),
            (false, true) => return Err(EISDIR),
            (true, true) if !self.below(at.tree, at.path).is_empty() => return Err(ENOTEMPTY),
            _ => {}
        }
        let links = &mut self.node(inode)?.attributes.links;
        *links = links.saturating_sub(1);
        self.names.remove(&(at.tree, at.path.to_vec()));
        Ok(())
    }

    pub fn change(&mut self, inode: u64, change: Change, now_ns: i64) -> Result<(), Code> {
        let node = self.node(inode)?;
        let attributes = &mut node.attributes;
        if let Some(mode) = change.mode {
            attributes.mode = attributes.mode & TYPE | mode & 0o7777;
        }
        attributes.user = change.user.unwrap_or(attributes.user);
        attributes.group = change.group.unwrap_or(attributes.group);
        let time = |set: SetTime| match set {
            SetTime::Now => now_ns,
            SetTime::At(time_ns) => time_ns,
        };
        attributes.accessed_ns = change.accessed.map_or(attributes.accessed_ns, time);
        attributes.modified_ns = change.modified.map_or(attributes.modified_ns, time);
        attributes.changed_ns = now_ns;
        if let Some(size) = change.size {
            if attributes.mode & TYPE != REGULAR {
                return Err(EINVAL);
            }
            locked(&node.content).resize(size as usize, 0);
        }
        Ok(())
    }

    pub fn get_extended(&self, inode: u64, name: &[u8]) -> Result<Vec<u8>, Code> {
        self.nodes.get(&inode).and_then(|node| node.extended.get(name)).cloned().ok_or(ENODATA)
    }

    pub fn set_extended(&mut self, inode: u64, name: &[u8], value: &[u8], flags: u32) -> Result<(), Code> {
        let extended = &mut self.node(inode)?.extended;
        match (flags, extended.contains_key(name)) {
            (1, true) => Err(EEXIST),
            (2, false) => Err(ENODATA),
            _ => {
                extended.insert(name.to_vec(), value.to_vec());
                Ok(())
            }
        }
    }

    pub fn list_extended(&self, inode: u64) -> Result<Vec<u8>, Code> {
        let names = self.nodes.get(&inode).ok_or(ENOENT)?.extended.keys();
        Ok(names.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    pub fn remove_extended(&mut self, inode: u64, name: &[u8]) -> Result<(), Code> {
        self.node(inode)?.extended.remove(name).map(|_| ()).ok_or(ENODATA)
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(&path[..0], |slash| &path[..slash])
}
