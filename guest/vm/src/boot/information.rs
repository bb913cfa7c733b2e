//! What the boot loader tells: memory, command line, modules, tables of firmware.
//!
//! Three formats, one result, in physical addresses. Read once, before there is a heap: what does not fit
//! is left out. The loader is believed in what it says of memory; where it says things are is checked to
//! be below 4 GiB, which is mapped then.

use super::entry::way;
use crate::memory::frame::direct;

/// A range of physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub end: u64,
}

/// A short list.
#[derive(Clone, Copy)]
pub struct List<const N: usize> {
    ranges: [Range; N],
    length: usize,
}

impl<const N: usize> List<N> {
    const fn new() -> Self {
        Self { ranges: [Range { start: 0, end: 0 }; N], length: 0 }
    }

    fn push(&mut self, start: u64, length: u64) {
        if let Some(range) = self.ranges.get_mut(self.length)
            && length > 0
        {
            *range = Range { start, end: start.saturating_add(length) };
            self.length += 1;
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges[..self.length].iter().copied()
    }
}

/// Everything that was told.
#[derive(Clone, Copy)]
pub struct Information {
    pub memory: List<64>,
    pub modules: List<8>,
    /// The command line, without its end.
    pub command_line: Range,
    /// The root of ACPI's tables, or zero.
    pub firmware: u64,
    /// Where the information itself lies.
    own: List<4>,
}

const MAPPED: u64 = 4 << 30;
const USABLE: u32 = 1;
const PVH_MAGIC: u32 = 0x336e_c578;
const LINUX_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");

fn read<T: Copy>(address: u64) -> Option<T> {
    let fits = address < MAPPED - 4096;
    // SAFETY: the first 4 GiB are mapped; whatever is there is plain bytes.
    fits.then(|| unsafe { direct(address).cast::<T>().read_unaligned() })
}

/// Reads what is at `address`.
pub fn gather(way_in: u64, address: u64) -> Option<Information> {
    let mut found = Information {
        memory: List::new(),
        modules: List::new(),
        command_line: Range::default(),
        firmware: 0,
        own: List::new(),
    };
    match way_in {
        way::MULTIBOOT => multiboot(address, &mut found)?,
        _ if read::<u32>(address)? == PVH_MAGIC => pvh(address, &mut found)?,
        _ if read::<u32>(address + 0x202)? == LINUX_MAGIC => linux(address, &mut found)?,
        _ => return None,
    }
    Some(found)
}

/// `struct hvm_start_info` (Xen's public/arch-x86/hvm/start_info.h).
fn pvh(at: u64, found: &mut Information) -> Option<()> {
    let (modules, list) = (read::<u32>(at + 12)?, read::<u64>(at + 16)?);
    let (map, entries) = (read::<u64>(at + 40)?, read::<u32>(at + 48)?);
    found.own.push(at, 64);
    found.own.push(map, u64::from(entries) * 24);
    found.own.push(list, u64::from(modules) * 32);
    found.firmware = read(at + 32)?;
    command_line(read(at + 24)?, found);
    for entry in (0..u64::from(entries.min(1024))).map(|number| map + number * 24) {
        if read::<u32>(entry + 16)? == USABLE {
            found.memory.push(read(entry)?, read(entry + 8)?);
        }
    }
    for module in (0..u64::from(modules.min(8))).map(|number| list + number * 32) {
        found.modules.push(read(module)?, read(module + 8)?);
    }
    Some(())
}

/// `struct boot_params` (Linux's Documentation/arch/x86/boot.rst, zero-page.rst).
fn linux(at: u64, found: &mut Information) -> Option<()> {
    found.own.push(at, 4096);
    found.firmware = read(at + 0x70)?;
    let wide = |low: u64, high: u64| -> Option<u64> {
        Some(u64::from(read::<u32>(at + low)?) | u64::from(read::<u32>(at + high)?) << 32)
    };
    command_line(wide(0x228, 0xc8)?, found);
    for number in 0..u64::from(read::<u8>(at + 0x1e8)?) {
        let entry = at + 0x2d0 + number * 20;
        if read::<u32>(entry + 16)? == USABLE {
            found.memory.push(read(entry)?, read(entry + 8)?);
        }
    }
    found.modules.push(wide(0x218, 0xc0)?, wide(0x21c, 0xc4)?);
    Some(())
}

/// Multiboot2's information (specification 3.6).
fn multiboot(at: u64, found: &mut Information) -> Option<()> {
    let end = at + u64::from(read::<u32>(at)?);
    found.own.push(at, end - at);
    let mut tag = at + 8;
    while tag < end {
        let (kind, size) = (read::<u32>(tag)?, u64::from(read::<u32>(tag + 4)?));
        match kind {
            0 => break,
            1 => command_line(tag + 8, found),
            3 => {
                let (start, stop) = (read::<u32>(tag + 8)?, read::<u32>(tag + 12)?);
                found.modules.push(start.into(), stop.saturating_sub(start).into());
            }
            6 => {
                let length = u64::from(read::<u32>(tag + 8)?).max(24);
                let mut entry = tag + 16;
                while entry + 24 <= tag + size {
                    if read::<u32>(entry + 16)? == USABLE {
                        found.memory.push(read(entry)?, read(entry + 8)?);
                    }
                    entry += length;
                }
            }
            14 | 15 => found.firmware = tag + 8,
            _ => {}
        }
        tag += size.max(8).next_multiple_of(8);
    }
    Some(())
}

fn command_line(at: u64, found: &mut Information) {
    const MOST: u64 = 64 << 10;
    if at == 0 {
        return;
    }
    let length = (0..MOST).take_while(|offset| !matches!(read::<u8>(at + offset), None | Some(0))).count();
    found.command_line = Range { start: at, end: at + length as u64 };
}

impl Information {
    /// What is in use besides the image.
    pub fn in_use(&self) -> impl Iterator<Item = Range> + '_ {
        self.own.iter().chain(self.modules.iter()).chain([self.command_line])
    }
}
