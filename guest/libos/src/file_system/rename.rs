//! renameat2(2): names that become others, on volumes by the monitor and elsewhere here.
//!
//! What is kept of a volume's directories moves along, so that whoever is in one stays there. A named
//! pipe, a socket or a device above a volume moves here alone.

use alloc::sync::Arc;

use abi::request::Request;

use super::change::{is_mount, may_change, may_remove, now_ns, touch, volume_place};
use super::naming::{is_above, put};
use super::raising::own;
use super::{Found, Kind, Location, step};
use crate::errno::{Errno, Result};
use crate::thread::Thread;

pub const NO_REPLACE: u32 = 1;
pub const EXCHANGE: u32 = 2;

/// What is renamed, and what it replaces or changes places with.
struct Rename<'a> {
    from: &'a Found,
    to: &'a Found,
    source: Location,
    target: Option<Location>,
    exchanges: bool,
}

pub async fn rename(thread: &Arc<Thread>, from: &Found, to: &Found, flags: u32) -> Result<()> {
    let no_names = |found: &Found| matches!(found.name.as_slice(), b"" | b"." | b"..");
    if no_names(from) || no_names(to) {
        return Err(Errno::EBUSY);
    }
    loop {
        let renaming = Rename::of(thread, from, to, flags).await?;
        renaming.check(thread)?;
        if renaming.is_same() {
            return Ok(());
        }
        renaming.check_kinds(thread).await?;
        let moved = match (volume_place(&from.parent, &from.name)?, volume_place(&to.parent, &to.name)?) {
            (Some(old), Some(new)) if old.tree == new.tree => {
                renaming.on_volume(thread, old, new, flags).await?;
                Some(renaming.source.clone())
            }
            (None, None) => renaming.in_overlay(thread).await?,
            _ => return Err(Errno::EXDEV),
        };
        // Else one of the names has come to be another's, and all is looked at anew.
        if let Some(moved) = moved {
            renaming.tell(thread, &moved);
            return Ok(());
        }
    }
}

