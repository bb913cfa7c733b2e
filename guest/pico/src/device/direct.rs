//! Look-ups in granted trees that the process can see itself.
//!
//! Such trees lie in a mount namespace whose root holds nothing else, so what a path could reach beyond
//! its tree was granted too. Only the last component's link is refused here; the guest resolves links
//! itself and names none before the last. Left to the monitor are exceptions, what this process's user is
//! denied, and all that is more than reading.

use alloc::vec;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use abi::file::{Access, At, Attributes, Entry, Owner};
use abi::pico::{Direct, Owners};
use abi::request::{Reply, Request};
use abi::{Code, Handle};
use linux_raw_sys::{errno, general as linux};

use super::close;
use super::kind::{self, Kind};
use crate::host;

const HERE: u64 = linux::AT_FDCWD as u64;
const OPEN: u32 =
    linux::O_RDONLY | linux::O_NOFOLLOW | linux::O_CLOEXEC | linux::O_NONBLOCK | linux::O_NOCTTY;
/// Linux's PATH_MAX.
const PATH_MAX: usize = 4096;
/// Room for the tree's prefix, too.
const PATH: usize = PATH_MAX + 256;

/// The overflow owner, which a user namespace shows for owners it does not map.
const NOBODY: u32 = 65534;

/// The parts of trees, deeper ones first.
pub struct Trees(Vec<Direct>);

/// A path ended by NUL, on the stack: too long to be zeroed or moved at every look-up.
struct Path<'a>(&'a [u8]);

impl Trees {
    pub fn new(mut parts: Vec<Direct>) -> Self {
        parts.sort_by_key(|direct| core::cmp::Reverse(direct.part.len()));
        Self(parts)
    }

    /// The answer, if the host may be asked.
    pub fn answer(&self, request: &Request<'_>) -> Option<Result<Reply, Code>> {
        match *request {
            Request::HandleAttributes { handle } if handle.descriptor() != u32::MAX && !self.0.is_empty() => {
                // Whose files the monitor has opened, it alone knows, unless all trees show it.
                let owners = match kind::tree(handle.descriptor()) {
                    Some(number) => self.0.get(number)?.owners,
                    None if self.0.iter().all(|direct| direct.owners == Owners::Same) => Owners::Same,
                    None => return None,
                };
                Some(of_file(handle.descriptor(), owners).map(Reply::Attributes))
            }
            Request::Attributes { at } => self.at(at, attributes),
            Request::Open { at, access: Access::Read } => self.at(at, open),
            Request::List { at, .. } => self.at(at, list),
            Request::ReadLink { at } => self.at(at, read_link),
            _ => None,
        }
    }

    fn at(
        &self,
        at: At<'_>,
        act: fn(&Path<'_>, Within<'_>) -> Option<Result<Reply, Code>>,
    ) -> Option<Result<Reply, Code>> {
        let mut parts = self.0.iter().enumerate().filter(|(_, direct)| direct.tree == at.tree);
        let (number, direct, rest) =
            parts.find_map(|(number, direct)| Some((number, direct, below(&direct.part, at.path)?)))?;
        if direct.except.iter().any(|except| below(except, rest).is_some()) {
            return None;
        }
        let mut buffer = [MaybeUninit::uninit(); PATH];
        match Path::new(&mut buffer, &direct.path, rest) {
            // The caller may have rights that this process has not.
            Ok(path) => act(&path, Within { number, direct }).filter(|answer| !is_denied(answer)),
            Err(code) => Some(Err(code)),
        }
    }
}

/// The part of a tree that a path lies in.
struct Within<'a> {
    number: usize,
    direct: &'a Direct,
}

fn is_denied(answer: &Result<Reply, Code>) -> bool {
    matches!(answer, Err(Code(code)) if u32::from(*code) == errno::EACCES)
}

/// What is left of a path below another one, if it is there.
fn below<'a>(above: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if above.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(above)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

impl<'a> Path<'a> {
    fn new(buffer: &'a mut [MaybeUninit<u8>; PATH], prefix: &[u8], rest: &[u8]) -> Result<Self, Code> {
        let prefix = prefix.strip_suffix(b"/").unwrap_or(prefix);
        let length = prefix.len() + rest.len() + 2;
        let buffer = buffer.get_mut(..length).ok_or(Code(errno::ENAMETOOLONG as u16))?;
        let (head, tail) = buffer.split_at_mut(prefix.len());
        head.write_copy_of_slice(prefix);
        tail[0].write(b'/');
        tail[1..=rest.len()].write_copy_of_slice(rest);
        tail[rest.len() + 1].write(0);
        // SAFETY: each of its bytes has been written: the prefix, a slash, the rest, the NUL.
        Ok(Self(unsafe { buffer.assume_init_ref() }))
    }

    fn pointer(&self) -> u64 {
        self.0.as_ptr() as u64
    }
}

fn attributes(path: &Path<'_>, within: Within<'_>) -> Option<Result<Reply, Code>> {
    let found = stat(HERE, path.pointer(), linux::AT_SYMLINK_NOFOLLOW, within.direct.owners);
    Some(found.map(Reply::Attributes))
}

fn of_file(file: u32, owners: Owners) -> Result<Attributes, Code> {
    stat(file as u64, c"".as_ptr() as u64, linux::AT_EMPTY_PATH, owners)
}

