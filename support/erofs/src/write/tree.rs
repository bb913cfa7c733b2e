//! What an image is to hold.
//!
//! Nodes are made in a directory and have a name there from the start, so a tree stays one: directories
//! never contain themselves. Everything is judged when it is described.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec;
use alloc::vec::Vec;
use std::io::{self, Read};

use super::{INLINE_MAX, Problem, attributes};
use crate::data::LINK_MAX;
use crate::format::{Kind, NAME_MAX, Time};

/// What stat(2) and listxattr(2) tell of a node beside its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, at most 07777.
    pub mode: u16,
    pub user: u32,
    pub group: u32,
    pub modified: Time,
    /// Extended attributes by full name, such as `user.note`. Names begin with `user.`, `trusted.` or
    /// `security.`, or are those of POSIX access control lists.
    pub extended: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Opens a file's content, when it is its turn to be written.
pub type Content<'a> = Box<dyn FnOnce() -> io::Result<Box<dyn Read + 'a>> + 'a>;

/// A node that has no data; devices with their numbers, as in `st_rdev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Character(u32),
    Block(u32),
    Fifo,
    Socket,
}

/// A node of the tree that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub(super) usize);

/// What kind of thing a node is, with what makes it that.
pub(super) enum Body<'a> {
    Directory(BTreeMap<Vec<u8>, Node>),
    /// The content is there until it has been written.
    File {
        length: u64,
        content: Option<Content<'a>>,
    },
    Link(Vec<u8>),
    Special(Special),
}

impl Body<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Directory(_) => Kind::Directory,
            Self::File { .. } => Kind::Regular,
            Self::Link(_) => Kind::Link,
            Self::Special(Special::Character(_)) => Kind::Character,
            Self::Special(Special::Block(_)) => Kind::Block,
            Self::Special(Special::Fifo) => Kind::Fifo,
            Self::Special(Special::Socket) => Kind::Socket,
        }
    }
}

pub(super) struct Described<'a> {
    pub attributes: Attributes,
    pub body: Body<'a>,
}

/// A description of an image.
pub struct Tree<'a> {
    pub(super) nodes: Vec<Described<'a>>,
    pub(super) inline: u16,
}

impl<'a> Tree<'a> {
    /// A tree of one empty directory.
    ///
    /// # Errors
    /// [`Problem`]s of attributes.
    pub fn new(root: Attributes) -> Result<Self, Problem> {
        judge(&root)?;
        let body = Body::Directory(BTreeMap::new());
        Ok(Self { nodes: vec![Described { attributes: root, body }], inline: INLINE_MAX })
    }

    /// Files of up to so many bytes lie beside their inodes, which saves space; their pages cannot be
    /// mapped. At most, and unless told otherwise, [`INLINE_MAX`]; links and directories do so in any case.
    pub fn inline_up_to(&mut self, bytes: u16) {
        self.inline = bytes.min(INLINE_MAX);
    }

    pub fn root(&self) -> Node {
        Node(0)
    }

    /// Makes a directory in another one.
    ///
    /// # Errors
    /// [`Problem::Name`], [`Problem::Taken`], [`Problem::NotDirectory`], and [`Problem`]s of attributes,
    /// for this and all that follow.
    pub fn directory(&mut self, parent: Node, name: &[u8], attributes: Attributes) -> Result<Node, Problem> {
        self.add(parent, name, attributes, Body::Directory(BTreeMap::new()))
    }

    /// Makes a regular file of exactly `length` bytes.
    ///
    /// # Errors
    /// As of [`Tree::directory`]; [`Problem::TooLarge`].
    pub fn file(
        &mut self,
        parent: Node,
        name: &[u8],
        attributes: Attributes,
        length: u64,
        content: Content<'a>,
    ) -> Result<Node, Problem> {
        if i64::try_from(length).is_err() {
            return Err(Problem::TooLarge);
        }
        self.add(parent, name, attributes, Body::File { length, content: Some(content) })
    }

