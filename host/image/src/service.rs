//! Joining the kernel with a service: one file that boots.
//!
//! The service is one more segment of the kernel's ELF file, loaded behind it; the kernel finds it by two
//! words in its first page (`abi::vm::SERVICE_MARK`).

use std::io::Write;

use abi::vm::{SERVICE_HEADER, SERVICE_MARK, Start};
use erofs::write::Tree;

use crate::{Error, Files};

const PAGE: usize = 4096;
/// Offsets in a 64-bit ELF file's header, and bytes of a program header (elf(5)).
const HEADERS_AT: usize = 32;
const COUNT_AT: usize = 56;
const HEADER: usize = 56;
/// The kernel's program headers and one more end before this.
const HEADERS_END: usize = 0x1000;
const LOAD: u32 = 1;
const READABLE: u32 = 4;

/// Kernel and service, before they are written: files are read when they are.
pub struct Joined<'a> {
    /// All before the files.
    head: Vec<u8>,
    tree: Tree<'a>,
    length: u64,
}

/// Joins a kernel with a service.
pub fn join<'a>(kernel: &[u8], start: &Start, files: &'a Files) -> Result<Joined<'a>, Error> {
    let tree = files.tree()?;
    let start = abi::message::encode(start).map_err(|_| Error::Start)?;
    let mut begin = (start.len() as u64).to_le_bytes().to_vec();
    begin.extend_from_slice(&start);
    begin.resize((SERVICE_HEADER + start.len()).next_multiple_of(PAGE), 0);
    let service = begin.len() as u64 + tree.length()?;
    let mut head = announce(kernel, service).ok_or(Error::NoKernel)?;
    let length = head.len() as u64 + service;
    head.extend_from_slice(&begin);
    Ok(Joined { head, tree, length })
}

impl Joined<'_> {
    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes the file.
    pub fn write(self, to: &mut dyn Write) -> Result<(), Error> {
        to.write_all(&self.head).map_err(Error::Write)?;
        self.tree.write(to)?;
        Ok(())
    }
}

fn number(file: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = file.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// The kernel, up to where one more segment of this length is to follow.
fn announce(kernel: &[u8], length: u64) -> Option<Vec<u8>> {
    let table = number(kernel, HEADERS_AT, 8)? as usize;
    let count = number(kernel, COUNT_AT, 2)? as usize;
    // The kernel ends in memory where its last segment does.
    let ends = (0..count).filter_map(|index| {
        let header = table + index * HEADER;
        let load = number(kernel, header, 4)? == u64::from(LOAD);
        load.then(|| Some(number(kernel, header + 24, 8)? + number(kernel, header + 40, 8)?))?
    });
    let address = ends.max()?.next_multiple_of(PAGE as u64);
    let new = table + count * HEADER;
    if new + HEADER > HEADERS_END {
        return None;
    }
    let mut file = kernel.to_vec();
    file.resize(file.len().next_multiple_of(PAGE), 0);
    let offset = file.len() as u64;
    let words =
        [u64::from(LOAD) | u64::from(READABLE) << 32, offset, address, address, length, length, PAGE as u64];
    for (index, word) in words.iter().enumerate() {
        file[new + index * 8..][..8].copy_from_slice(&word.to_le_bytes());
    }
    file[COUNT_AT..][..2].copy_from_slice(&(count as u16 + 1).to_le_bytes());
    let mark = kernel.windows(SERVICE_MARK.len()).position(|bytes| bytes == SERVICE_MARK)?;
    file[mark + 8..][..8].copy_from_slice(&address.to_le_bytes());
    file[mark + 16..][..8].copy_from_slice(&length.to_le_bytes());
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_not_joined() {
        assert!(announce(b"", 1).is_none());
        assert!(announce(&[0; 4096], 1).is_none());
    }
}
