//! The library OS's heap: whole blocks of memory, where the direct map has them.

use runtime::cache::Cache;
use runtime::heap::{Ground, Heap};

use crate::cpu;
use crate::memory::{frame, layout::LARGE};

struct Blocks;

// SAFETY: the calling CPU's own.
unsafe impl Ground for Blocks {
    type Lock = spin::mutex::SpinMutex<()>;

    #[inline]
    fn cache() -> Option<&'static Cache> {
        Some(&cpu::current().cache)
    }

    fn more(least: usize) -> Option<(*mut u8, usize)> {
        let blocks = least.div_ceil(LARGE as usize);
        frame::take_blocks(blocks).map(|address| (frame::direct(address), blocks * LARGE as usize))
    }

    fn exhausted() -> ! {
        crate::vm::halt(abi::exit::Exit::OutOfMemory)
    }
}

#[global_allocator]
static HEAP: Heap<Blocks> = Heap::new();