    /// Makes a symbolic link. Linux ignores its mode.
    ///
    /// # Errors
    /// As of [`Tree::directory`]; [`Problem::Target`].
    pub fn link(
        &mut self,
        parent: Node,
        name: &[u8],
        attributes: Attributes,
        target: &[u8],
    ) -> Result<Node, Problem> {
        if target.is_empty() || target.len() > LINK_MAX || target.contains(&0) {
            return Err(Problem::Target);
        }
        self.add(parent, name, attributes, Body::Link(target.to_vec()))
    }

    /// Makes a device node, a fifo or a socket.
    ///
    /// # Errors
    /// As of [`Tree::directory`].
    pub fn special(
        &mut self,
        parent: Node,
        name: &[u8],
        attributes: Attributes,
        special: Special,
    ) -> Result<Node, Problem> {
        self.add(parent, name, attributes, Body::Special(special))
    }

    /// Gives something that is no directory a further name.
    ///
    /// # Errors
    /// [`Problem::IsDirectory`], [`Problem::Missing`] if it is not of this tree; [`Problem::Name`],
    /// [`Problem::Taken`], [`Problem::NotDirectory`].
    pub fn hard_link(&mut self, parent: Node, name: &[u8], node: Node) -> Result<(), Problem> {
        match self.nodes.get(node.0).map(|node| &node.body) {
            None => Err(Problem::Missing),
            Some(Body::Directory(_)) => Err(Problem::IsDirectory),
            Some(_) => self.name(parent, name, node),
        }
    }

    /// What a directory has under a name.
    pub fn child(&self, parent: Node, name: &[u8]) -> Option<Node> {
        self.children(parent)?.get(name).copied()
    }

    /// A directory's names, in order; `None` if it is none.
    pub fn children(&self, parent: Node) -> Option<&BTreeMap<Vec<u8>, Node>> {
        match &self.nodes.get(parent.0)?.body {
            Body::Directory(children) => Some(children),
            _ => None,
        }
    }

    /// Takes a name away, and with a directory everything below it.
    ///
    /// # Errors
    /// [`Problem::NotDirectory`], [`Problem::Missing`].
    pub fn remove(&mut self, parent: Node, name: &[u8]) -> Result<(), Problem> {
        self.names(parent)?.remove(name).map(drop).ok_or(Problem::Missing)
    }

    pub fn attributes(&self, node: Node) -> Option<&Attributes> {
        self.nodes.get(node.0).map(|node| &node.attributes)
    }

    /// Replaces a node's attributes.
    ///
    /// # Errors
    /// [`Problem`]s of attributes; [`Problem::Missing`] if it is not of this tree.
    pub fn set_attributes(&mut self, node: Node, attributes: Attributes) -> Result<(), Problem> {
        judge(&attributes)?;
        self.nodes.get_mut(node.0).ok_or(Problem::Missing)?.attributes = attributes;
        Ok(())
    }

    fn add(
        &mut self,
        parent: Node,
        name: &[u8],
        attributes: Attributes,
        body: Body<'a>,
    ) -> Result<Node, Problem> {
        judge(&attributes)?;
        let node = Node(self.nodes.len());
        self.name(parent, name, node)?;
        self.nodes.push(Described { attributes, body });
        Ok(node)
    }

    fn name(&mut self, parent: Node, name: &[u8], node: Node) -> Result<(), Problem> {
        let is_name = !matches!(name, b"" | b"." | b"..") && name.len() <= NAME_MAX;
        if !is_name || name.contains(&b'/') || name.contains(&0) {
            return Err(Problem::Name);
        }
        match self.names(parent)?.entry(name.to_vec()) {
            Entry::Occupied(_) => Err(Problem::Taken),
            Entry::Vacant(place) => {
                place.insert(node);
                Ok(())
            }
        }
    }

    fn names(&mut self, parent: Node) -> Result<&mut BTreeMap<Vec<u8>, Node>, Problem> {
        match self.nodes.get_mut(parent.0).map(|node| &mut node.body) {
            Some(Body::Directory(children)) => Ok(children),
            _ => Err(Problem::NotDirectory),
        }
    }
}

fn judge(attributes: &Attributes) -> Result<(), Problem> {
    if attributes.mode > 0o7777 {
        return Err(Problem::Mode);
    }
    if attributes.modified.nanoseconds >= 1_000_000_000 {
        return Err(Problem::Time);
    }
    attributes::length(&attributes.extended).map(drop)
}
