//! Directory listings, a message at a time.

use std::mem::MaybeUninit;

use abi::file::{At, Entry};
use rustix::fs::{OFlags, RawDir, SeekFrom, seek};
use rustix::io::Errno;

use super::{GrantedTree, Relative};

/// Bytes of names and numbers in one answer; well below what a message holds.
const ANSWER: usize = 40 * 1024;
/// What an entry takes beside its name, at most.
const ENTRY: usize = 16;

/// Lists a directory from a cookie on, and says where to go on from.
pub fn list(tree: &GrantedTree, at: At, cookie: u64) -> Result<(Vec<Entry>, Option<u64>), Errno> {
    let path = Relative::check(at.path)?;
    if tree.is_masked(path) {
        return Ok((Vec::new(), None));
    }
    let found = tree.find(path)?;
    tree.check_readable(&found)?;
    let directory = found.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    if cookie != 0 {
        seek(&directory, SeekFrom::Start(cookie)).map_err(|_| Errno::INVAL)?;
    }
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = RawDir::new(&directory, &mut buffer);
    let (mut entries, mut length, mut last) = (Vec::new(), 0, cookie);
    while let Some(entry) = reader.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        length += name.len() + ENTRY;
        if length > ANSWER {
            return Ok((entries, Some(last)));
        }
        last = entry.next_entry_cookie();
        if !matches!(name, b"." | b"..") {
            entries.push(Entry { name: name.to_vec(), inode: entry.ino(), kind: kind(entry.file_type()) });
        }
    }
    Ok((entries, None))
}

/// `d_type` of readdir(3).
fn kind(kind: rustix::fs::FileType) -> u8 {
    use rustix::fs::FileType::*;
    match kind {
        Fifo => 1,
        CharacterDevice => 2,
        Directory => 4,
        BlockDevice => 6,
        RegularFile => 8,
        Symlink => 10,
        Socket => 12,
        Unknown => 0,
    }
}
