//! Addresses in the guest image: its code, the gate, instructions.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions};

use crate::island::IMAGE;

fn word(at: usize) -> u64 {
    u64::from_le_bytes(*IMAGE[at..].first_chunk().expect("inside the image"))
}

/// The executable segment, which is the first: addresses, and where it starts in the file.
pub fn code() -> (Range<u64>, usize) {
    let header = word(32) as usize;
    let (offset, start, length) = (word(header + 8), word(header + 16), word(header + 40));
    (start..start + length, offset as usize)
}

/// The ways out of the library OS and into it: the addresses of their code.
pub fn ways() -> [Range<u64>; 2] {
    const MARK: &[u8] = b"EYOTGATE";
    let places = IMAGE.windows(MARK.len()).position(|window| window == MARK).expect("the image has a mark");
    let place = |index: usize| word(places + index * 8);
    [place(1)..place(2), place(3)..place(4)]
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
