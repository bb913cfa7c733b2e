//! Our own vDSO: a small shared object that programs find through AT_SYSINFO_EHDR (vdso(7)).
//!
//! The host's cannot be handed on: its fall-backs hold system calls of their own, and its pages refuse
//! mprotect. Each function here reads the time-stamp counter where applications may (`counter`), else it is
//! one stub, which jumps to the host's code where the machine knows it and makes the system call otherwise.
//! The image is one read-only executable segment that needs no relocation. It has a classic hash table and
//! version LINUX_2.6, which glibc, musl and Go all accept; there are no section headers and no unwind tables.

use alloc::vec;
use alloc::vec::Vec;

use super::counter;
use crate::HostClock;

const SONAME: &[u8] = b"linux-vdso.so.1";
const VERSION: &[u8] = b"LINUX_2.6";
const PREFIX: &[u8] = b"__vdso_";

/// Bytes of the ELF header and of one entry of each table.
const HEADER: usize = 64;
const SEGMENT: usize = 56;
const SYMBOL: usize = 24;
const STUB: usize = 16;

/// The functions: name without prefix, and code.
fn functions(clock: &HostClock) -> [(&'static [u8], Vec<u8>); 5] {
    let made = |make: fn(&crate::Counter) -> Vec<u8>, number: u32, host: u64| match &clock.counter {
        Some(counter) => make(counter),
        None => stub(number, host).to_vec(),
    };
    [
        (b"clock_gettime", made(counter::clock_gettime, 228, clock.clock_gettime)),
        (b"gettimeofday", made(counter::gettimeofday, 96, clock.gettimeofday)),
        (b"time", made(counter::time, 201, clock.time)),
        (b"clock_getres", stub(229, clock.clock_getres).to_vec()),
        // The host's would tell a number of the host's.
        (b"getcpu", stub(309, 0).to_vec()),
    ]
}

/// `movabs $host,%rax; jmp *%rax`, or `mov $number,%eax; syscall; ret`; filled up with `int3`.
fn stub(number: u32, host: u64) -> [u8; STUB] {
    let mut code = [0xcc; STUB];
    if host != 0 {
        code[..2].copy_from_slice(&[0x48, 0xb8]);
        code[2..10].copy_from_slice(&host.to_le_bytes());
        code[10..12].copy_from_slice(&[0xff, 0xe0]);
    } else {
        code[0] = 0xb8;
        code[1..5].copy_from_slice(&number.to_le_bytes());
        code[5..8].copy_from_slice(&[0x0f, 0x05, 0xc3]);
    }
    code
}

/// The hash of the System V ABI.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0, |hash: u32, byte| {
        let sum = (hash << 4).wrapping_add(u32::from(*byte));
        let high = sum & 0xf000_0000;
        (sum ^ high >> 24) & !high
    })
}

/// The string table under construction; equal strings are not shared, there are too few.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, parts: &[&[u8]]) -> u32 {
        let at = self.0.len() as u32;
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
        self.0.push(0);
        at
    }
}

/// The image under construction: sections one after the other, each aligned to 8.
#[derive(Default)]
struct Image(Vec<u8>);

impl Image {
    fn add(&mut self, section: &[u8]) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let at = self.0.len() as u64;
        self.0.extend_from_slice(section);
        at
    }
}

