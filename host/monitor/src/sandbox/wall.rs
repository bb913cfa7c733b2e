//! What cannot be undone: the user, the capabilities, no new privileges, Landlock.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal, setsid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, set_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::raw;
use crate::identity::NOBODY;

/// The newest Landlock this was written for; older kernels give what they have.
const LANDLOCK: ABI = ABI::V6;

/// User numbers that no system hands out (systemd's UIDS-GIDS.md: 1879048192 to 2147483647 are unused).
const STRANGERS: u32 = 0x7e00_0000;

/// Gives up root for a user that owns nothing on this machine, not even what nobody owns, and that no other
/// island is: the kernel's limits by user are each island's own. `number` is one that no other island has.
pub fn become_stranger(number: u32) -> Result<(), Errno> {
    set_thread_groups(&[])?;
    // Inside some containers there are no such users.
    become_user(STRANGERS + number % 0x100_0000).or_else(|_| become_user(NOBODY))
}

fn become_user(number: u32) -> Result<(), Errno> {
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)
}

/// Gives up every capability, also for what will be executed.
pub fn drop_capabilities() -> Result<(), Errno> {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// Empties the bounding set; needs a capability itself, so it comes before the others are given up.
pub fn drop_bounding_set() {
    raw::drop_bounding_set();
}

/// Ties the guest to the monitor, whose end is its end, and takes it out of the caller's session.
pub fn tie() -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setsid().map(drop)
}

/// Closes the file system but for reading below these directories, and executing where that is wanted.
pub fn restrict((readable, execute): (Vec<PathBuf>, bool)) -> Result<(), Errno> {
    set_no_new_privs(true)?;
    let mut opened = Vec::new();
    for directory in readable {
        match open(&directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            // Not every machine has all of them.
            Err(Errno::NOENT) => {}
            directory => opened.push(directory?),
        }
    }
    landlock(opened, execute).map_err(|_| Errno::PERM)
}

fn landlock(readable: Vec<OwnedFd>, execute: bool) -> Result<(), RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let access = if execute { read | AccessFs::Execute } else { read };
    for directory in readable {
        rules = rules.add_rule(PathBeneath::new(directory, access))?;
    }
    rules.restrict_self().map(drop)
}
