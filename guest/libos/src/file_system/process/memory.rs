//! maps, smaps and statm: a process's mappings as text.
//!
//! How much is resident is what the monitor measured for the island when the file was opened; which
//! pages are is known to the machine alone, so what smaps tells of single mappings reads 0 beside sizes.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

use machine::{PAGE, Protection, UserRange};

use crate::memory::{Content, Mapping, rights};
use crate::process::Process;

/// Sums over all mappings, in bytes, and where code starts and the stack ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    pub total: u64,
    pub data: u64,
    pub stack: u64,
    pub code: u64,
    pub locked: u64,
    pub code_start: u64,
    pub stack_end: u64,
}

pub fn sizes(process: &Process) -> Sizes {
    let program = process.program.lock().path.clone();
    let mut sizes = Sizes::default();
    for (range, mapping) in process.memory().lock().mappings.iter() {
        sizes.total += range.length;
        if mapping.locked {
            sizes.locked += range.length;
        }
        match &mapping.content {
            Content::Stack => {
                sizes.stack += range.length;
                sizes.stack_end = range.end();
            }
            Content::File { path, .. }
                if **path == *program && mapping.protection.contains(Protection::EXECUTE) =>
            {
                sizes.code += range.length;
                if sizes.code_start == 0 {
                    sizes.code_start = range.address;
                }
            }
            _ if mapping.protection.contains(Protection::WRITE) && !mapping.shared => {
                sizes.data += range.length
            }
            _ => {}
        }
    }
    sizes
}

/// Pages: size, resident, shared, code, 0, data and stack, 0.
pub fn statm(process: &Arc<Process>, _thread: u32) -> Vec<u8> {
    let sizes = sizes(process);
    let pages = |bytes: u64| bytes / PAGE;
    let data = pages(sizes.data + sizes.stack);
    let resident = pages(process.kernel.memory_use().resident);
    format!("{} {resident} 0 {} 0 {data} 0\n", pages(sizes.total), pages(sizes.code)).into_bytes()
}

/// One line of maps; the name begins in column 73.
fn line(range: UserRange, mapping: &Mapping) -> Vec<u8> {
    let (offset, device, inode) = match &mapping.content {
        Content::File { offset, device, inode, .. } => (*offset, *device, *inode),
        _ => (0, 0, 0),
    };
    let rights = rights(mapping);
    let rights = core::str::from_utf8(&rights).unwrap_or("----");
    // The device number as makedev(3) packs it.
    let major = (device >> 8) & 0xfff | (device >> 32) & !0xfff;
    let minor = device & 0xff | (device >> 12) & !0xff;
    let (start, end) = (range.address, range.end());
    let mut text = format!("{start:08x}-{end:08x} {rights} {offset:08x} {major:02x}:{minor:02x} {inode} ");
    let name: &[u8] = match &mapping.content {
        Content::Anonymous => b"",
        Content::Heap => b"[heap]",
        Content::Stack => b"[stack]",
        Content::Code => b"[vdso]",
        Content::File { path, .. } => path,
    };
    if !name.is_empty() {
        while text.len() < 73 {
            text.push(' ');
        }
    }
    let mut line = text.into_bytes();
    for byte in name {
        match byte {
            b'\n' => line.extend_from_slice(b"\\012"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

pub fn maps(process: &Arc<Process>, _thread: u32) -> Vec<u8> {
    process.memory().lock().mappings.iter().flat_map(|(range, mapping)| line(range, mapping)).collect()
}

/// Fields of smaps between the size and the flags.
#[rustfmt::skip]
const COUNTERS: [&str; 18] = [
    "Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced",
    "Anonymous", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped", "Shared_Hugetlb",
    "Private_Hugetlb", "Swap", "SwapPss", "Locked",
];

fn counters(text: &mut String, locked: u64, resident: u64) {
    for name in COUNTERS {
        let value = match name {
            "Locked" => locked / 1024,
            "Rss" | "Pss" => resident / 1024,
            _ => 0,
        };
        let _ = writeln!(text, "{:<15} {value:>8} kB", format!("{name}:"));
    }
}

pub fn smaps(process: &Arc<Process>, _thread: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (range, mapping) in process.memory().lock().mappings.iter() {
        bytes.extend(line(range, mapping));
        let mut text = String::new();
        let _ = writeln!(text, "{:<15} {:>8} kB", "Size:", range.length / 1024);
        let _ = writeln!(text, "{:<15} {:>8} kB", "KernelPageSize:", PAGE / 1024);
        let _ = writeln!(text, "{:<15} {:>8} kB", "MMUPageSize:", PAGE / 1024);
        counters(&mut text, if mapping.locked { range.length } else { 0 }, 0);
        let _ = writeln!(text, "THPeligible:    0\nVmFlags:{}", flags(mapping));
        bytes.extend(text.into_bytes());
    }
    bytes
}

fn flags(mapping: &Mapping) -> String {
    let mut text = String::new();
    let known = [(Protection::READ, " rd"), (Protection::WRITE, " wr"), (Protection::EXECUTE, " ex")];
    for (right, name) in known {
        if mapping.protection.contains(right) {
            text.push_str(name);
        }
    }
    if mapping.shared {
        text.push_str(" sh");
    }
    text.push_str(" mr mw me");
    if mapping.locked {
        text.push_str(" lo");
    }
    text
}

/// One entry over everything from the lowest to the highest address.
pub fn smaps_rollup(process: &Arc<Process>, _thread: u32) -> Vec<u8> {
    let (start, end) = {
        let memory = process.memory();
        let memory = memory.lock();
        let ranges = memory.mappings.ranges();
        (ranges.first().map_or(0, |range| range.address), ranges.last().map_or(0, |range| range.end()))
    };
    let mut text = format!("{start:08x}-{end:08x} ---p 00000000 00:00 0                          [rollup]\n");
    counters(&mut text, sizes(process).locked, process.kernel.memory_use().resident);
    text.into_bytes()
}
