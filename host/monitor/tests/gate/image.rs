//! Addresses in the guest image: its code, its symbols, its instructions.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions};

use crate::island::IMAGE;

fn word(at: usize) -> u64 {
    u64::from_le_bytes(*IMAGE[at..].first_chunk().expect("inside the image"))
}

fn half(at: usize) -> usize {
    u16::from_le_bytes([IMAGE[at], IMAGE[at + 1]]).into()
}

/// The executable segment, which is the first: addresses, and where it starts in the file.
pub fn code() -> (Range<u64>, usize) {
    let header = word(32) as usize;
    let (offset, start, length) = (word(header + 8), word(header + 16), word(header + 40));
    (start..start + length, offset as usize)
}

/// The address of a symbol.
pub fn symbol(name: &str) -> u64 {
    const SYMBOLS: u64 = 2;
    let (sections, count) = (word(40) as usize, half(60));
    let section = |index: usize| sections + index * 64;
    let table = (0..count).map(section).find(|&at| word(at) >> 32 == SYMBOLS).expect("the image has symbols");
    let names = word(section((word(table + 40) as u32) as usize) + 24) as usize;
    let (start, length) = (word(table + 24) as usize, word(table + 32) as usize);
    (start..start + length)
        .step_by(24)
        .find(|&at| IMAGE[names + (word(at) as u32) as usize..].starts_with(format!("{name}\0").as_bytes()))
        .map(|at| word(at + 8))
        .unwrap_or_else(|| panic!("the image has no symbol {name}"))
}

/// The image's bytes between two addresses of its code.
pub fn bytes(range: Range<u64>) -> &'static [u8] {
    let (code, offset) = code();
    let at = |address: u64| offset + (address - code.start) as usize;
    &IMAGE[at(range.start)..at(range.end)]
}

/// Where instructions start in these bytes.
pub fn instructions(bytes: &[u8], start: u64) -> Vec<u64> {
    Decoder::with_ip(64, bytes, start, DecoderOptions::NONE)
        .iter()
        .map(|instruction| instruction.ip())
        .collect()
}
