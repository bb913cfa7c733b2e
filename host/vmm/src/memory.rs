//! The guest's memory: one or two ranges of this process's, taken as they are touched.

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap};

use crate::Error;

/// Where devices' registers begin, and where memory goes on behind them.
pub const HOLE: u64 = 3 << 30;
const HOLE_END: u64 = 4 << 30;

/// Where the kernel is loaded: of what is below, little is used.
const KERNEL: u64 = 2 << 20;

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

/// First touches of large pages cost a tenth, and so do the hypervisor's own tables. Below [`KERNEL`] there are
/// only a few pages, for the start.
fn want_large_pages(region: &GuestRegionMmap) {
    let skipped = KERNEL.saturating_sub(region.start_addr().0).min(region.len()) as usize;
    let (start, length) = (region.as_ptr().wrapping_add(skipped), region.len() as usize - skipped);
    // SAFETY: the mapping's own range; advice does not change content.
    let _ = unsafe { libc::madvise(start.cast(), length, libc::MADV_HUGEPAGE) };
}

/// What the guest is told: start and length of each range.
pub fn ranges(memory: &Memory) -> Vec<(u64, u64)> {
    memory.iter().map(|region| (region.start_addr().0, region.len())).collect()
}
