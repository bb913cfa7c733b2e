//! A record of the first tree's files that are looked up, for who wants to know what a program needs.
//!
//! A name is written as soon as it is met, so that a program which is stopped leaves as good a record as one
//! that ends. What is only listed is not in it, and neither are the island's own files.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::lock::Mutex;
use abi::boot::Tree;
use machine::{Handle, Machine, Source};

use super::Place;

/// Where names go, and those that have gone there.
pub struct Record {
    sink: Option<Handle>,
    known: Mutex<BTreeSet<Vec<u8>>>,
}

impl Record {
    pub fn new(sink: Option<Handle>) -> Self {
        Self { sink, known: Mutex::new(BTreeSet::new()) }
    }

    /// Takes note of a file that was found.
    pub fn note(&self, machine: &dyn Machine, place: &Place) {
        let Some(sink) = self.sink else { return };
        let mut known = self.known.lock();
        if place.tree == Tree(0) && known.insert(place.path.clone()) {
            let name = [&place.path[..], b"\0"].concat();
            // A record that cannot be written is no reason to fail.
            let _ = machine.write(sink, None, Source::Kernel(&name));
        }
    }
}
