//! Which memory a dump keeps, and the headers that say where it is (elf(5)).

use alloc::vec::Vec;

use machine::{PAGE, Protection, UserRange};

use crate::memory::{Content, Mapping};
use crate::process::Process;

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// A mapping, and how many bytes of it are kept.
pub struct Segment {
    pub range: UserRange,
    pub kept: u64,
    protection: Protection,
}

/// The mappings of a process.
pub fn all(process: &Process) -> Vec<Segment> {
    let memory = process.memory();
    let map = memory.lock();
    let mappings: Vec<(UserRange, &Mapping)> = map.mappings.iter().collect();
    let segment = |(number, (range, mapping)): (usize, &(UserRange, &Mapping))| Segment {
        range: *range,
        kept: kept(*range, mapping, mappings.get(number + 1)),
        protection: mapping.protection,
    };
    mappings.iter().enumerate().map(segment).collect()
}

/// What can be had again is not kept, but for the page that says which file it is (coredump_filter, core(5)).
fn kept(range: UserRange, mapping: &Mapping, next: Option<&(UserRange, &Mapping)>) -> u64 {
    let Mapping { protection, shared, content, .. } = mapping;
    let is_written = protection.contains(Protection::WRITE)
        || next.is_some_and(|(later, next)| {
            // What is only read after relocation (PT_GNU_RELRO) lies before what is written, in one piece of the file.
            later.address == range.end()
                && next.protection.contains(Protection::WRITE)
                && is_continued(content, &next.content, range.length)
        });
    match content {
        _ if !protection.contains(Protection::READ) => 0,
        Content::File { .. } if !shared && is_written => range.length,
        Content::File { offset: 0, .. } if !shared => PAGE,
        Content::File { .. } => 0,
        Content::Anonymous | Content::Heap | Content::Stack | Content::Code => range.length,
    }
}

/// Whether a file's part of this length is followed by the next part of the same file.
fn is_continued(content: &Content, next: &Content, length: u64) -> bool {
    match (content, next) {
        (
            Content::File { inode, device, offset, .. },
            Content::File { inode: other, device: place, offset: at, .. },
        ) => (inode, device, offset + length) == (other, place, *at),
        _ => false,
    }
}

/// The headers, padded so that notes of this length that follow end with a page; and where the first segment begins.
pub fn head(notes: u64, segments: &[Segment]) -> (Vec<u8>, u64) {
    // Numbers beyond what the header has room for are in the first section's header; a process has fewer mappings.
    let count = (segments.len() + 1).min(usize::from(u16::MAX) - 1);
    let length = (HEADER + count * PROGRAM_HEADER) as u64;
    let first = (length + notes).next_multiple_of(PAGE);
    let mut bytes = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    let words = |bytes: &mut Vec<u8>, words: &[u64]| {
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    };
    // ET_CORE, EM_X86_64, EV_CURRENT
    [4_u16, 62, 1, 0].iter().for_each(|half| bytes.extend_from_slice(&half.to_le_bytes()));
    words(&mut bytes, &[0, HEADER as u64, 0]);
    bytes.extend_from_slice(&[0; 4]);
    let sizes = [HEADER as u16, PROGRAM_HEADER as u16, count as u16, 0, 0, 0];
    sizes.iter().for_each(|half| bytes.extend_from_slice(&half.to_le_bytes()));
    let mut program_header = |kind: u32, flags: u32, rest: [u64; 6]| {
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        words(&mut bytes, &rest);
    };
    // Offset, address, physical address, bytes here, bytes in memory, alignment.
    program_header(NOTE, 0, [length, 0, 0, notes, 0, 4]);
    let mut at = first;
    for Segment { range, kept, protection } in &segments[..count - 1] {
        let flag = |right, flag: u32| if protection.contains(right) { flag } else { 0 };
        let flags = flag(Protection::READ, 4) | flag(Protection::WRITE, 2) | flag(Protection::EXECUTE, 1);
        program_header(LOAD, flags, [at, range.address, 0, *kept, range.length, PAGE]);
        at += kept;
    }
    (bytes, first)
}
