//! The tree of a service that was joined with the kernel: an EROFS image in memory.
//!
//! Pages of its files are mapped where they lie. The image came with the kernel, so it is as trusted; it is
//! read-only, so every request that changes something is refused.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use abi::Code;
use abi::boot::Tree;
use abi::file::{Access, At, Attributes, Entry, Statistics};
use abi::request::{Reply, Request};
use erofs::{Error, Image, Inode};
use machine::PAGE;
use spin::{Mutex, Once};

use super::memory::Memory;
use super::table::{self, Granted};
use crate::code::{EINVAL, ENODATA, ENOENT, ENOTDIR, ENXIO, EOPNOTSUPP, EROFS, EUCLEAN};
use crate::memory::frame::Page;
use crate::memory::map::physical;
use crate::memory::object::{Absent, Content, Object};

/// The number of the file system's kind (statfs(2)).
const KIND: u64 = 0xe0f5_e1e2;
/// Entries of one answer.
const ENTRIES: usize = 512;

type Files = Image<&'static [u8]>;

static FILES: Once<Files> = Once::new();
/// Objects of files that were opened, by inode number.
static OBJECTS: Mutex<BTreeMap<u64, Arc<Object>>> = Mutex::new(BTreeMap::new());

/// Takes the image over.
pub fn begin(bytes: &'static [u8]) -> Result<(), Error> {
    let image = Image::open(bytes)?;
    FILES.call_once(|| image);
    Ok(())
}

/// The pages of a file, where they lie.
struct Pages(Inode);

impl Content for Pages {
    fn pages(&self, first: u64, count: usize) -> Result<Vec<Page>, Absent> {
        let files = FILES.get().ok_or(Absent::Beyond)?;
        (first..first + count as u64).map(|index| page(files, &self.0, index)).collect()
    }
}

fn page(files: &Files, inode: &Inode, index: u64) -> Result<Page, Absent> {
    match files.page(inode, index).map_err(|_| Absent::Failed(EUCLEAN))? {
        erofs::Page::At(offset) => {
            let address = physical(files.source().as_ptr() as u64 + offset);
            // SAFETY: the image's memory is never given back.
            Ok(unsafe { Page::from_address(address) })
        }
        erofs::Page::Hole => Page::zeroed().ok_or(Absent::NoMemory),
        erofs::Page::Packed => {
            let page = Page::zeroed().ok_or(Absent::NoMemory)?;
            // SAFETY: the page is new, and nobody else's.
            let bytes = unsafe { core::slice::from_raw_parts_mut(page.bytes(), PAGE as usize) };
            files.read(inode, index * PAGE, bytes).map_err(|_| Absent::Failed(EUCLEAN))?;
            Ok(page)
        }
        erofs::Page::Beyond => Err(Absent::Beyond),
    }
}

/// The answer to a request about the tree.
pub fn answer(request: &Request<'_>) -> Option<Result<Reply, Code>> {
    let files = FILES.get()?;
    Some(match *request {
        Request::Attributes { at } => inode(files, at).map(|inode| Reply::Attributes(attributes(&inode))),
        Request::Open { at, access } => open(files, at, access),
        Request::List { at, cookie } => list(files, at, cookie),
        Request::ReadLink { at } => inode(files, at).and_then(|inode| {
            files.target(&inode).map(Reply::Bytes).map_err(|error| match error {
                Error::NotLink => EINVAL,
                _ => EUCLEAN,
            })
        }),
        Request::Statistics { at } => inode(files, at).map(|_| Reply::Statistics(statistics(files))),
        Request::GetExtended { at, name } => inode(files, at).and_then(|inode| {
            let value = files.extended(&inode, name).map_err(|_| EUCLEAN)?;
            value.map(Reply::Bytes).ok_or(ENODATA)
        }),
        Request::ListExtended { at } => inode(files, at).and_then(|inode| {
            let names = files.extended_names(&inode).map_err(|_| EUCLEAN)?;
            let ended = names.into_iter().map(|name| [name, vec![0]].concat());
            Ok(Reply::Bytes(ended.flatten().collect()))
        }),
        Request::Create { .. }
        | Request::MakeDirectory { .. }
        | Request::MakeLink { .. }
        | Request::HardLink { .. }
        | Request::Rename { .. }
        | Request::Remove { .. }
        | Request::Change { .. }
        | Request::SetExtended { .. }
        | Request::RemoveExtended { .. } => Err(EROFS),
        _ => Err(EOPNOTSUPP),
    })
}

