//! What a process behind the wall can look up by itself: nothing, granted trees in a mount name space of its
//! own, or the machine's programs.
//!
//! The new root is an empty file system with one directory a tree, named by its place in the list. Each is
//! there read-only, without devices and set-user-ID, and with empty directories over what is masked. What
//! such a look-up may answer is for the process's user to decide: nobody for root, so that the machine's
//! whole tree may be there; the caller's own for anybody else, who could read files of their own that
//! others cannot: of the machine's tree only /usr is there then, which belongs to the package manager.
//!
//! An emulator is a program of the machine's: it sees programs and libraries, and what it is to boot.

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use abi::boot::Tree;
use abi::pico::{Direct, Owners};
use rustix::fs::{CWD, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::raw;

/// Read-only, no set-user-ID, no devices.
const ATTRIBUTES: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
/// The directory that hides what is masked.
const NONE: &str = "none";

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// No name spaces; Landlock denies every file.
    Nothing,
    /// Trees in a mount name space.
    Trees { parts: Vec<Part>, user_namespace: bool },
    /// What a program of this machine needs to run.
    Programs { spaces: Spaces, files: Vec<Content> },
}

/// Name spaces of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spaces {
    /// The machine's: Landlock alone keeps it to programs.
    Shared,
    Own,
    /// Its own, with a user name space to be allowed to make them.
    OwnWithUser,
}

/// A file at the root, by name.
pub type Content = (&'static str, Cow<'static, [u8]>);

/// Where this machine has programs and their libraries, of which some may be one.
const PROGRAMS: [&str; 3] = ["usr", "lib", "lib64"];

/// A part of a granted tree that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub tree: Tree,
    /// Where it lies in the tree: a relative path, empty for all of it.
    pub place: &'static str,
    /// Where it lies on this machine.
    pub source: PathBuf,
    /// Device and inode number of what was granted, where that could have been exchanged since.
    pub identity: Option<(u64, u64)>,
    /// Names in it that are empty.
    pub masked: &'static [&'static str],
    pub owners: Owners,
}

impl View {
    /// The CLONE_NEW* flags it takes.
    pub fn namespaces(&self) -> i32 {
        let spaces = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
        let more = spaces | libc::CLONE_NEWNET | libc::CLONE_NEWIPC;
        match self {
            Self::Nothing | Self::Programs { spaces: Spaces::Shared, .. } => 0,
            Self::Programs { spaces: Spaces::Own, .. } => more,
            Self::Programs { spaces: Spaces::OwnWithUser, .. } => more | libc::CLONE_NEWUSER,
            Self::Trees { user_namespace: false, .. } => spaces,
            Self::Trees { .. } => spaces | libc::CLONE_NEWUSER,
        }
    }

    pub fn in_user_namespace(&self) -> bool {
        self.namespaces() & libc::CLONE_NEWUSER != 0
    }

    /// Whether the kernel ends all processes with the first one.
    pub fn in_process_namespace(&self) -> bool {
        self.namespaces() & libc::CLONE_NEWPID != 0
    }

    fn parts(&self) -> &[Part] {
        match self {
            Self::Trees { parts, .. } => parts,
            Self::Nothing | Self::Programs { .. } => &[],
        }
    }

    /// What the guest is told about it.
    pub fn direct(&self) -> Vec<Direct> {
        let told = |(number, part): (usize, &Part)| Direct {
            tree: part.tree,
            part: part.place.as_bytes().to_vec(),
            path: format!("/{number}").into_bytes(),
            except: part.masked.iter().map(|name| name.as_bytes().to_vec()).collect(),
            owners: part.owners,
        };
        self.parts().iter().enumerate().map(told).collect()
    }

    /// What Landlock leaves readable, and whether it may be executed too.
    pub fn readable(&self) -> (Vec<PathBuf>, bool) {
        match self {
            Self::Nothing => (Vec::new(), false),
            Self::Trees { .. } => (vec![PathBuf::from("/")], false),
            Self::Programs { spaces: Spaces::Shared, .. } => {
                (PROGRAMS.map(|name| Path::new("/").join(name)).to_vec(), true)
            }
            Self::Programs { .. } => (vec![PathBuf::from("/")], true),
        }
    }

