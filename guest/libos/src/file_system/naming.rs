//! Names in the guest's own directories: giving, taking and moving them, one change at a time.
//!
//! Who changes a name has looked at it before, and may have waited for the host since. Here it is looked at
//! once more with all such changes shut out, and nothing happens if it is another's by now.

use alloc::sync::Arc;

use super::node::Children;
use super::{Directory, FileSystems, Found, Kind, Location};
use crate::errno::{Errno, Result};

impl FileSystems {
    /// Gives a new name of a directory to an entry; EEXIST if it is taken, ENOENT if the directory is gone.
    pub fn give_name(&self, parent: &Location, name: &[u8], entry: &Location) -> Result<()> {
        let _one = self.names.lock();
        if parent.is_removed() {
            return Err(Errno::ENOENT);
        }
        let mut children = parent.node.directory()?.children.lock();
        if let Some(Some(_)) = children.get(name) {
            return Err(Errno::EEXIST);
        }
        children.insert(name.to_vec(), Some(entry.clone()));
        Ok(())
    }

    /// Takes a name from an entry, which is then gone; false if it is another's. ENOTEMPTY if something has
    /// been made in a directory.
    pub fn take_name(&self, found: &Found, entry: &Location) -> Result<bool> {
        let _one = self.names.lock();
        let parent = found.parent.node.directory()?;
        if !is_named(parent, &found.name, Some(entry)) {
            return Ok(false);
        }
        refuse_if_filled(entry)?;
        hide(parent, &found.name);
        entry.set_removed();
        Ok(true)
    }

    /// Moves an entry from one name to another, in place of whoever has that; with `exchanges` that one comes
    /// to have the first. False if one of the names is another's.
    pub fn move_name(
        &self,
        (from, moved): (&Found, &Location),
        (to, replaced): (&Found, Option<&Location>),
        exchanges: bool,
    ) -> Result<bool> {
        let _one = self.names.lock();
        let (source, target) = (from.parent.node.directory()?, to.parent.node.directory()?);
        if !is_named(source, &from.name, Some(moved)) || !is_named(target, &to.name, replaced) {
            return Ok(false);
        }
        // Two moves that lead into each other would part a circle from the tree.
        let turns = |entry: &&Location| exchanges && is_above(entry, &from.parent);
        if is_above(moved, &to.parent) || replaced.as_ref().is_some_and(turns) {
            return Err(Errno::EINVAL);
        }
        if to.parent.is_removed() {
            return Err(Errno::ENOENT);
        }
        if let Some(replaced) = replaced.filter(|_| !exchanges) {
            refuse_if_filled(replaced)?;
            replaced.set_removed();
        }
        hide(source, &from.name);
        put(moved, to)?;
        if let Some(replaced) = replaced.filter(|_| exchanges) {
            put(replaced, from)?;
        }
        Ok(true)
    }
}

/// Puts the copy of an overlay's file in its place; or says what has come there meanwhile: another copy, which
/// may have been written to since.
pub fn raise(parent: &Location, name: &[u8], copy: Location) -> Result<Location> {
    let mut children = parent.node.directory()?.children.lock();
    match children.get(name) {
        Some(Some(existing)) => Ok(existing.clone()),
        Some(None) => Err(Errno::ENOENT),
        None => {
            children.insert(name.to_vec(), Some(copy.clone()));
            Ok(copy)
        }
    }
}

/// Puts an entry under a name.
pub fn put(entry: &Location, found: &Found) -> Result<()> {
    *entry.name.lock() = found.name.clone();
    *entry.parent.lock() = Some(found.parent.clone());
    let mut children = found.parent.node.directory()?.children.lock();
    children.insert(found.name.clone(), Some(entry.clone()));
    Ok(())
}

/// Whether a place is another or lies above it.
pub fn is_above(place: &Location, below: &Location) -> bool {
    let mut above = Some(below.clone());
    while let Some(ancestor) = above {
        if Arc::ptr_eq(&ancestor, place) {
            return true;
        }
        above = ancestor.parent.lock().clone();
    }
    false
}

/// Whether a name is an entry's, or nobody's. Files of the host are not kept, and never change.
fn is_named(directory: &Directory, name: &[u8], entry: Option<&Location>) -> bool {
    match (directory.children.lock().get(name), entry) {
        (Some(Some(kept)), Some(entry)) => Arc::ptr_eq(kept, entry),
        (None, Some(entry)) => matches!(entry.node.kind, Kind::Host(_)),
        (Some(None) | None, None) => true,
        _ => false,
    }
}

/// ENOTEMPTY if a directory that was found to be empty no longer is.
fn refuse_if_filled(entry: &Location) -> Result<()> {
    let Kind::Directory(directory) = &entry.node.kind else { return Ok(()) };
    let filled = |children: &Children| children.values().any(Option::is_some);
    if filled(&directory.children.lock()) { Err(Errno::ENOTEMPTY) } else { Ok(()) }
}

/// Takes a name out of a directory of the guest's own, so that what lies below stays hidden.
fn hide(parent: &Directory, name: &[u8]) {
    let mut children = parent.children.lock();
    if parent.is_on_host() && !parent.is_volume() {
        children.insert(name.to_vec(), None);
    } else {
        children.remove(name);
    }
}
