//! Where the program starts.
//!
//! The current directory is granted read-only with the caller's rights, unless it is or contains a home:
//! those hold keys and mail, and nobody grants them by where they happen to stand. Then the program starts
//! in `/`, and that is said once. Asked for by -w, such a directory is an error.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use api::spec::Spec;

use super::tree::Trees;
use super::{PlanError, shown};
use crate::caller::homes;
use crate::tree::Rights;

/// The chosen directory.
pub struct Directory {
    pub path: Vec<u8>,
    /// What the user is told about it.
    pub notice: Option<String>,
}

/// What the current directory means for an island.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing to grant: the island has it anyway, or its own.
    There,
    Home,
    Grantable,
}

/// Chooses the directory, and grants the current one where that is right.
pub fn choose(spec: &Spec, trees: &mut Trees) -> Result<Directory, PlanError> {
    let current = std::env::current_dir().ok();
    let standing = match &current {
        Some(current) if spec.root.is_none() => standing(current, &homes(), trees.covers(current)),
        _ => Standing::There,
    };
    if let (Some(current), Standing::Grantable) = (&current, standing) {
        let path = current.as_os_str().as_bytes();
        // A directory that cannot be opened is none to start in; the program will say so.
        let _ = trees.grant(path, path.to_vec(), Rights::Read);
    }
    if let Some(wanted) = &spec.directory {
        return asked_for(wanted, current.as_deref(), standing);
    }
    let start = |path: &Path| path.as_os_str().as_bytes().to_vec();
    Ok(match (current, standing) {
        (Some(current), Standing::There | Standing::Grantable) if spec.root.is_none() => {
            Directory { path: start(&current), notice: None }
        }
        (Some(current), Standing::Home) => Directory { path: b"/".to_vec(), notice: Some(notice(&current)) },
        _ => Directory { path: b"/".to_vec(), notice: None },
    })
}

fn notice(current: &Path) -> String {
    let path = shown(current.as_os_str().as_bytes());
    format!(
        "the current directory {path} is a home or contains one and stays hidden, the program starts in /; \
         grant it with -v {path}:{path}"
    )
}

fn asked_for(wanted: &[u8], current: Option<&Path>, standing: Standing) -> Result<Directory, PlanError> {
    let path = Path::new(std::ffi::OsStr::from_bytes(wanted));
    if !path.is_absolute() {
        return Err(PlanError::Directory { path: shown(wanted) });
    }
    if standing == Standing::Home && current.is_some_and(|current| path == current) {
        return Err(PlanError::Home { path: shown(wanted) });
    }
    Ok(Directory { path: wanted.to_vec(), notice: None })
}

fn standing(current: &Path, homes: &[PathBuf], covered: bool) -> Standing {
    let own = ["/tmp", "/run", "/proc", "/sys", "/dev"];
    if covered || current == Path::new("/") || own.iter().any(|own| current == Path::new(own)) {
        return Standing::There;
    }
    if ["/proc", "/sys", "/dev"].iter().any(|own| current.starts_with(own)) {
        return Standing::There;
    }
    if homes.iter().any(|home| home.starts_with(current)) { Standing::Home } else { Standing::Grantable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_never_granted_by_standing_in_them() {
        let homes = [PathBuf::from("/home/ann"), PathBuf::from("/home"), PathBuf::from("/root")];
        let judge = |path: &str| standing(Path::new(path), &homes, false);
        for home in ["/home", "/home/ann", "/root"] {
            assert_eq!(judge(home), Standing::Home, "{home}");
        }
        for there in ["/", "/tmp", "/proc/1"] {
            assert_eq!(judge(there), Standing::There, "{there}");
        }
        for fine in ["/home/ann/project", "/srv/site", "/tmp/x"] {
            assert_eq!(judge(fine), Standing::Grantable, "{fine}");
        }
        assert_eq!(standing(Path::new("/home/ann"), &homes, true), Standing::There);
    }
}
