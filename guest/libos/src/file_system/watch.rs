//! Who wants to know of changes to files: inotify(7).
//!
//! A watch is found by the [`Identity`] of what it watches, and keeps that in its place. Only what the
//! island itself does is told: nobody hears of changes that others make to a volume.
//! Lock order: the table of watches before an instance's queue; neither while a waiter runs.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::lock::Mutex;

use super::{Identity, Location};
use crate::errno::{Errno, Result};
use crate::file::inotify::{Event, Inotify};

/// What happened, as inotify(7) numbers it.
pub mod happened {
    pub const ACCESS: u32 = 1;
    pub const MODIFY: u32 = 2;
    pub const ATTRIBUTES: u32 = 4;
    pub const CLOSE_WRITE: u32 = 8;
    pub const CLOSE_NO_WRITE: u32 = 0x10;
    pub const OPEN: u32 = 0x20;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    /// All that can be asked for.
    pub const ALL: u32 = 0xfff;
    pub const OVERFLOW: u32 = 0x4000;
    /// The watch is no more.
    pub const IGNORED: u32 = 0x8000;
    pub const DIRECTORY: u32 = 0x4000_0000;
}

/// How a watch is meant, beside the events it asks for.
pub mod manner {
    pub const EXCEPT_UNLINKED: u32 = 0x0400_0000;
    pub const CREATE: u32 = 0x1000_0000;
    pub const ADD: u32 = 0x2000_0000;
    pub const ONE_SHOT: u32 = 0x8000_0000;
}

struct Watch {
    instance: Weak<Inotify>,
    number: i32,
    mask: u32,
    /// Keeps the watched node, by whose address it may be found.
    _place: Location,
}

/// All watches of an island.
#[derive(Default)]
pub struct Watches {
    /// Whether there ever was a watch, so that everything costs nothing before.
    used: AtomicBool,
    cookies: AtomicU32,
    table: Mutex<BTreeMap<Identity, Vec<Watch>>>,
}

impl Watches {
    pub fn used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Watches a place, or changes the watch that the instance has there; its number.
    pub fn add(&self, instance: &Arc<Inotify>, place: &Location, mask: u32) -> Result<i32> {
        self.used.store(true, Ordering::SeqCst);
        let mut table = self.table.lock();
        let watches = table.entry(Identity::of_place(place)).or_default();
        let same = |watch: &&mut Watch| core::ptr::eq(watch.instance.as_ptr(), Arc::as_ptr(instance));
        if let Some(watch) = watches.iter_mut().find(same) {
            if mask & manner::CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            watch.mask = if mask & manner::ADD != 0 { watch.mask | mask } else { mask };
            return Ok(watch.number);
        }
        let number = instance.next_number();
        watches.push(Watch { instance: Arc::downgrade(instance), number, mask, _place: place.clone() });
        Ok(number)
    }

    /// inotify_rm_watch(2).
    pub fn remove(&self, instance: &Arc<Inotify>, number: i32) -> Result<()> {
        let this = Arc::as_ptr(instance);
        let found = self.take(|watch| core::ptr::eq(watch.instance.as_ptr(), this) && watch.number == number);
        if found.is_empty() {
            return Err(Errno::EINVAL);
        }
        instance.queue(Event::of(number, happened::IGNORED));
        Ok(())
    }

    /// Forgets the watches of an instance that is closed.
    pub fn forget(&self, instance: *const Inotify) {
        self.take(|watch| core::ptr::eq(watch.instance.as_ptr(), instance));
    }

    fn take(&self, which: impl Fn(&Watch) -> bool) -> Vec<Watch> {
        let mut taken = Vec::new();
        self.table.lock().retain(|_, watches| {
            taken.extend(watches.extract_if(.., |watch| which(watch)));
            !watches.is_empty()
        });
        taken
    }

    /// Something happened to what a place names: its watchers hear of it, and its directory's.
    pub fn tell(&self, place: &Location, what: u32) {
        if !self.used() {
            return;
        }
        let what = what | directory_bit(place);
        if let Some(parent) = place.parent.lock().clone() {
            let name = place.name.lock().clone();
            self.deliver(&Identity::of_place(&parent), what, 0, &name, place.is_removed());
        }
        self.deliver(&Identity::of_place(place), what, 0, b"", false);
    }

    /// The same where only the thing itself is concerned, whatever its name.
    pub fn tell_itself(&self, place: &Location, what: u32) {
        if self.used() {
            self.deliver(&Identity::of_place(place), what | directory_bit(place), 0, b"", false);
        }
    }

    /// A name of a directory came or went.
    pub fn tell_name(&self, parent: &Location, name: &[u8], what: u32) {
        if self.used() {
            self.deliver(&Identity::of_place(parent), what, 0, name, false);
        }
    }

    /// A name became another.
    pub fn tell_move(&self, moved: &Location, from: (&Location, &[u8]), to: (&Location, &[u8])) {
        if !self.used() {
            return;
        }
        let cookie = self.cookies.fetch_add(1, Ordering::Relaxed) + 1;
        let bit = directory_bit(moved);
        self.deliver(&Identity::of_place(from.0), happened::MOVED_FROM | bit, cookie, from.1, false);
        self.deliver(&Identity::of_place(to.0), happened::MOVED_TO | bit, cookie, to.1, false);
        self.tell_itself(moved, happened::MOVE_SELF);
    }

    /// One of a thing's names is gone; with the last, the thing is, and its watches are.
    pub fn tell_removed(&self, place: &Location, last: bool) {
        if !self.used() {
            return;
        }
        if !place.node.is_directory() {
            self.tell_itself(place, happened::ATTRIBUTES);
        }
        if !last {
            return;
        }
        // Without the bit for directories, as Linux has it here.
        let identity = Identity::of_place(place);
        self.deliver(&identity, happened::DELETE_SELF, 0, b"", false);
        let watches = self.table.lock().remove(&identity).unwrap_or_default();
        for watch in watches {
            if let Some(instance) = watch.instance.upgrade() {
                instance.queue(Event::of(watch.number, happened::IGNORED));
            }
        }
    }

    fn deliver(&self, identity: &Identity, what: u32, cookie: u32, name: &[u8], unlinked: bool) {
        let mut heard = Vec::new();
        let mut spent = Vec::new();
        {
            let mut table = self.table.lock();
            let Some(watches) = table.get_mut(identity) else { return };
            watches.retain(|watch| {
                let wanted = watch.mask & what & happened::ALL != 0
                    && !(unlinked && watch.mask & manner::EXCEPT_UNLINKED != 0);
                if !wanted {
                    return true;
                }
                heard.extend(watch.instance.upgrade().map(|instance| (instance, watch.number)));
                let once = watch.mask & manner::ONE_SHOT != 0;
                if once {
                    spent.extend(watch.instance.upgrade().map(|instance| (instance, watch.number)));
                }
                !once
            });
        }
        for (instance, watch) in heard {
            instance.queue(Event { watch, mask: what, cookie, name: name.to_vec() });
        }
        for (instance, watch) in spent {
            instance.queue(Event::of(watch, happened::IGNORED));
        }
    }
}

fn directory_bit(place: &Location) -> u32 {
    if place.node.is_directory() { happened::DIRECTORY } else { 0 }
}