/// Finds a file; its path has no links but at the end.
fn inode(files: &Files, at: At<'_>) -> Result<Inode, Code> {
    if at.tree != Tree(0) {
        return Err(ENOENT);
    }
    let mut inode = files.root().map_err(|_| EUCLEAN)?;
    for name in at.path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let found = files.look_up(&inode, name).map_err(|error| match error {
            Error::NotDirectory => ENOTDIR,
            _ => EUCLEAN,
        })?;
        inode = files.inode(found.ok_or(ENOENT)?.number).map_err(|_| EUCLEAN)?;
    }
    Ok(inode)
}

fn attributes(inode: &Inode) -> Attributes {
    let time_ns = inode.modified.total_ns();
    Attributes {
        device: 1,
        inode: inode.number,
        mode: u32::from(inode.kind.mode()) | u32::from(inode.mode & 0o7777),
        links: inode.links,
        user: inode.user,
        group: inode.group,
        special: inode.device.into(),
        size: inode.size,
        block_size: PAGE as u32,
        blocks: inode.size.div_ceil(512),
        accessed_ns: time_ns,
        modified_ns: time_ns,
        changed_ns: time_ns,
    }
}

fn open(files: &Files, at: At<'_>, access: Access) -> Result<Reply, Code> {
    let inode = inode(files, at)?;
    let attributes = attributes(&inode);
    if access.writes() {
        return Err(EROFS);
    }
    match inode.kind {
        erofs::Kind::Directory => {
            Ok(Reply::Opened { handle: abi::Handle::new(u32::MAX, 0), attributes, made: false })
        }
        erofs::Kind::Regular => {
            let mut objects = OBJECTS.lock();
            let object = objects
                .entry(inode.number)
                .or_insert_with(|| Arc::new(Object::file(inode.size, Box::new(Pages(inode)))));
            let handle = table::keep(Granted::Memory(Arc::new(Memory::of(object.clone(), attributes))));
            Ok(Reply::Opened { handle, attributes, made: false })
        }
        _ => Err(ENXIO),
    }
}

fn list(files: &Files, at: At<'_>, cookie: u64) -> Result<Reply, Code> {
    let inode = inode(files, at)?;
    let (mut entries, mut next) = (Vec::new(), None);
    let visited = files.list(&inode, cookie, |entry| {
        if entries.len() == ENTRIES {
            return ControlFlow::Break(());
        }
        // Types as readdir(3) numbers them are the mode's upper bits.
        let kind = entry.found.kind.map_or(0, |kind| (kind.mode() >> 12) as u8);
        if entry.name != b"." && entry.name != b".." {
            entries.push(Entry { name: entry.name.to_vec(), inode: entry.found.number, kind });
        }
        next = Some(entry.next);
        ControlFlow::Continue(())
    });
    visited.map_err(|error| if error == Error::NotDirectory { ENOTDIR } else { EUCLEAN })?;
    // Only a full answer is continued.
    let next = next.filter(|_| entries.len() == ENTRIES);
    Ok(Reply::Entries { entries, next })
}

fn statistics(files: &Files) -> Statistics {
    let superblock = files.superblock();
    Statistics {
        kind: KIND,
        block_size: PAGE,
        blocks: superblock.blocks.into(),
        files: superblock.inodes,
        name_length: 255,
        ..Statistics::default()
    }
}