impl<'a> Rename<'a> {
    async fn of(thread: &Arc<Thread>, from: &'a Found, to: &'a Found, flags: u32) -> Result<Self> {
        let source = step(thread, &from.parent, &from.name).await?;
        let target = match step(thread, &to.parent, &to.name).await {
            Ok(_) if flags & NO_REPLACE != 0 => return Err(Errno::EEXIST),
            Ok(entry) => Some(entry),
            Err(Errno::ENOENT) if flags & EXCHANGE != 0 => return Err(Errno::ENOENT),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        Ok(Self { from, to, source, target, exchanges: flags & EXCHANGE != 0 })
    }

    fn check(&self, thread: &Arc<Thread>) -> Result<()> {
        let (from, to) = (self.from, self.to);
        if !self.source.node.is_directory() && (from.slash || to.slash && !self.exchanges) {
            return Err(Errno::ENOTDIR);
        }
        let target = self.target.as_ref();
        if self.exchanges && to.slash && target.is_some_and(|target| !target.node.is_directory()) {
            return Err(Errno::ENOTDIR);
        }
        if is_above(&self.source, &to.parent) {
            return Err(Errno::EINVAL);
        }
        if target.is_some_and(|target| is_above(target, &from.parent)) {
            return Err(if self.exchanges { Errno::EINVAL } else { Errno::ENOTEMPTY });
        }
        if is_mount(&self.source) || target.is_some_and(is_mount) {
            return Err(Errno::EBUSY);
        }
        may_change(thread, &from.parent)?;
        may_change(thread, &to.parent)?;
        may_remove(thread, &from.parent.node.attributes(), &self.source.node.attributes())?;
        match target {
            Some(target) => may_remove(thread, &to.parent.node.attributes(), &target.node.attributes()),
            None => Ok(()),
        }
    }

    /// Two names of one file: nothing happens (rename(2)).
    fn is_same(&self) -> bool {
        self.target.as_ref().is_some_and(|target| Arc::ptr_eq(&target.node, &self.source.node))
    }

    async fn check_kinds(&self, thread: &Arc<Thread>) -> Result<()> {
        let Some(target) = self.target.as_ref().filter(|_| !self.exchanges) else { return Ok(()) };
        match (self.source.node.is_directory(), target.node.is_directory()) {
            (true, false) => Err(Errno::ENOTDIR),
            (false, true) => Err(Errno::EISDIR),
            (true, true) if super::listing::list(thread, target).await?.entries.len() > 2 => {
                Err(Errno::ENOTEMPTY)
            }
            _ => Ok(()),
        }
    }

    async fn on_volume(
        &self,
        thread: &Arc<Thread>,
        old: super::Place,
        new: super::Place,
        flags: u32,
    ) -> Result<()> {
        let kernel = thread.kernel();
        let above = |entry: &Location| entry.node.is_special();
        let (source_above, target_above) = (above(&self.source), self.target.as_ref().is_some_and(above));
        if self.exchanges && source_above != target_above {
            return Err(Errno::EINVAL);
        }
        if !source_above {
            let request = Request::Rename { from: old.at(), to: new.at(), flags };
            kernel.devices.request(kernel, request).await?;
        } else if self.target.is_some() && !target_above {
            let request = Request::Remove { at: new.at(), directory: false };
            kernel.devices.request(kernel, request).await?;
        }
        let moved = self.from.parent.node.directory()?.children.lock().remove(&self.from.name).flatten();
        let replaced = self.to.parent.node.directory()?.children.lock().remove(&self.to.name).flatten();
        if let Some(entry) = moved {
            put_in_volume(&entry, self.to, new)?;
        }
        match replaced {
            Some(entry) if self.exchanges => put_in_volume(&entry, self.from, old)?,
            // Another one has come to be kept since the host moved.
            Some(entry) if self.target.as_ref().is_some_and(|target| Arc::ptr_eq(target, &entry)) => {
                drop_link(thread, &entry);
            }
            Some(_) | None => {}
        }
        if source_above {
            self.source.node.meta.lock().changed_ns = now_ns(thread);
            self.touch_parents(thread).await;
        }
        Ok(())
    }

    async fn touch_parents(&self, thread: &Arc<Thread>) {
        touch(thread, &self.from.parent).await;
        touch(thread, &self.to.parent).await;
    }

    /// A directory that is partly on the host cannot move: overlayfs says the same without redirect_dir.
    /// `None`: one of the names is another's by now.
    async fn in_overlay(&self, thread: &Arc<Thread>) -> Result<Option<Location>> {
        let partly = |entry: &Location| match &entry.node.kind {
            Kind::Directory(directory) => directory.is_on_host(),
            _ => false,
        };
        let exchanged = self.target.as_ref().filter(|_| self.exchanges);
        if partly(&self.source) || exchanged.is_some_and(partly) {
            return Err(Errno::EXDEV);
        }
        let moved = own(thread, &self.source).await?;
        let replaced = match &self.target {
            Some(target) if self.exchanges => Some(own(thread, target).await?),
            target => target.clone(),
        };
        let names = &thread.kernel().file_systems;
        if !names.move_name((self.from, &moved), (self.to, replaced.as_ref()), self.exchanges)? {
            return Ok(None);
        }
        self.count_directories(&moved);
        match &replaced {
            Some(entry) if self.exchanges => entry.node.meta.lock().changed_ns = now_ns(thread),
            Some(entry) => drop_link(thread, entry),
            None => {}
        }
        moved.node.meta.lock().changed_ns = now_ns(thread);
        self.touch_parents(thread).await;
        Ok(Some(moved))
    }

    /// Keeps the parents' link counts, to which each directory in them adds one.
    fn count_directories(&self, moved: &Location) {
        let arrives = u32::from(moved.node.is_directory());
        let leaves = u32::from(self.target.as_ref().is_some_and(|target| target.node.is_directory()));
        let back = if self.exchanges { leaves } else { 0 };
        let count = |parent: &Location, more: u32, less: u32| {
            let mut meta = parent.node.meta.lock();
            meta.links = (meta.links + more).saturating_sub(less);
        };
        count(&self.to.parent, arrives, leaves);
        count(&self.from.parent, back, arrives);
    }

    fn tell(&self, thread: &Arc<Thread>, moved: &Location) {
        let watches = &thread.kernel().file_systems.watches;
        let (from, to) = (self.from, self.to);
        watches.tell_move(moved, (&from.parent, &from.name), (&to.parent, &to.name));
        match &self.target {
            Some(target) if self.exchanges => {
                watches.tell_move(target, (&to.parent, &to.name), (&from.parent, &from.name));
            }
            Some(target) => {
                let left = target.node.attributes().links;
                // A volume's file tells what it was before it was replaced.
                let last = if matches!(target.node.kind, Kind::Host(_)) { left <= 1 } else { left == 0 };
                watches.tell_removed(target, last);
            }
            None => {}
        }
    }
}

/// A name is gone that something else has taken.
fn drop_link(thread: &Arc<Thread>, entry: &Location) {
    let is_directory = entry.node.is_directory();
    let mut meta = entry.node.meta.lock();
    meta.links = if is_directory { 0 } else { meta.links.saturating_sub(1) };
    meta.changed_ns = now_ns(thread);
    drop(meta);
    entry.set_removed();
}

/// Puts an entry of a volume under a name; `place` is where the host has it now.
fn put_in_volume(entry: &Location, found: &Found, place: super::Place) -> Result<()> {
    if let Kind::Directory(directory) = &entry.node.kind {
        directory.move_to(place);
    }
    put(entry, found)
}
