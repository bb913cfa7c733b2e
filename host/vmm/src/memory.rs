//! The guest's memory: one or two ranges of this process's, taken as they are touched.

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

use crate::Error;

/// Where devices' registers begin, and where memory goes on behind them.
pub const HOLE: u64 = 3 << 30;
const HOLE_END: u64 = 4 << 30;

pub type Memory = GuestMemoryMmap;

/// Memory of this many bytes, a multiple of 2 MiB.
pub fn make(length: u64) -> Result<Memory, Error> {
    let low = length.min(HOLE);
    let mut ranges = vec![(GuestAddress(0), low as usize)];
    if length > low {
        ranges.push((GuestAddress(HOLE_END), (length - low) as usize));
    }
    let memory = Memory::from_ranges(&ranges).map_err(|_| Error::Memory(length))?;
    for region in memory.iter() {
        want_large_pages(region);
    }
    Ok(memory)
}

/// First touches of large pages cost a tenth, and so do the hypervisor's own tables.
fn want_large_pages(region: &GuestRegionMmap) {
    // SAFETY: the mapping's own range; advice does not change content.
    let _ = unsafe { libc::madvise(region.as_ptr().cast(), region.len() as usize, libc::MADV_HUGEPAGE) };
}

/// What the guest is told: start and length of each range.
pub fn ranges(memory: &Memory) -> Vec<(u64, u64)> {
    memory.iter().map(|region| (region.start_addr().0, region.len())).collect()
}