fn words16(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn words64(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// One `Elf64_Sym`: a function in section 1 (any but "undefined").
fn symbol(name: u32, weak: bool, address: u64, length: u64) -> [u8; SYMBOL] {
    let mut bytes = [0; SYMBOL];
    bytes[..4].copy_from_slice(&name.to_le_bytes());
    bytes[4] = if weak { 0x22 } else { 0x12 };
    bytes[6] = 1;
    bytes[8..16].copy_from_slice(&address.to_le_bytes());
    bytes[16..].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// One bucket for every name, so each chain is followed from the first to the last.
fn hash_table(hashes: &[u32]) -> Vec<u8> {
    let count = hashes.len() as u32 + 1;
    let buckets = 4_u32;
    let mut heads = vec![0; buckets as usize];
    let mut chains = vec![0; count as usize];
    for (index, hash) in hashes.iter().enumerate() {
        let head: &mut u32 = &mut heads[(hash % buckets) as usize];
        chains[index + 1] = *head;
        *head = index as u32 + 1;
    }
    let mut words = vec![buckets, count];
    words.extend(heads);
    words.extend(chains);
    words32(&words)
}

/// Two `Elf64_Verdef` with one `Elf64_Verdaux` each: the object itself, and its only version.
fn version_definitions(soname: u32, version: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, (flags, name, string)) in [(1, SONAME, soname), (0, VERSION, version)].into_iter().enumerate()
    {
        bytes.extend(words16(&[1, flags, index as u16 + 1, 1]));
        bytes.extend(words32(&[hash(name), 20, if index == 0 { 28 } else { 0 }]));
        bytes.extend(words32(&[string, 0]));
    }
    bytes
}

/// Builds the image; it may be mapped at any page.
pub fn build(clock: &HostClock) -> Vec<u8> {
    let mut image = Image(vec![0; HEADER + 2 * SEGMENT]);
    let mut strings = Strings(vec![0]);
    let soname = strings.add(&[SONAME]);
    let version = strings.add(&[VERSION]);
    let mut symbols = vec![0; SYMBOL];
    let mut hashes = Vec::new();
    let mut versions = vec![0_u16];
    for (name, code) in functions(clock) {
        let address = image.add(&code);
        for prefix in [PREFIX, b""] {
            hashes.push(hash(&[prefix, name].concat()));
            let name = strings.add(&[prefix, name]);
            symbols.extend(symbol(name, prefix.is_empty(), address, code.len() as u64));
            versions.push(2);
        }
    }
    let symbols_at = image.add(&symbols);
    let strings_at = image.add(&strings.0);
    let hash_at = image.add(&hash_table(&hashes));
    let versions_at = image.add(&words16(&versions));
    let definitions_at = image.add(&version_definitions(soname, version));
    let dynamic = [
        (14, u64::from(soname)),       // DT_SONAME
        (4, hash_at),                  // DT_HASH
        (5, strings_at),               // DT_STRTAB
        (6, symbols_at),               // DT_SYMTAB
        (10, strings.0.len() as u64),  // DT_STRSZ
        (11, SYMBOL as u64),           // DT_SYMENT
        (0x6fff_fff0, versions_at),    // DT_VERSYM
        (0x6fff_fffc, definitions_at), // DT_VERDEF
        (0x6fff_fffd, 2),              // DT_VERDEFNUM
        (0, 0),                        // DT_NULL
    ];
    let dynamic = words64(dynamic.map(|(tag, value)| [tag, value]).as_flattened());
    let dynamic_at = image.add(&dynamic);
    let mut image = image.0;
    let length = image.len() as u64;
    image[..HEADER].copy_from_slice(&file_header());
    let load = segment(1, 5, 0, length, 4096);
    let dynamic = segment(2, 4, dynamic_at, dynamic.len() as u64, 8);
    image[HEADER..HEADER + SEGMENT].copy_from_slice(&load);
    image[HEADER + SEGMENT..HEADER + 2 * SEGMENT].copy_from_slice(&dynamic);
    image
}

/// The ELF header: a 64-bit little-endian shared object for x86-64 with two segments.
fn file_header() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(words16(&[3, 62]));
    bytes.extend(words32(&[1]));
    bytes.extend(words64(&[0, HEADER as u64, 0]));
    bytes.extend(words32(&[0]));
    bytes.extend(words16(&[HEADER as u16, SEGMENT as u16, 2, 64, 0, 0]));
    bytes
}

/// One program header; file offset and address are the same.
fn segment(kind: u32, flags: u32, at: u64, length: u64, alignment: u64) -> Vec<u8> {
    let mut bytes = words32(&[kind, flags]);
    bytes.extend(words64(&[at, at, at, length, length, alignment]));
    bytes
}

#[cfg(test)]
#[path = "vdso_tests.rs"]
mod tests;
