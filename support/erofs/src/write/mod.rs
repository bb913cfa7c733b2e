//! Making images: a [`Tree`] is described, then written in one pass to anything that takes bytes.
//!
//! The image is plain: no compression, one device, directories sorted, files' data page after page, the
//! last one filled with zeroes. Files and directories whose data are short lie beside their inodes
//! ([`Tree::inline_up_to`]). What is written depends on the tree alone: not on the order in which it was
//! described, not on the clock, and the volume's UUID is zero.
//!
//! The layout is planned before the first byte (`plan`), so that data are streamed and nothing is written
//! twice; memory is needed for names and attributes, not for data.

mod attributes;
mod emit;
mod entries;
mod plan;
mod problem;
#[cfg(test)]
mod tests;
mod tree;

pub use problem::Problem;
pub use tree::{Attributes, Content, Node, Special, Tree};

/// The most that lies beside an inode, in bytes: with more, too much of the blocks would stay empty.
pub const INLINE_MAX: u16 = 2048;
