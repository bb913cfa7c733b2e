//! Who called, and what of their surroundings matters.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The calling user, with the rights of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub user: u32,
    pub group: u32,
}

impl Caller {
    /// The user this process runs as.
    pub fn current() -> Self {
        Self { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }

    pub fn is_root(self) -> bool {
        self.user == 0
    }
}

/// A variable of the caller's environment, if it is set and not empty.
pub fn variable(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name).map(OsString::into_vec).filter(|value| !value.is_empty())
}

/// Directories that are somebody's home: the caller's, root's, and those of people (not of services) in
/// the user database.
pub fn homes() -> Vec<PathBuf> {
    let mut homes = vec![PathBuf::from("/root"), PathBuf::from("/home")];
    if let Some(home) = std::env::var_os("HOME") {
        let home = PathBuf::from(home);
        homes.extend(home.canonicalize().ok());
        homes.push(home);
    }
    let database = std::fs::read("/etc/passwd").unwrap_or_default();
    homes.extend(people(&String::from_utf8_lossy(&database)));
    homes.retain(|home| home.is_absolute() && home != Path::new("/"));
    homes
}

/// Homes of users with numbers that distributions give to people.
fn people(database: &str) -> Vec<PathBuf> {
    let home = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let number: u32 = fields.get(2)?.parse().ok()?;
        ((1000..60_000).contains(&number)).then(|| PathBuf::from(fields.get(5).copied().unwrap_or("/")))
    };
    database.lines().filter_map(home).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_people_have_homes() {
        let database = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\n\
                        ann:x:1000:1000::/srv/ann:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/sh\n";
        assert_eq!(people(database), [PathBuf::from("/srv/ann")]);
    }
}
