//! Users of the island and users of the machine.
//!
//! For root, numbers are the same on both sides, as docker has it. For an ordinary caller the island's
//! user stands for the caller, as podman's keep-id does, and everybody else is nobody.

use abi::file::Owner;

use crate::caller::Caller;

/// How a stranger's files are shown to an ordinary caller's island.
pub const NOBODY: u32 = 65534;

/// The mapping of users and groups on volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// One to one; owners can be set.
    Same,
    /// Only the caller is known, as `inside`.
    Kept { caller: Caller, inside: Owner },
}

impl Identity {
    pub fn new(caller: Caller, user: u32, group: u32) -> Self {
        if caller.is_root() { Self::Same } else { Self::Kept { caller, inside: Owner { user, group } } }
    }

    /// A file's owner as the island sees it.
    pub fn show(self, owner: Owner) -> Owner {
        match self {
            Self::Same => owner,
            Self::Kept { caller, inside } => Owner {
                user: if owner.user == caller.user { inside.user } else { NOBODY },
                group: if owner.group == caller.group { inside.group } else { NOBODY },
            },
        }
    }

    /// Who owns what the island creates for `owner`: `None` if that cannot be chosen.
    pub fn creator(self, owner: Owner) -> Option<Owner> {
        (self == Self::Same).then_some(owner)
    }

    /// The machine's number for a user the island names in chown; `None` if the island may not name it.
    pub fn user(self, user: u32) -> Option<u32> {
        match self {
            Self::Same => Some(user),
            Self::Kept { caller, inside } => (user == inside.user).then_some(caller.user),
        }
    }

    /// The same for a group.
    pub fn group(self, group: u32) -> Option<u32> {
        match self {
            Self::Same => Some(group),
            Self::Kept { caller, inside } => (group == inside.group).then_some(caller.group),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_caller_is_the_only_one_known() {
        let caller = Caller { user: 1000, group: 100 };
        let identity = Identity::new(caller, 0, 0);
        assert_eq!(identity.show(Owner { user: 1000, group: 100 }), Owner { user: 0, group: 0 });
        assert_eq!(identity.show(Owner { user: 0, group: 0 }), Owner { user: NOBODY, group: NOBODY });
        assert_eq!((identity.user(0), identity.user(1000)), (Some(1000), None));
        assert_eq!(identity.creator(Owner { user: 0, group: 0 }), None);
    }

    #[test]
    fn for_root_numbers_are_the_same() {
        let identity = Identity::new(Caller { user: 0, group: 0 }, 33, 33);
        let owner = Owner { user: 33, group: 7 };
        assert_eq!(identity.show(owner), owner);
        assert_eq!(identity.creator(owner), Some(owner));
    }
}
