//! What a look-up must not do: the `resolve` rules of openat2(2).

use alloc::sync::Arc;

use bitflags::bitflags;

use super::{Kind, Location};
use crate::errno::{Errno, Result};
use crate::thread::Thread;

bitflags! {
    /// The rules, numbered as in openat2(2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Rules: u64 {
        /// No way from one mount to another.
        const NO_CROSSING = 1;
        /// No links of /proc that lead to the thing itself.
        const NO_MAGIC_LINKS = 2;
        const NO_LINKS = 4;
        /// Nothing above the start.
        const BENEATH = 8;
        /// The start is the root.
        const IN_ROOT = 16;
        /// Only what needs no waiting.
        const CACHED = 32;
    }
}

/// Rules, and the place they are about.
#[derive(Clone, Default)]
pub struct Bounds(Option<(Rules, Location)>);

impl Bounds {
    pub fn new(rules: Rules, start: &Location) -> Self {
        Self(Some((rules, start.clone())).filter(|(rules, _)| !rules.is_empty()))
    }

    pub fn are_none(&self) -> bool {
        self.0.is_none()
    }

    fn holds(&self, rule: Rules) -> Option<&Location> {
        self.0.as_ref().filter(|(rules, _)| rules.intersects(rule)).map(|(_, start)| start)
    }

    /// Where an absolute path goes on from a place.
    pub fn root(&self, thread: &Arc<Thread>, from: &Location) -> Result<Location> {
        if self.holds(Rules::BENEATH).is_some() {
            return Err(Errno::EXDEV);
        }
        let root = match self.holds(Rules::IN_ROOT) {
            Some(start) => start.clone(),
            None => thread.file_system().root(),
        };
        self.may_cross(from, &root)?;
        Ok(root)
    }

    /// Where `..` leads.
    pub fn above(&self, thread: &Arc<Thread>, at: &Location) -> Result<Location> {
        if let Some(start) = self.holds(Rules::BENEATH | Rules::IN_ROOT)
            && Arc::ptr_eq(start, at)
        {
            return if self.holds(Rules::BENEATH).is_some() { Err(Errno::EXDEV) } else { Ok(at.clone()) };
        }
        if Arc::ptr_eq(at, &thread.file_system().root()) {
            return Ok(at.clone());
        }
        let above = at.parent.lock().clone().unwrap_or_else(|| at.clone());
        self.may_cross(at, &above)?;
        Ok(above)
    }

    /// Whether one step may lead from a place to another.
    pub fn may_cross(&self, from: &Location, to: &Location) -> Result<()> {
        // /proc and /sys are mounts of their own, though on the island's only device.
        let mount = |place: &Location| {
            (place.node.attributes().device, matches!(place.node.kind, Kind::Generated(_)))
        };
        match self.holds(Rules::NO_CROSSING) {
            Some(_) if mount(from) != mount(to) => Err(Errno::EXDEV),
            _ => Ok(()),
        }
    }

    pub fn may_follow(&self) -> Result<()> {
        self.holds(Rules::NO_LINKS).map_or(Ok(()), |_| Err(Errno::ELOOP))
    }

    /// Whether a link of /proc may be followed to the thing itself.
    pub fn may_jump(&self) -> Result<()> {
        match (self.holds(Rules::NO_MAGIC_LINKS), self.holds(Rules::BENEATH | Rules::IN_ROOT)) {
            (Some(_), _) => Err(Errno::ELOOP),
            (_, Some(_)) => Err(Errno::EXDEV),
            _ => Ok(()),
        }
    }
}
