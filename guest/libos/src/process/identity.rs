//! Who a process acts as, as the island sees it (credentials(7)).

use alloc::vec::Vec;

use abi::boot::Boot;

#[derive(Clone, Debug)]
pub struct Identity {
    pub real_user: u32,
    pub user: u32,
    pub saved_user: u32,
    pub real_group: u32,
    pub group: u32,
    pub saved_group: u32,
    pub groups: Vec<u32>,
}

impl Identity {
    /// As the island was told.
    pub fn first(boot: &Boot) -> Self {
        Self {
            real_user: boot.user,
            user: boot.user,
            saved_user: boot.user,
            real_group: boot.group,
            group: boot.group,
            saved_group: boot.group,
            groups: boot.groups.clone(),
        }
    }

    pub fn privileged(&self) -> bool {
        self.user == 0
    }

    pub fn in_group(&self, group: u32) -> bool {
        self.group == group || self.groups.contains(&group)
    }

    /// Whether it may send the other one signals (kill(2)).
    pub fn may_signal(&self, other: &Self) -> bool {
        let same = |user| user == other.real_user || user == other.saved_user;
        self.privileged() || same(self.real_user) || same(self.user)
    }
}
