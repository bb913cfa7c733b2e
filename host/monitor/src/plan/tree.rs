//! Which trees are granted, and where they appear.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use abi::boot::{Mount, MountKind, Tree};
use abi::pico::Owners;
use api::spec::{Spec, Volume};
use rustix::io::Errno;

use super::{MASKED, MASKED_ELSEWHERE, PlanError, shown};
use crate::caller::Caller;
use crate::identity::Identity;
use crate::sandbox::{Part, View};
use crate::tree::{GrantedTree, Rights};

/// What is seen as `/`.
pub struct Root {
    pub path: PathBuf,
    /// It is the machine's own.
    pub own: bool,
}

impl Root {
    pub fn masked(&self) -> &'static [&'static str] {
        if self.own { MASKED } else { MASKED_ELSEWHERE }
    }
}

/// Finds the root.
pub fn root(spec: &Spec) -> Result<Root, PlanError> {
    let Some(wanted) = &spec.root else { return Ok(Root { path: "/".into(), own: true }) };
    let failed = |error| PlanError::Root { path: shown(wanted), error };
    let path = Path::new(std::ffi::OsStr::from_bytes(wanted))
        .canonicalize()
        .map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    if !path.is_dir() {
        return Err(failed(Errno::NOTDIR));
    }
    let own = path == Path::new("/");
    Ok(Root { path, own })
}

/// The part of the root that the guest may look up itself: all of it, if the guest's user may see it all.
fn system(root: &Root, caller: Caller) -> Part {
    let owners = if caller.is_root() { Owners::Same } else { Owners::HiddenAreRoot };
    let part = Part {
        tree: Tree(0),
        place: "",
        source: root.path.clone(),
        identity: None,
        masked: root.masked(),
        owners,
    };
    // Another root is granted as a whole, with the caller's rights.
    if caller.is_root() || !root.own {
        part
    } else {
        Part { place: "usr", source: root.path.join("usr"), masked: &["local"], ..part }
    }
}

/// What an island of this caller sees of the machine without any grant.
pub fn view_of_machine(caller: Caller) -> View {
    let root = Root { path: "/".into(), own: true };
    View::Trees { parts: vec![system(&root, caller)], user_namespace: !caller.is_root() }
}

/// The granted trees, numbered in the order of being granted.
pub struct Trees {
    caller: Caller,
    identity: Identity,
    opened: Vec<GrantedTree>,
    mounts: Vec<Mount>,
    /// What of them the guest may look up itself, the root first.
    parts: Vec<Part>,
}

impl Trees {
    /// Begins with the root.
    pub fn new(root: &Root, caller: Caller, identity: Identity) -> Result<Self, PlanError> {
        let rights = if root.own || caller.is_root() {
            Rights::Others { masked: root.masked() }
        } else {
            Rights::Read
        };
        let path = root.path.as_os_str().as_bytes();
        let tree = GrantedTree::open(path, rights, identity)
            .map_err(|error| PlanError::Root { path: shown(path), error })?;
        let mount = Mount { path: b"/".to_vec(), tree: Tree(0), kind: MountKind::Overlay };
        let system = Part { owners: tree.owners(caller), ..system(root, caller) };
        Ok(Self { caller, identity, opened: vec![tree], mounts: vec![mount], parts: vec![system] })
    }

    /// Adds a volume.
    pub fn volume(&mut self, volume: &Volume) -> Result<(), PlanError> {
        let destination = destination(&volume.destination)?;
        if self.mounts.iter().skip(1).any(|mount| mount.path == destination) {
            return Err(PlanError::Twice { path: shown(&destination) });
        }
        let rights = if volume.writable { Rights::Write } else { Rights::Read };
        self.grant(&volume.source, destination, rights).map_err(|error| {
            let path = shown(&volume.source);
            if error == Errno::NOENT {
                PlanError::NoVolume { path }
            } else {
                PlanError::Volume { path, error }
            }
        })
    }

    /// Adds a tree at a place.
    pub fn grant(&mut self, source: &[u8], destination: Vec<u8>, rights: Rights) -> Result<(), Errno> {
        let number = u16::try_from(self.opened.len()).map_err(|_| Errno::MFILE)?;
        let tree = GrantedTree::open(source, rights, self.identity)?;
        if let Some(identity) = tree.directory_identity()? {
            self.parts.push(Part {
                tree: Tree(number),
                place: "",
                source: Path::new(std::ffi::OsStr::from_bytes(source)).to_path_buf(),
                identity: Some(identity),
                masked: &[],
                owners: tree.owners(self.caller),
            });
        }
        self.opened.push(tree);
        let kind = if rights == Rights::Write { MountKind::Writable } else { MountKind::ReadOnly };
        self.mounts.push(Mount { path: destination, tree: Tree(number), kind });
        Ok(())
    }

    /// Whether a volume covers this path.
    pub fn covers(&self, path: &Path) -> bool {
        let place = |mount: &Mount| PathBuf::from(std::ffi::OsStr::from_bytes(&mount.path));
        self.mounts.iter().skip(1).any(|mount| path.starts_with(place(mount)))
    }

    /// Where the trees appear, outermost first.
    pub fn mounts(&self) -> Vec<Mount> {
        let mut mounts = self.mounts.clone();
        mounts.sort_by_key(|mount| {
            mount.path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).count()
        });
        mounts
    }

    /// What the guest might look up itself, best first. The last always works.
    pub fn views(&self) -> Vec<View> {
        let view =
            |parts: &[Part]| View::Trees { parts: parts.to_vec(), user_namespace: !self.caller.is_root() };
        let mut views = vec![view(&self.parts)];
        if self.parts.len() > 1 {
            views.push(view(&self.parts[..1]));
        }
        views.push(View::Nothing);
        views
    }

    pub fn opened(self) -> Vec<GrantedTree> {
        self.opened
    }
}

/// A volume's place in the island, checked and in its plain form.
fn destination(path: &[u8]) -> Result<Vec<u8>, PlanError> {
    let refuse = |why| Err(PlanError::Destination { path: shown(path), why });
    if !path.starts_with(b"/") {
        return refuse("it must be an absolute path");
    }
    let parts: Vec<&[u8]> =
        path.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    match parts.first() {
        None => return refuse("it would replace the root; use --root for that"),
        Some(&(b"proc" | b"sys" | b"dev")) => return refuse("/proc, /sys and /dev are the island's own"),
        Some(_) if parts.contains(&&b".."[..]) => return refuse("it contains `..`; write the path plainly"),
        Some(_) => {}
    }
    Ok(parts.iter().flat_map(|part| [b"/", *part].concat()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_plain_absolute_paths() {
        assert_eq!(destination(b"/a//b/./c/").unwrap(), b"/a/b/c");
        for bad in ["", "a", "/", "/../x", "/a/../b", "/proc/x", "/sys", "/dev/shm"] {
            assert!(destination(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
