//! What an address that interrupted code stood at belongs to.

use core::sync::atomic::Ordering::Relaxed;

use abi::address::STUBS;

use crate::head::Head;
use crate::{stub, user_memory, way};

/// Where interrupted code stood.
#[derive(Clone, Copy)]
pub enum Place {
    /// The application, at this logical address.
    Application(u64),
    /// The exit sequence: the application's context is complete, and the exit can start over.
    Exit,
    /// A user copy, which has a fix-up.
    Copy,
    /// The library OS, the gate, or a stub on its way to the gate.
    Library,
}

/// Judges an address; `text` are the bounds of the image's code.
pub fn place(head: &Head, text: core::ops::Range<u64>, rip: u64) -> Place {
    if way::exit().contains(&rip) {
        Place::Exit
    } else if user_memory::copies().contains(&rip) {
        Place::Copy
    } else if text.contains(&rip) {
        Place::Library
    } else if (STUBS..stub::END).contains(&rip) {
        stub::logical(rip).map_or(Place::Library, Place::Application)
    } else if head.inside.load(Relaxed) != 0 {
        Place::Application(rip)
    } else {
        // Code of the host's, called by us.
        Place::Library
    }
}
