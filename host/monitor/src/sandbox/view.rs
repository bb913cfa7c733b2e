//! What the guest's process can look up by itself: nothing, or trees in a mount name space of its own.
//!
//! The new root holds the visible tree read-only, without devices and set-user-ID, and with empty
//! directories over what is masked. For root the guest runs as nobody, so that the whole tree may be
//! there. An ordinary caller's guest keeps the caller's user, who could read files of their own that others
//! cannot: only /usr is there, which belongs to the package manager.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use abi::boot::Tree;
use abi::pico::Direct;
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::raw;

/// Read-only, no set-user-ID, no devices.
const ATTRIBUTES: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// No name spaces; Landlock denies every file.
    Nothing,
    /// A whole tree, masked names at its root empty.
    Whole { root: PathBuf, masked: &'static [&'static str], user_namespace: bool },
    /// /usr without /usr/local, in a user name space of the caller's.
    Packages,
}

impl View {
    /// The CLONE_NEW* flags it takes.
    pub fn namespaces(&self) -> i32 {
        let spaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
        match self {
            Self::Nothing => 0,
            Self::Whole { user_namespace: false, .. } => spaces,
            Self::Whole { .. } | Self::Packages => spaces | libc::CLONE_NEWUSER,
        }
    }

    pub fn in_user_namespace(&self) -> bool {
        self.namespaces() & libc::CLONE_NEWUSER != 0
    }

    /// What the guest is told about it.
    pub fn direct(&self) -> Vec<Direct> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Whole { masked, user_namespace, .. } => vec![Direct {
                tree: Tree(0),
                part: Vec::new(),
                path: b"/".to_vec(),
                except: masked.iter().map(|name| name.as_bytes().to_vec()).collect(),
                of_root: *user_namespace,
            }],
            Self::Packages => vec![Direct {
                tree: Tree(0),
                part: b"usr".to_vec(),
                path: b"/usr".to_vec(),
                except: vec![b"local".to_vec()],
                of_root: true,
            }],
        }
    }

    /// Makes it the root of this process, which is alone in new name spaces.
    pub fn enter(&self) -> Result<(), Errno> {
        match self {
            Self::Nothing => Ok(()),
            Self::Whole { root, masked, .. } => whole(root, masked),
            Self::Packages => packages(),
        }
    }
}

fn whole(root: &Path, masked: &[&str]) -> Result<(), Errno> {
    leave_propagation()?;
    let kernels = kernels(root);
    let tree = clone(CWD, root)?;
    raw::set_mounts(tree.as_fd(), ATTRIBUTES)?;
    attach(&tree, CWD, Path::new("/"))?;
    let mut first: Option<&str> = None;
    let mut unused = None;
    for name in masked.iter().copied().chain(kernels.iter().map(String::as_str)) {
        let mask = match (unused.take(), first) {
            (Some(mask), _) => mask,
            (None, None) => fresh(true)?,
            // The same empty file system again: nothing can be written to it.
            (None, Some(first)) => clone(&tree, Path::new(first))?,
        };
        match attach(&mask, &tree, Path::new(name)) {
            Ok(()) => first = first.or(Some(name)),
            // Nothing there to hide.
            Err(Errno::NOENT | Errno::NOTDIR) => unused = Some(mask),
            Err(error) => return Err(error),
        }
    }
    change_root(&tree)
}

/// Places below a root where file systems of the kernel's own are mounted (proc_pid_mountinfo(5)): they tell
/// of processes and devices, wherever they are.
fn kernels(root: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(|line| kernels_mount(line, root)).collect()
}

fn kernels_mount(line: &str, root: &Path) -> Option<String> {
    const KINDS: [&str; 9] =
        ["proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "bpf", "devpts"];
    let (mount, system) = line.split_once(" - ")?;
    if !KINDS.contains(&system.split(' ').next()?) {
        return None;
    }
    let place = mount.split(' ').nth(4)?.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
    let inside = Path::new(&place).strip_prefix(root).ok()?;
    let inside = inside.to_str().filter(|inside| !inside.is_empty())?;
    let top = inside.split('/').next()?;
    (!["proc", "sys", "dev", "run", "tmp"].contains(&top)).then(|| inside.to_owned())
}

fn packages() -> Result<(), Errno> {
    leave_propagation()?;
    let packages = clone(CWD, Path::new("/usr"))?;
    raw::set_mounts(packages.as_fd(), ATTRIBUTES)?;
    let tree = fresh(false)?;
    attach(&tree, CWD, Path::new("/"))?;
    mkdirat(&tree, "usr", Mode::from_raw_mode(0o755))?;
    mkdirat(&tree, "none", Mode::from_raw_mode(0o755))?;
    attach(&packages, &tree, Path::new("usr"))?;
    let none = clone(&tree, Path::new("none"))?;
    match attach(&none, &tree, Path::new("usr/local")) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
        Err(error) => return Err(error),
    }
    raw::set_mounts(tree.as_fd(), ATTRIBUTES)?;
    change_root(&tree)
}

/// From here on nothing that is mounted here reaches any other name space.
fn leave_propagation() -> Result<(), Errno> {
    let root = rustix::fs::open("/", rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, Mode::empty())?;
    raw::set_mounts(root.as_fd(), 0)
}

/// A detached copy of a tree with all mounts in it.
fn clone(at: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(at, path, flags)
}

/// A detached, empty file system in memory.
fn fresh(read_only: bool) -> Result<OwnedFd, Errno> {
    let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(system.as_fd(), "mode", "0755")?;
    fsconfig_create(system.as_fd())?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    fsmount(system.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn attach(mount: &OwnedFd, at: impl AsFd, path: &Path) -> Result<(), Errno> {
    move_mount(mount, "", at, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Makes an attached tree the root, and lets go of the old one.
fn change_root(tree: &OwnedFd) -> Result<(), Errno> {
    fchdir(tree)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}

/// Maps the caller's user and group, and nobody else, into this process's new user name space.
pub fn map_caller(user: u32, group: u32) -> Result<(), Errno> {
    let write = |path: &str, text: String| {
        std::fs::write(path, text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    write("/proc/self/gid_map", format!("{group} {group} 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_the_kernel_are_found_wherever_they_are() {
        let line =
            |place: &str, kind: &str| format!("30 1 0:25 / {place} rw,nosuid shared:1 - {kind} none rw");
        let found = |place, kind| kernels_mount(&line(place, kind), Path::new("/"));
        assert_eq!(found("/srv/jail/proc", "proc").as_deref(), Some("srv/jail/proc"));
        assert_eq!(found("/srv/a\\040b/sys", "sysfs").as_deref(), Some("srv/a b/sys"));
        assert_eq!(found("/proc", "proc"), None);
        assert_eq!(found("/srv/data", "ext4"), None);
        assert_eq!(kernels_mount(&line("/srv/proc", "proc"), Path::new("/var")), None);
    }
}
