//! Trees of this machine and of images, seen the same way, so that they can be compared.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use erofs::write::{Attributes, Node, Special, Tree};
use erofs::{Image, Kind, Page, Time};

/// What is compared of a file. Links are those within the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    pub device: u64,
    pub modified: Time,
    /// A file's length and what its content hashes to; a link's target.
    pub content: (u64, u64),
    pub target: Vec<u8>,
    pub extended: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path to the same file.
    pub first: Vec<u8>,
}

/// Everything by path, the root's being empty.
pub type View = BTreeMap<Vec<u8>, Seen>;

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn attributes_of(path: &Path, metadata: &fs::Metadata) -> Attributes {
    Attributes {
        mode: (metadata.mode() & 0o7777) as u16,
        user: metadata.uid(),
        group: metadata.gid(),
        modified: Time { seconds: metadata.mtime(), nanoseconds: metadata.mtime_nsec() as u32 },
        extended: extended_of(path),
    }
}

fn extended_of(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 0x1_0000];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names) else { return BTreeMap::new() };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 0x1_0000];
        let length = rustix::fs::lgetxattr(path, name, &mut value).expect("an attribute that was listed");
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

/// Sees a directory of this machine, mounted images among them.
pub fn see(root: &Path) -> View {
    let (mut view, mut first) = (View::new(), HashMap::new());
    let mut waiting = vec![(Vec::new(), root.to_path_buf())];
    while let Some((name, path)) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).expect("a file that was listed");
        let kind = metadata.file_type();
        let attributes = attributes_of(&path, &metadata);
        let mut seen = Seen {
            mode: metadata.mode(),
            user: attributes.user,
            group: attributes.group,
            device: metadata.rdev(),
            modified: attributes.modified,
            content: (0, 0),
            target: Vec::new(),
            extended: attributes.extended,
            first: first.entry((metadata.dev(), metadata.ino())).or_insert_with(|| name.clone()).clone(),
        };
        if kind.is_file() {
            let bytes = read(&path);
            seen.content = (bytes.len() as u64, hash(&bytes));
        } else if kind.is_symlink() {
            seen.target = fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec();
        } else if kind.is_dir() {
            waiting.extend(sorted(&path).into_iter().rev().map(|below| {
                let last = below.file_name().expect("a name").as_bytes();
                ([&name[..], b"/", last].concat(), below.clone())
            }));
        }
        view.insert(name, seen);
    }
    view
}

const EIO: i32 = 5;

/// A file's content. The loop device under a mounted image was seen to fail reads on a busy machine (EIO, for some
/// milliseconds, of images whose files have nothing wrong), so a read is tried again for a while.
fn read(path: &Path) -> Vec<u8> {
    let mut patience = 20;
    loop {
        match fs::read(path) {
            Err(error) if error.raw_os_error() == Some(EIO) && patience > 0 => {
                patience -= 1;
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            read => return read.expect("a file that can be read"),
        }
    }
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("a directory that can be listed");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort_by(|one, other| one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes()));
    paths
}

/// Sees an image, through every operation that reading has.
pub fn see_image(image: &Image<&[u8]>) -> View {
    let (mut view, mut first, mut listed) = (View::new(), HashMap::new(), HashSet::new());
    let mut waiting = vec![(Vec::new(), image.superblock().root)];
    while let Some((name, number)) = waiting.pop() {
        let inode = image.inode(number).expect("an inode");
        let mut seen = Seen {
            mode: inode.mode.into(),
            user: inode.user,
            group: inode.group,
            device: inode.device.into(),
            modified: inode.modified,
            content: (0, 0),
            target: Vec::new(),
            extended: super::extended(image, &inode),
            first: first.entry(number).or_insert_with(|| name.clone()).clone(),
        };
        match inode.kind {
            Kind::Regular => {
                let bytes = super::read_all(image, &inode);
                check_pages(image, &inode, &bytes);
                seen.content = (inode.size, hash(&bytes));
            }
            Kind::Link => seen.target = image.target(&inode).expect("a target"),
            Kind::Directory => {
                assert!(listed.insert(number), "a directory has two names");
                let mut below = Vec::new();
                let visit = |entry: erofs::Entry<'_>| {
                    let found = image.look_up(&inode, entry.name).expect("sound");
                    assert_eq!(found, Some(entry.found));
                    if !matches!(entry.name, b"." | b"..") {
                        below.push(([&name[..], b"/", entry.name].concat(), entry.found.number));
                    }
                    ControlFlow::Continue(())
                };
                image.list(&inode, 0, visit).expect("a directory");
                waiting.extend(below.into_iter().rev());
            }
            _ => {}
        }
        view.insert(name, seen);
    }
    view
}

