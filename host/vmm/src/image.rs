//! The kernel's image: where it goes, and how its first CPU starts.

use abi::vm::{DIRECT_LENGTH, Direct, NOTE};
use elf::ElfBytes;
use elf::abi::{PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;
use vm_memory::{Bytes, GuestAddress};

use crate::Error;
use crate::memory::Memory;

const OWNER: &str = "Eyot";

/// Loads the image; how it starts, and where it ends.
pub fn load(memory: &Memory, image: &[u8]) -> Result<(Direct, u64), Error> {
    let damaged = |_| Error::Image("it is no ELF file");
    let file = ElfBytes::<LittleEndian>::minimal_parse(image).map_err(damaged)?;
    let segments = file.segments().ok_or(Error::Image("it has no segments"))?;
    let (mut direct, mut end) = (None, 0);
    for segment in segments {
        match segment.p_type {
            PT_LOAD => {
                let content = file.segment_data(&segment).map_err(damaged)?;
                memory.write_slice(content, GuestAddress(segment.p_paddr)).map_err(|_| Error::TooSmall)?;
                end = end.max(segment.p_paddr.saturating_add(segment.p_memsz));
            }
            PT_NOTE => {
                for note in file.segment_data_as_notes(&segment).map_err(damaged)? {
                    if let Note::Unknown(note) = note
                        && note.n_type == u64::from(NOTE)
                        && note.name_str().is_ok_and(|name| name == OWNER)
                        && let Ok(words) = <&[u8; DIRECT_LENGTH]>::try_from(note.desc)
                    {
                        direct = Some(Direct::read(words));
                    }
                }
            }
            _ => {}
        }
    }
    Ok((direct.ok_or(Error::Image("it does not say how to start it"))?, end))
}
