//! Guest images: the one built into this program, and what is read from any.

use std::ops::Range;
use std::os::fd::OwnedFd;

use crate::start::sealed_file;

static PICO: &[u8] = include_bytes!(env!("EYOT_PICO_IMAGE"));

/// PT_LOAD and PF_X (elf(5)).
const LOADED: u32 = 1;
const EXECUTABLE: u32 = 1;

/// What a guest's process executes.
#[derive(Clone, Copy)]
pub struct Image(&'static [u8]);

impl Image {
    pub const fn new(content: &'static [u8]) -> Self {
        Self(content)
    }

    pub fn built_in() -> Self {
        Self(PICO)
    }

    /// A sealed memory file that holds the image, ready to be executed.
    pub fn file(self) -> std::io::Result<OwnedFd> {
        sealed_file("eyot-island", self.0, true)
    }

    /// The addresses of the image's code; empty if it has none.
    pub fn code(self) -> Range<u64> {
        executable(self.0).unwrap_or(0..0)
    }
}

/// The executable segment of a 64-bit little-endian ELF file. It has exactly one, by its linker script.
fn executable(image: &[u8]) -> Option<Range<u64>> {
    let table = usize::try_from(word(image, 32)?).ok()?;
    let (size, count) = (usize::from(half(image, 54)?), usize::from(half(image, 56)?));
    (0..count).map(|index| table + index * size).find_map(|header| {
        let kind = word(image, header)? as u32;
        let flags = (word(image, header)? >> 32) as u32;
        let (start, length) = (word(image, header + 16)?, word(image, header + 40)?);
        (kind == LOADED && flags & EXECUTABLE != 0).then_some(start..start.checked_add(length)?)
    })
}

fn word(image: &[u8], at: usize) -> Option<u64> {
    image.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

fn half(image: &[u8], at: usize) -> Option<u16> {
    image.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}