/// Requires of every page that what lies where it says is what reading gives.
fn check_pages(image: &Image<&[u8]>, file: &erofs::Inode, bytes: &[u8]) {
    let mut index = 0;
    while index < file.size.div_ceil(4096) {
        let run = image.run(file, index, u64::MAX).expect("a run");
        let start = index as usize * 4096;
        let end = bytes.len().min(start + run.pages as usize * 4096);
        match run.page {
            Page::At(at) => assert!(image.source()[at as usize..].starts_with(&bytes[start..end])),
            Page::Hole => assert!(bytes[start..end].iter().all(|byte| *byte == 0)),
            Page::Packed => assert_eq!(run.pages, 1),
            Page::Beyond => panic!("the file ends early"),
        }
        index += run.pages;
    }
}

/// Describes a directory of this machine, for writing.
pub fn describe(root: &Path) -> Tree<'static> {
    let top = fs::symlink_metadata(root).expect("a directory");
    let mut tree = Tree::new(attributes_of(root, &top)).expect("attributes");
    let mut known: HashMap<(u64, u64), Node> = HashMap::new();
    let mut waiting = vec![(tree.root(), root.to_path_buf())];
    while let Some((parent, directory)) = waiting.pop() {
        for path in sorted(&directory) {
            let metadata = fs::symlink_metadata(&path).expect("a file that was listed");
            let name = path.file_name().expect("a name").as_bytes().to_vec();
            let attributes = attributes_of(&path, &metadata);
            let identity = (metadata.dev(), metadata.ino());
            if let Some(node) = known.get(&identity) {
                tree.hard_link(parent, &name, *node).expect("a further name");
                continue;
            }
            let special = |tree: &mut Tree<'static>, special| {
                tree.special(parent, &name, attributes.clone(), special).expect("a node")
            };
            let device = metadata.rdev() as u32;
            let node = match metadata.mode() & 0o170000 {
                0o040000 => {
                    let node = tree.directory(parent, &name, attributes).expect("a directory");
                    waiting.push((node, path));
                    node
                }
                0o120000 => {
                    let target = fs::read_link(&path).expect("a link");
                    let target = target.as_os_str().as_bytes();
                    tree.link(parent, &name, attributes, target).expect("a link")
                }
                0o020000 => special(&mut tree, Special::Character(device)),
                0o060000 => special(&mut tree, Special::Block(device)),
                0o010000 => special(&mut tree, Special::Fifo),
                0o140000 => special(&mut tree, Special::Socket),
                _ => {
                    let open = Box::new(move || Ok(Box::new(File::open(path)?) as _));
                    tree.file(parent, &name, attributes, metadata.len(), open).expect("a file")
                }
            };
            known.insert(identity, node);
        }
    }
    tree
}

/// Requires that two views are the same, and names the first path where they are not.
pub fn same(one: &View, other: &View) {
    for path in one.keys().chain(other.keys()) {
        assert_eq!(one.get(path), other.get(path), "{}", String::from_utf8_lossy(path));
    }
}

/// A view with another time for everything.
pub fn at_time(view: &View, modified: Time) -> View {
    view.iter().map(|(path, seen)| (path.clone(), Seen { modified, ..seen.clone() })).collect()
}
