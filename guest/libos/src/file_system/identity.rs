//! What makes two names, or two opens, the same file.
//!
//! A file of a granted tree gets a new node with every look-up, so it is known by device and inode;
//! other files by their node. Whoever keeps an identity keeps the file it stands for in its place.

use alloc::sync::Arc;

use super::{Kind, Location, Node};
use crate::file::Description;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    Host {
        device: u64,
        inode: u64,
    },
    /// The address of the node, or of a nameless file.
    Own(usize),
}

impl Identity {
    pub fn of(description: &Description) -> Self {
        match &description.location {
            Some(location) => Self::of_place(location),
            None => Self::Own(Arc::as_ptr(&description.file) as *const u8 as usize),
        }
    }

    pub fn of_place(location: &Location) -> Self {
        Self::of_node(&location.node)
    }

    pub fn of_node(node: &Arc<Node>) -> Self {
        match &node.kind {
            Kind::Host(leaf) => Self::Host { device: leaf.attributes.device, inode: leaf.attributes.inode },
            _ => Self::Own(Arc::as_ptr(node) as usize),
        }
    }
}
