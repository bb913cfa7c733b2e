//! What the guest finds when it starts: PVH's start information, command line, modules.

use vm_memory::{Bytes, GuestAddress};

use crate::Error;
use crate::memory::{self, Memory};

/// Conventional memory that the kernel leaves alone until it has read it.
const INFORMATION: u64 = 0x1_0000;
const MAP: u64 = INFORMATION + 0x100;
const MODULES: u64 = INFORMATION + 0x800;
const COMMAND_LINE: u64 = INFORMATION + 0x1000;
const COMMAND_LINE_MOST: usize = 0x8000;

const MAGIC: u32 = 0x336e_c578;
const USABLE: u32 = 1;
/// The part of conventional memory that a PC's firmware would leave.
const CONVENTIONAL: u64 = 0x9_f000;
const PAGE: u64 = 4096;

/// Writes everything; the address of the start information.
pub fn write(memory: &Memory, image_end: u64, command_line: &str, module: &[u8]) -> Result<u64, Error> {
    let put =
        |bytes: &[u8], at: u64| memory.write_slice(bytes, GuestAddress(at)).map_err(|_| Error::TooSmall);
    if command_line.len() >= COMMAND_LINE_MOST {
        return Err(Error::TooSmall);
    }
    let module_at = image_end.next_multiple_of(PAGE);
    put(module, module_at)?;
    let mut map = Vec::new();
    for (start, length) in memory::ranges(memory) {
        // From the end of conventional memory to 1 MiB a PC has other things.
        let parts = if start == 0 {
            vec![(0, CONVENTIONAL), (1 << 20, length - (1 << 20))]
        } else {
            vec![(start, length)]
        };
        for (start, length) in parts {
            map.extend_from_slice(&words(&[start, length, u64::from(USABLE)]));
        }
    }
    put(&map, MAP)?;
    put(&words(&[module_at, module.len() as u64, 0, 0]), MODULES)?;
    put(command_line.as_bytes(), COMMAND_LINE)?;
    let modules = u64::from(!module.is_empty());
    let information = words(&[
        u64::from(MAGIC) | 1 << 32,
        modules << 32,
        MODULES,
        COMMAND_LINE,
        0,
        MAP,
        map.len() as u64 / 24,
    ]);
    put(&information, INFORMATION)?;
    Ok(INFORMATION)
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
