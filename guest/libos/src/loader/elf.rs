//! ELF executables for x86-64: which segments go where (elf(5), System V ABI).
//!
//! Parses only what a loader needs from the head of a file, and trusts none of it.

use alloc::vec::Vec;

use machine::{PAGE, Protection};

/// Bytes of a file's head that hold all headers we accept.
pub const HEAD: usize = 4096;
/// More program headers than any real program has.
const SEGMENTS_MAX: usize = 64;

/// Why a file cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    NotElf,
    Truncated,
    /// A 32-bit program.
    NotLong,
    /// For another processor.
    OtherMachine,
    /// Neither an executable nor a shared object.
    NotExecutable,
    /// A header contradicts itself.
    Corrupt,
}

/// One loadable segment, in bytes, not aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub address: u64,
    pub memory_length: u64,
    pub file_offset: u64,
    pub file_length: u64,
    pub protection: Protection,
}

/// A program's headers, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Position-independent: may be moved as a whole.
    pub movable: bool,
    pub entry: u64,
    pub segments: Vec<Segment>,
    /// File range of the interpreter's path.
    pub interpreter: Option<(u64, u64)>,
    /// Address of the program headers, and their number.
    pub headers_address: u64,
    pub headers_count: u64,
    pub executable_stack: bool,
    /// The largest alignment any segment asks for.
    pub alignment: u64,
}

fn u16_at(bytes: &[u8], offset: usize) -> Result<u16, Defect> {
    let slice = bytes.get(offset..offset + 2).ok_or(Defect::Truncated)?;
    Ok(u16::from_le_bytes([slice[0], slice[1]]))
}

fn u32_at(bytes: &[u8], offset: usize) -> Result<u32, Defect> {
    let slice = bytes.get(offset..offset + 4).ok_or(Defect::Truncated)?;
    Ok(u32::from_le_bytes([slice[0], slice[1], slice[2], slice[3]]))
}

fn u64_at(bytes: &[u8], offset: usize) -> Result<u64, Defect> {
    Ok(u64::from(u32_at(bytes, offset)?) | u64::from(u32_at(bytes, offset + 4)?) << 32)
}

/// Reads the headers from the head of a file of `file_length` bytes.
pub fn parse(head: &[u8], file_length: u64) -> Result<Headers, Defect> {
    if head.get(..4) != Some(b"\x7fELF") {
        return Err(Defect::NotElf);
    }
    if head.len() < 64 {
        return Err(Defect::Truncated);
    }
    if head[4] != 2 {
        return Err(Defect::NotLong);
    }
    if head[5] != 1 || u16_at(head, 18)? != 62 {
        return Err(Defect::OtherMachine);
    }
    let movable = match u16_at(head, 16)? {
        2 => false,
        3 => true,
        _ => return Err(Defect::NotExecutable),
    };
    let entry = u64_at(head, 24)?;
    let table = u64_at(head, 32)?;
    let count = usize::from(u16_at(head, 56)?);
    if u16_at(head, 54)? != 56 || count == 0 || count > SEGMENTS_MAX {
        return Err(Defect::Corrupt);
    }
    let table_start = usize::try_from(table).map_err(|_| Defect::Corrupt)?;
    if table_start.checked_add(count * 56).is_none_or(|end| end > head.len()) {
        return Err(if table > file_length { Defect::Corrupt } else { Defect::Truncated });
    }
    let mut headers = Headers {
        movable,
        entry,
        segments: Vec::new(),
        interpreter: None,
        headers_address: 0,
        headers_count: count as u64,
        executable_stack: false,
        alignment: PAGE,
    };
    for index in 0..count {
        let at = table_start + index * 56;
        let flags = u32_at(head, at + 4)?;
        let file_offset = u64_at(head, at + 8)?;
        let address = u64_at(head, at + 16)?;
        let file_length_here = u64_at(head, at + 32)?;
        let memory_length = u64_at(head, at + 40)?;
        match u32_at(head, at)? {
            1 => {
                let segment = Segment {
                    address,
                    memory_length,
                    file_offset,
                    file_length: file_length_here,
                    protection: protection(flags),
                };
                check(&segment, headers.segments.last(), file_length)?;
                let alignment = u64_at(head, at + 48)?;
                if alignment.is_power_of_two() && alignment <= 1 << 30 {
                    headers.alignment = headers.alignment.max(alignment);
                }
                if (file_offset..file_offset.saturating_add(file_length_here)).contains(&table) {
                    headers.headers_address = address + (table - file_offset);
                }
                if memory_length != 0 {
                    headers.segments.push(segment);
                }
            }
            3 => {
                if !(2..=4096).contains(&file_length_here) {
                    return Err(Defect::Corrupt);
                }
                headers.interpreter = Some((file_offset, file_length_here));
            }
            6 => headers.headers_address = address,
            0x6474_e551 => headers.executable_stack = flags & 1 != 0,
            _ => {}
        }
    }
    if headers.segments.is_empty() { Err(Defect::Corrupt) } else { Ok(headers) }
}

fn protection(flags: u32) -> Protection {
    let mut protection = Protection::empty();
    protection.set(Protection::READ, flags & 4 != 0);
    protection.set(Protection::WRITE, flags & 2 != 0);
    protection.set(Protection::EXECUTE, flags & 1 != 0);
    protection
}

/// A segment must be congruent to its file offset, ordered, and small enough to add up.
fn check(segment: &Segment, before: Option<&Segment>, file_length: u64) -> Result<(), Defect> {
    let end = segment.address.checked_add(segment.memory_length).ok_or(Defect::Corrupt)?;
    let file_end = segment.file_offset.checked_add(segment.file_length).ok_or(Defect::Corrupt)?;
    if segment.file_length > segment.memory_length
        || end > 1 << 47
        || segment.address % PAGE != segment.file_offset % PAGE
        || before.is_some_and(|before| before.address + before.memory_length > segment.address)
    {
        return Err(Defect::Corrupt);
    }
    if file_end > file_length { Err(Defect::Truncated) } else { Ok(()) }
}
