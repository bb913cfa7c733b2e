//! What each host descriptor is, as far as its number alone does not say.
//!
//! Noted whenever a descriptor arrives, so a number that is used again never means what it meant before.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Numbers from here on are plain, and nothing else can be noted of them.
const MOST: usize = 1 << 18;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// A datagram socket. (MSG_TRUNC asks it for the full length, but tells a stream to throw data away.)
    Datagram,
    /// A file that this process has opened in the directly visible part of that number.
    Tree(usize),
}

const PLAIN: u8 = 0;
const DATAGRAM: u8 = 1;
/// Numbers of parts follow.
const TREE: u8 = 2;

static KINDS: [AtomicU8; MOST] = [const { AtomicU8::new(PLAIN) }; MOST];

/// Notes what a new descriptor is; false if that cannot be kept.
pub fn note(file: u32, kind: Kind) -> bool {
    let code = match kind {
        Kind::Plain => Some(PLAIN),
        Kind::Datagram => Some(DATAGRAM),
        Kind::Tree(number) => u8::try_from(number).ok().and_then(|number| number.checked_add(TREE)),
    };
    match (KINDS.get(file as usize), code) {
        (Some(noted), Some(code)) => {
            // Mostly it is what it was, and the page stays clean.
            if noted.load(Relaxed) != code {
                noted.store(code, Relaxed);
            }
            true
        }
        _ => kind == Kind::Plain,
    }
}

pub fn is_datagram(file: u32) -> bool {
    KINDS.get(file as usize).is_some_and(|kind| kind.load(Relaxed) == DATAGRAM)
}

/// The directly visible part that a file was opened in.
pub fn tree(file: u32) -> Option<usize> {
    KINDS.get(file as usize)?.load(Relaxed).checked_sub(TREE).map(usize::from)
}
