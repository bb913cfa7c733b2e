//! Who runs a case: root, an ordinary user, or one who is denied user namespaces as well.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No island: the case's program runs on this machine as an ordinary user, which proves what the
    /// case expects.
    Native,
    Root,
    Ordinary,
    /// An ordinary user on a machine that has user namespaces switched off.
    Confined,
}

impl Caller {
    pub const ALL: [Self; 4] = [Self::Native, Self::Root, Self::Ordinary, Self::Confined];

    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Root => "root",
            Self::Ordinary => "ordinary",
            Self::Confined => "confined",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|caller| caller.name() == name)
    }

    /// Whether the suite, run as it is, can become this caller.
    pub fn is_possible(self) -> bool {
        self != Self::Root || rustix::process::geteuid().is_root()
    }
}

/// A user id that nobody has: the first free one from 1000 on, counted up by the lane, so that cases
/// that run side by side are strangers to each other.
pub fn unused_user(lane: u32) -> u32 {
    let taken = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let taken: Vec<u32> = taken.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect();
    (1000..).filter(|id| !taken.contains(id)).nth(lane as usize).unwrap_or(65534)
}

/// Makes this process, which must have one thread only, the caller's for good.
pub fn become_caller(caller: Caller, user: Option<u32>) -> Result<()> {
    if let Some(id) = user.filter(|_| caller != Caller::Root) {
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        set_thread_groups(&[]).context("giving up root's groups")?;
        set_thread_res_gid(group, group, group).context("giving up root's group")?;
        set_thread_res_uid(user, user, user).context("giving up root")?;
    }
    if caller == Caller::Confined {
        deny_user_namespaces()?;
    }
    Ok(())
}

const CLONE_NEWUSER: u64 = 0x1000_0000;

/// EPERM for unshare(2) and clone(2) with CLONE_NEWUSER, as where the administrator has switched user
/// namespaces off; ENOSYS for clone3(2), whose flags no filter can see (glibc then uses clone).
fn deny_user_namespaces() -> Result<()> {
    let wants_user = || -> Result<SeccompRule> {
        let flag = SeccompCmpOp::MaskedEq(CLONE_NEWUSER);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, flag, CLONE_NEWUSER)?;
        Ok(SeccompRule::new(vec![condition])?)
    };
    deny(BTreeMap::from([(56, vec![wants_user()?]), (272, vec![wants_user()?])]), 1)?;
    deny(BTreeMap::from([(435, vec![])]), 38)
}

fn deny(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: u32) -> Result<()> {
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), TargetArch::x86_64)?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program).context("installing a filter")
}
