//! The loader's parsers: ELF headers and the first line of a script.

use libos::loader::{elf, script};

/// Where applications end; no header may reach beyond.
const END: u64 = 1 << 47;

/// Segments are ordered, below the end and inside the file, so that the loader may add without care.
pub fn headers(bytes: &[u8]) {
    let file_length = bytes.len() as u64;
    let head = &bytes[..bytes.len().min(elf::HEAD)];
    let Ok(headers) = elf::parse(head, file_length) else { return };
    assert!(!headers.segments.is_empty());
    assert!(headers.alignment.is_power_of_two() && headers.alignment >= machine::PAGE);
    let mut end = 0;
    for segment in &headers.segments {
        assert!(segment.address >= end && segment.memory_length > 0);
        assert!(segment.file_length <= segment.memory_length);
        assert!(segment.file_offset + segment.file_length <= file_length);
        assert_eq!(segment.address % machine::PAGE, segment.file_offset % machine::PAGE);
        end = segment.address + segment.memory_length;
    }
    assert!(end <= END);
    assert!(headers.interpreter.is_none_or(|(_, length)| (2..=4096).contains(&length)));
}

/// An ELF file with these program headers: kind, flags, offset, address, length in file and memory.
fn file(kind: u16, headers: &[[u64; 6]]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &kind.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(24, &0x40_1000_u64.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &(headers.len() as u16).to_le_bytes());
    for [kind, flags, offset, address, in_file, in_memory] in headers {
        bytes.extend_from_slice(&(*kind as u32).to_le_bytes());
        bytes.extend_from_slice(&(*flags as u32).to_le_bytes());
        for value in [offset, address, address, in_file, in_memory, &0x1000] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    bytes.resize(0x2000, 0);
    bytes
}

pub fn files() -> Vec<Vec<u8>> {
    let text = [1, 5, 0, 0x40_0000, 0x1000, 0x1000];
    let data = [1, 6, 0x1000, 0x40_2000, 0x800, 0x4000];
    let interpreter = [3, 4, 0x300, 0x300, 28, 28];
    let table = [6, 4, 64, 64, 56, 56];
    let stack = [0x6474_e551, 6, 0, 0, 0, 0];
    let moved = |[kind, flags, offset, address, file, memory]: [u64; 6]| {
        [kind, flags, offset, address - 0x40_0000, file, memory]
    };
    vec![
        file(2, &[text, data, stack]),
        file(3, &[table, interpreter, moved(text), moved(data), stack]),
        file(3, &[[1, 5, 0, END - 0x1000, 0x1000, 0x1000]]),
        file(2, &[[1, 5, 0, 0x40_0000, 0, 0], data]),
        b"\x7fELF\x01\x01\x01".to_vec(),
    ]
}

/// What a line names is a part of it, is not empty and holds no end of line.
pub fn script(bytes: &[u8]) {
    let Some(line) = script::parse(bytes) else { return };
    for word in [Some(line.interpreter), line.argument].into_iter().flatten() {
        assert!(!word.is_empty() && word.len() <= 254);
        assert!(!word.contains(&b'\n') && !word.contains(&0));
        assert!(bytes.windows(word.len()).any(|window| window == word));
    }
    assert!(!line.interpreter.contains(&b' ') && !line.interpreter.contains(&b'\t'));
}

pub fn lines() -> Vec<Vec<u8>> {
    let long = [b"/bin/sh ".as_slice(), &[b'x'; 300]].concat();
    [&b"/bin/sh\n"[..], b" /usr/bin/env  -S python3 -u \nprint()", b"/bin/sh", b"  \n", &long]
        .map(<[u8]>::to_vec)
        .to_vec()
}
