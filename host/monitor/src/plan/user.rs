//! Who the program is on the island.
//!
//! Names are the island's own: they are looked up in the files below its root, as docker does.

use std::path::Path;

use api::spec::User;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};

use super::PlanError;
use super::tree::Root;
use crate::caller::Caller;

/// The user, group and further groups a program starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub user: u32,
    pub group: u32,
    pub groups: Vec<u32>,
}

/// Finds the wanted user; the caller if none.
pub fn resolve(wanted: Option<&User>, caller: Caller, root: &Root) -> Result<Resolved, PlanError> {
    match wanted {
        None => Ok(Resolved { user: caller.user, group: caller.group, groups: Vec::new() }),
        Some(wanted) => find(wanted, &read(&root.path, "etc/passwd"), &read(&root.path, "etc/group")),
    }
}

/// A file below the root, links resolved as the island would.
fn read(root: &Path, name: &str) -> String {
    let open = || {
        let directory = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        openat2(&directory, name, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
    };
    let file = open().map(std::fs::File::from);
    file.ok().and_then(|file| std::io::read_to_string(file).ok()).unwrap_or_default()
}

fn find(wanted: &User, passwd: &str, groups: &str) -> Result<Resolved, PlanError> {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let entry = passwd
        .lines()
        .map(fields)
        .find(|entry| entry.len() > 3 && (entry[0] == wanted.user || entry[2] == wanted.user));
    let named = |field: usize| entry.as_ref().and_then(|entry| entry[field].parse().ok());
    let user =
        number(&wanted.user).or(named(2)).ok_or_else(|| PlanError::NoUser { name: wanted.user.clone() })?;
    let group = match &wanted.group {
        None => named(3).unwrap_or(0),
        Some(group) => {
            let entry = groups.lines().map(fields).find(|entry| entry.len() > 2 && entry[0] == *group);
            let named = entry.and_then(|entry| entry[2].parse().ok());
            number(group).or(named).ok_or_else(|| PlanError::NoGroup { name: group.clone() })?
        }
    };
    let name = entry.as_ref().map_or("", |entry| entry[0].as_str());
    let member = |entry: &Vec<String>| entry.len() > 3 && entry[3].split(',').any(|each| each == name);
    let further = groups.lines().map(fields).filter(|_| wanted.group.is_none() && !name.is_empty());
    let groups = further.filter(member).filter_map(|entry| entry[2].parse().ok()).collect();
    Ok(Resolved { user, group, groups })
}

/// A number that can be a user's: the greatest means "none" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n";
    const GROUPS: &str = "root:x:0:\nssl:x:50:web,ann\nweb:x:34:\n";

    fn found(user: &str, group: Option<&str>) -> Option<(u32, u32, Vec<u32>)> {
        let wanted = User { user: user.into(), group: group.map(str::to_owned) };
        find(&wanted, PASSWD, GROUPS).ok().map(|found| (found.user, found.group, found.groups))
    }

    #[test]
    fn names_are_looked_up_and_numbers_taken() {
        assert_eq!(found("web", None), Some((33, 34, vec![50])));
        assert_eq!(found("33", None), Some((33, 34, vec![50])));
        assert_eq!(found("web", Some("ssl")), Some((33, 50, vec![])));
        assert_eq!(found("7", Some("8")), Some((7, 8, vec![])));
        assert_eq!(found("7", None), Some((7, 0, vec![])));
        assert_eq!(found("nobody-here", None), None);
        assert_eq!(found("web", Some("no")), None);
        assert_eq!(found("4294967295", None), None);
    }
}