/// `path` is a NUL-terminated string's address.
fn stat(directory: u64, path: u64, flags: u32, owners: Owners) -> Result<Attributes, Code> {
    let mut found = MaybeUninit::<linux::stat>::zeroed();
    let arguments = [directory, path, found.as_mut_ptr() as u64, flags as u64];
    // SAFETY: the kernel reads the string and writes the local.
    unsafe { host::call(linux::__NR_newfstatat, arguments) }?;
    // SAFETY: plain integers, zeroed and then written.
    let found = unsafe { found.assume_init() };
    let time = |seconds: u64, ns: u64| (seconds as i64).wrapping_mul(1_000_000_000).wrapping_add(ns as i64);
    let owner = shown(owners, Owner { user: found.st_uid, group: found.st_gid });
    Ok(Attributes {
        device: found.st_dev,
        inode: found.st_ino,
        mode: found.st_mode,
        links: found.st_nlink as u32,
        user: owner.user,
        group: owner.group,
        special: found.st_rdev,
        size: found.st_size as u64,
        block_size: found.st_blksize as u32,
        blocks: found.st_blocks as u64,
        accessed_ns: time(found.st_atime, found.st_atime_nsec),
        modified_ns: time(found.st_mtime, found.st_mtime_nsec),
        changed_ns: time(found.st_ctime, found.st_ctime_nsec),
    })
}

/// An owner as the island knows them.
fn shown(owners: Owners, seen: Owner) -> Owner {
    let root_if_hidden = |number: u32| if number == NOBODY { 0 } else { number };
    match owners {
        Owners::Same => seen,
        Owners::HiddenAreRoot => Owner { user: root_if_hidden(seen.user), group: root_if_hidden(seen.group) },
        Owners::Kept { outside, inside } => Owner {
            user: if seen.user == outside.user { inside.user } else { NOBODY },
            group: if seen.group == outside.group { inside.group } else { NOBODY },
        },
    }
}

fn open_as(path: &Path<'_>, flags: u32) -> Result<u32, Code> {
    // SAFETY: the kernel reads the string.
    unsafe { host::call(linux::__NR_openat, [HERE, path.pointer(), flags as u64, 0]) }.map(|file| file as u32)
}

fn open(path: &Path<'_>, within: Within<'_>) -> Option<Result<Reply, Code>> {
    let file = match open_as(path, OPEN) {
        Ok(file) => file,
        Err(code) => return Some(Err(code)),
    };
    let answer = match of_file(file, within.direct.owners) {
        Ok(attributes) if matches!(attributes.mode & linux::S_IFMT, linux::S_IFREG | linux::S_IFDIR) => {
            kind::note(file, Kind::Tree(within.number)).then_some(Ok(Reply::Opened {
                handle: Handle::new(file, 0),
                attributes,
                made: false,
            }))
        }
        Ok(_) => Some(Err(Code(errno::ENXIO as u16))),
        Err(code) => Some(Err(code)),
    };
    if !matches!(answer, Some(Ok(_))) {
        close(file);
    }
    answer
}

fn read_link(path: &Path<'_>, _within: Within<'_>) -> Option<Result<Reply, Code>> {
    Some(link_target(path))
}

fn link_target(path: &Path<'_>) -> Result<Reply, Code> {
    let mut target = [const { MaybeUninit::<u8>::uninit() }; PATH_MAX];
    let arguments = [HERE, path.pointer(), target.as_mut_ptr() as u64, target.len() as u64];
    // SAFETY: the kernel reads the string and writes the buffer, as far as it answers.
    let target = unsafe {
        let length = host::call(linux::__NR_readlinkat, arguments)?;
        target[..length as usize].assume_init_ref()
    };
    Ok(Reply::Bytes(target.into()))
}

fn list(path: &Path<'_>, _within: Within<'_>) -> Option<Result<Reply, Code>> {
    Some(entries(path))
}

/// All entries at once: the guest may not seek in a directory.
fn entries(path: &Path<'_>) -> Result<Reply, Code> {
    let file = open_as(path, OPEN | linux::O_DIRECTORY)?;
    let mut entries = Vec::new();
    let mut page = vec![0u8; 16 * 1024];
    let outcome = loop {
        let arguments = [file as u64, page.as_mut_ptr() as u64, page.len() as u64];
        // SAFETY: the kernel writes the buffer.
        match unsafe { host::call(linux::__NR_getdents64, arguments) } {
            Ok(0) => break Ok(Reply::Entries { entries, next: None }),
            Ok(length) => parse(&page[..length as usize], &mut entries),
            Err(code) => break Err(code),
        }
    };
    close(file);
    outcome
}

/// `struct linux_dirent64`: inode, cookie, record length, type, name.
fn parse(mut page: &[u8], entries: &mut Vec<Entry>) {
    while let Some((&head, _)) = page.split_first_chunk::<19>() {
        let inode = u64::from_le_bytes(head[..8].try_into().expect("invariant: eight bytes"));
        let length = u16::from_le_bytes([head[16], head[17]]) as usize;
        let Some((record, rest)) = page.split_at_checked(length.max(19)) else { return };
        page = rest;
        let name = record[19..].split(|&byte| byte == 0).next().unwrap_or_default();
        if name != b"." && name != b".." {
            entries.push(Entry { name: name.into(), inode, kind: head[18] });
        }
    }
}
