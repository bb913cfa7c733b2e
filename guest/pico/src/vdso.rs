//! The host's vDSO: finding its functions, and reading the clocks through it.
//!
//! It is code of the host kernel that uses no vector registers and the caller's stack. Where its clock
//! source cannot be read without the kernel it makes a system call, which the filter turns back; the
//! signal handler then makes it for it.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use linux_raw_sys::general as linux;
use machine::Now;

/// The vDSO's functions by name, zero where there is none.
pub struct Functions {
    base: u64,
}

/// clock_gettime, once found; zero before.
static CLOCK: AtomicU64 = AtomicU64::new(0);

impl Functions {
    /// `base` is AT_SYSINFO_EHDR's value.
    pub fn new(base: u64) -> Self {
        let functions = Self { base };
        CLOCK.store(functions.find(b"__vdso_clock_gettime"), Relaxed);
        functions
    }

    /// The address of a function, or zero.
    pub fn find(&self, name: &[u8]) -> u64 {
        if self.base == 0 { 0 } else { self.search(name).unwrap_or(0) }
    }

    fn word<T: Copy>(&self, address: u64) -> T {
        // SAFETY: `search` passes only addresses in the image that its own headers name; the host kernel
        // has mapped it and vouches for them.
        unsafe { (address as *const T).read_unaligned() }
    }

    fn search(&self, name: &[u8]) -> Option<u64> {
        let headers = self.base + self.word::<u64>(self.base + 32);
        let count = self.word::<u16>(self.base + 56) as u64;
        let (mut dynamic, mut slide) = (None, None);
        for header in (0..count).map(|index| headers + index * 56) {
            match self.word::<u32>(header) {
                1 if slide.is_none() => {
                    let (offset, address) = (self.word::<u64>(header + 8), self.word::<u64>(header + 16));
                    slide = Some(self.base.wrapping_add(offset).wrapping_sub(address));
                }
                2 => dynamic = Some(self.base + self.word::<u64>(header + 8)),
                _ => {}
            }
        }
        let (dynamic, slide) = (dynamic?, slide?);
        let (mut names, mut symbols, mut hash, mut gnu) = (0, 0, 0, 0);
        for entry in (0..64).map(|index| dynamic + index * 16) {
            let value = self.word::<u64>(entry + 8).wrapping_add(slide);
            match self.word::<u64>(entry) {
                0 => break,
                4 => hash = value,
                5 => names = value,
                6 => symbols = value,
                0x6fff_fef5 => gnu = value,
                _ => {}
            }
        }
        let count = if hash != 0 { self.word::<u32>(hash + 4) as u64 } else { self.symbols_by_gnu(gnu)? };
        (0..count)
            .map(|index| symbols + index * 24)
            .find(|&symbol| {
                let found = names + self.word::<u32>(symbol) as u64;
                self.word::<u16>(symbol + 6) != 0
                    && (0..name.len()).all(|at| self.word::<u8>(found + at as u64) == name[at])
                    && self.word::<u8>(found + name.len() as u64) == 0
            })
            .map(|symbol| self.word::<u64>(symbol + 8).wrapping_add(slide))
    }

    /// Newer kernels have only the GNU hash table: the last chain's end is the number of symbols.
    fn symbols_by_gnu(&self, table: u64) -> Option<u64> {
        if table == 0 {
            return None;
        }
        let (buckets, first, bloom) =
            (self.word::<u32>(table), self.word::<u32>(table + 4), self.word::<u32>(table + 8));
        let heads = table + 16 + bloom as u64 * 8;
        let chains = heads + buckets as u64 * 4;
        let mut last = (0..buckets as u64).map(|index| self.word::<u32>(heads + index * 4)).max()?;
        while last >= first && self.word::<u32>(chains + (last - first) as u64 * 4) & 1 == 0 {
            last += 1;
        }
        Some(last as u64 + 1)
    }
}

/// Nanoseconds on one of the host's clocks.
fn clock(number: u32) -> u64 {
    let mut time = [0u64; 2];
    let function = CLOCK.load(Relaxed);
    if function != 0 {
        // SAFETY: clock_gettime's address and signature, by the kernel's own symbol; it writes the local.
        unsafe {
            let function: unsafe extern "C" fn(u32, *mut u64) -> i32 =
                core::mem::transmute(function as *const ());
            function(number, time.as_mut_ptr());
        }
    } else {
        // SAFETY: the kernel writes the local.
        let _ = unsafe {
            crate::host::call(linux::__NR_clock_gettime, [number as u64, time.as_mut_ptr() as u64])
        };
    }
    time[0] * 1_000_000_000 + time[1]
}

/// Nanoseconds on the monotonic clock.
pub fn monotonic() -> u64 {
    clock(linux::CLOCK_MONOTONIC)
}

/// Both clocks.
pub fn now() -> Now {
    Now { monotonic_ns: monotonic(), realtime_ns: clock(linux::CLOCK_REALTIME) }
}