    /// Makes it the root of this process, which is alone in new name spaces.
    pub fn enter(&self) -> Result<(), Errno> {
        if self.namespaces() == 0 {
            return Ok(());
        }
        leave_propagation()?;
        let root = match self {
            Self::Programs { files, .. } => programs(files)?,
            _ => trees(self.parts())?,
        };
        raw::set_mounts(root.as_fd(), ATTRIBUTES)?;
        change_root(&root)
    }
}

/// A root with a directory for each part.
fn trees(parts: &[Part]) -> Result<OwnedFd, Errno> {
    let copies = parts.iter().map(Part::copy).collect::<Result<Vec<_>, _>>()?;
    let root = fresh()?;
    attach(&root, CWD, Path::new("/"))?;
    mkdirat(&root, NONE, Mode::from_raw_mode(0o755))?;
    for (number, (part, copy)) in parts.iter().zip(&copies).enumerate() {
        let name = number.to_string();
        mkdirat(&root, &name, Mode::from_raw_mode(0o755))?;
        attach(copy, &root, Path::new(&name))?;
        part.mask(copy, &root)?;
    }
    Ok(root)
}

/// A root with the machine's programs and these files.
fn programs(files: &[Content]) -> Result<OwnedFd, Errno> {
    let copies = PROGRAMS.map(|name| (name, clone(CWD, &Path::new("/").join(name))));
    let root = fresh()?;
    attach(&root, CWD, Path::new("/"))?;
    for (name, copy) in copies {
        match copy {
            Err(Errno::NOENT) => {}
            copy => {
                mkdirat(&root, name, Mode::from_raw_mode(0o755))?;
                attach(&copy?, &root, Path::new(name))?;
            }
        }
    }
    for (name, content) in files {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let mut file = File::from(openat(&root, *name, flags, Mode::from_raw_mode(0o444))?);
        file.write_all(content).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    }
    Ok(root)
}

impl Part {
    /// A detached copy of it.
    fn copy(&self) -> Result<OwnedFd, Errno> {
        let copy = clone(CWD, &self.source)?;
        let stat = fstat(&copy)?;
        match self.identity {
            Some(identity) if identity != (stat.st_dev, stat.st_ino) => Err(Errno::STALE),
            _ => Ok(copy),
        }
    }

    /// Puts the empty directory over what is masked, and over what tells of the kernel.
    fn mask(&self, copy: &OwnedFd, root: &OwnedFd) -> Result<(), Errno> {
        // A volume was granted with all that is in it.
        let kernels = if self.tree == Tree(0) { kernels(&self.source) } else { Vec::new() };
        let mut unused = None;
        for name in self.masked.iter().copied().chain(kernels.iter().map(String::as_str)) {
            let mask = unused.take().map_or_else(|| clone(root, Path::new(NONE)), Ok)?;
            match attach(&mask, copy, Path::new(name)) {
                Ok(()) => {}
                // Nothing there to hide.
                Err(Errno::NOENT | Errno::NOTDIR) => unused = Some(mask),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
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
    // Those at the root are masked by name, or lie below what is.
    let top = inside.split('/').next()?;
    (!["proc", "sys", "dev", "run", "tmp"].contains(&top)).then(|| inside.to_owned())
}

/// From here on nothing that is mounted here reaches any other name space.
fn leave_propagation() -> Result<(), Errno> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    raw::set_mounts(root.as_fd(), 0)
}

/// A detached copy of a tree with all mounts in it.
fn clone(at: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(at, path, flags)
}

/// A detached, empty file system in memory.
fn fresh() -> Result<OwnedFd, Errno> {
    let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(system.as_fd(), "mode", "0755")?;
    fsconfig_create(system.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
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
