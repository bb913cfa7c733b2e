//! Calls on the address space.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::file::Extent;
use machine::{Advice, PAGE, Protection, UserRange};

use super::file::attempt;
use super::{Call, Outcome};
use crate::errno::{Errno, Result};
use crate::file::{Slot, flag};
use crate::file_system::{self, Kind, MemoryFile, Meta, Node, seal};
use crate::memory::{AddressSpace, Backed, Content, Inheritance, Mapping, Wanted, page_up};
use crate::process::Process;

const PROT_GROWSDOWN: u64 = 0x0100_0000;
const PROT_GROWSUP: u64 = 0x0200_0000;
const MREMAP_MAYMOVE: u64 = 1;
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;
const MAP_TYPE: u64 = 15;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_32BIT: u64 = 0x40;
const MAP_POPULATE: u64 = 0x8000;
const MAP_HUGETLB: u64 = 0x4_0000;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;

fn protection(bits: u64) -> Result<Protection> {
    if bits & !(7 | PROT_GROWSDOWN | PROT_GROWSUP) != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(Protection::from_bits_truncate(bits as u8 & 7))
}

pub fn mmap(call: &mut Call<'_>) -> Outcome {
    let [address, length, bits, flags, number, offset] = call.arguments;
    let protection = attempt!(protection(bits));
    let shared = match flags & MAP_TYPE {
        1 | 3 => true,
        2 => false,
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    if length == 0 || offset % PAGE != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    if flags & MAP_HUGETLB != 0 {
        return Err::<u64, _>(Errno::ENOMEM).into();
    }
    if flags & MAP_ANONYMOUS != 0 && (!shared || protection.is_empty()) {
        let wanted = Wanted { protection, shared, content: Content::Anonymous };
        return place(call.process(), address, length, flags, || Ok(wanted)).into();
    }
    let process = call.process().clone();
    let thread = call.thread.clone();
    if flags & MAP_ANONYMOUS != 0 {
        // Shared memory without a name: a file nobody else can open.
        return call.wait(async move {
            let kernel = &process.kernel;
            let file = anonymous_file(kernel);
            let size = page_up(length).ok_or(Errno::ENOMEM)?;
            file.0.resize(kernel, size).await?;
            let handle = file.0.promote(kernel).await?;
            let entry = file_system::Entry::nameless(b"/dev/zero", file.1.clone());
            let backed = Arc::new(Backed { handle, file: file.0, location: Some(entry), writable: true });
            let content = Content::File {
                backed,
                offset: 0,
                path: Arc::from(&b"/dev/zero (deleted)"[..]),
                device: 1,
                inode: file.1.meta.lock().inode,
            };
            place(&process, address, length, flags, || Ok(Wanted { protection, shared, content }))
        });
    }
    let description = attempt!(process.files.get(number));
    if description.readable().is_err()
        || shared && protection.contains(Protection::WRITE) && description.writable().is_err()
    {
        return Err::<u64, _>(Errno::EACCES).into();
    }
    let pages = description.file.pages(call.thread);
    call.wait(async move {
        let Some(pages) = pages.await? else {
            let wanted = Wanted { protection, shared, content: Content::Anonymous };
            return place(&process, address, length, flags, || Ok(wanted));
        };
        let attributes = description.file.attributes(&thread).await?;
        let path = description.location.as_ref().map(|location| location.path()).unwrap_or_default();
        place(&process, address, length, flags, || {
            let sealed = file_system::is_sealed(&description);
            if shared && sealed && protection.contains(Protection::WRITE) {
                return Err(Errno::EPERM);
            }
            let content = Content::File {
                backed: Arc::new(Backed {
                    handle: pages.handle,
                    file: description.file.clone(),
                    location: description.location.clone(),
                    writable: description.writable().is_ok() && !sealed,
                }),
                offset,
                path: Arc::from(path),
                device: attributes.device,
                inode: attributes.inode,
            };
            Ok(Wanted { protection, shared, content })
        })
    })
}

/// Maps at an address, or where there is room if it is 0; over what is there only if that is wanted.
pub(super) fn map_at(
    process: &Arc<Process>,
    address: u64,
    length: u64,
    replaces: bool,
    wanted: Wanted,
) -> Result<u64> {
    let flags = match address {
        0 => 0,
        _ if replaces => MAP_FIXED,
        _ => MAP_FIXED_NOREPLACE,
    };
    let taken = |errno| if errno == Errno::EEXIST { Errno::EINVAL } else { errno };
    place(process, address, length, flags, || Ok(wanted)).map_err(taken)
}

/// Chooses the address and maps. What is wanted is asked for with the address space locked: a file that is
/// being sealed either sees the mapping or is seen to be sealed.
fn place(
    process: &Arc<Process>,
    address: u64,
    length: u64,
    flags: u64,
    wanted: impl FnOnce() -> Result<Wanted>,
) -> Result<u64> {
    let machine = &*process.kernel.machine;
    let memory = process.memory();
    let mut memory = memory.lock();
    let range = if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        let range = memory.check(address, length)?;
        if flags & MAP_FIXED_NOREPLACE != 0 && !memory.mappings.is_free(range) {
            return Err(Errno::EEXIST);
        }
        range
    } else {
        let length = page_up(length).ok_or(Errno::ENOMEM)?;
        let below = if flags & MAP_32BIT != 0 { 1 << 31 } else { memory.end() };
        memory.find_free(address, length, below)?
    };
    memory.map(machine, process.space(), range, wanted()?)?;
    if flags & MAP_POPULATE != 0 {
        let _ = machine.advise(process.space(), range, Advice::Populate);
    }
    Ok(range.address)
}

pub fn munmap(call: &mut Call<'_>) -> Outcome {
    let process = call.process();
    let memory = process.memory();
    let mut memory = memory.lock();
    let range = attempt!(memory.check(call.arguments[0], call.arguments[1]).map_err(|_| Errno::EINVAL));
    memory.unmap(&*process.kernel.machine, process.space(), range).into()
}

pub fn mprotect(call: &mut Call<'_>) -> Outcome {
    let [address, length, bits, ..] = call.arguments;
    let protection = attempt!(protection(bits));
    let process = call.process();
    let memory = process.memory();
    let mut memory = memory.lock();
    let (address, length) = match bits & (PROT_GROWSDOWN | PROT_GROWSUP) {
        0 => (address, length),
        // Down to where the stack begins; nothing grows but the stack, and it only downwards.
        PROT_GROWSDOWN => match memory.mappings.containing(address) {
            Some((stack, mapping)) if matches!(mapping.content, Content::Stack) => {
                (stack.address, length.saturating_add(address - stack.address))
            }
            _ => return Err::<u64, _>(Errno::EINVAL).into(),
        },
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    if length == 0 && address % PAGE == 0 {
        return Ok(0).into();
    }
    let range = attempt!(memory.check(address, length));
    memory.protect(&*process.kernel.machine, process.space(), range, protection).into()
}

pub fn mremap(call: &mut Call<'_>) -> Outcome {
    let [address, old, new, flags, target, _] = call.arguments;
    let (Some(old), Some(new)) = (page_up(old), page_up(new)) else {
        return Err::<u64, _>(Errno::EINVAL).into();
    };
    let (moves, fixed, stays) =
        (flags & MREMAP_MAYMOVE != 0, flags & MREMAP_FIXED != 0, flags & MREMAP_DONTUNMAP != 0);
    let known = flags & !(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) == 0;
    let valid =
        known && address % PAGE == 0 && new != 0 && (moves || !fixed && !stays) && (!stays || old == new);
    if !valid || old == 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let process = call.process();
    let memory = process.memory();
    let mut memory = memory.lock();
    let target = if fixed { Some(attempt!(memory.check(target, new)).address) } else { None };
    let from = UserRange::new(address, old);
    if let Some(to) = target
        && to < from.end()
        && from.address < to.saturating_add(new)
    {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let machine = &*process.kernel.machine;
    if stays {
        return memory.remap_away(machine, process.space(), from, target).into();
    }
    memory.remap(machine, process.space(), from, new, target, moves).into()
}

pub fn brk(call: &mut Call<'_>) -> Outcome {
    let process = call.process();
    let limit = process.limit(2);
    let memory = process.memory();
    let mut memory = memory.lock();
    Ok(memory.set_break(&*process.kernel.machine, process.space(), call.arguments[0], limit)).into()
}

pub fn madvise(call: &mut Call<'_>) -> Outcome {
    let [address, length, advice, ..] = call.arguments;
    let advice = match advice {
        4 => Some(Advice::Discard),
        8 => Some(Advice::Free),
        3 => Some(Advice::WillNeed),
        9 => Some(Advice::Remove),
        14 => Some(Advice::HugePages),
        15 => Some(Advice::SmallPages),
        22 | 23 => Some(Advice::Populate),
        0..=2 | 10..=13 | 16..=21 | 25 => None,
        _ => return Err::<u64, _>(Errno::EINVAL).into(),
    };
    if address % PAGE != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    if length == 0 {
        return Ok(0).into();
    }
    let process = call.process();
    let memory = process.memory();
    let mut memory = memory.lock();
    let range = attempt!(memory.check(address, length));
    let inheritance = match call.arguments[2] {
        10 => Some(Inheritance::Absent),
        18 => Some(Inheritance::Wiped),
        11 | 19 => Some(Inheritance::Copied),
        _ => None,
    };
    if let Some(inheritance) = inheritance {
        return inherit(&mut memory, range, inheritance).into();
    }
    if advice == Some(Advice::Remove) {
        attempt!(may_remove(&memory, range));
    }
    match advice {
        Some(advice) => memory.advise(&*process.kernel.machine, process.space(), range, advice).into(),
        None if memory.mappings.is_covered(range) => Ok(0).into(),
        None => Err::<u64, _>(Errno::ENOMEM).into(),
    }
}

/// Only who may write to a file takes pages from it (madvise(2), MADV_REMOVE).
fn may_remove(memory: &AddressSpace, range: UserRange) -> Result<()> {
    for mapping in memory.mappings.within(range) {
        match &mapping.content {
            Content::File { .. } if mapping.shared && mapping.protection.contains(Protection::WRITE) => {}
            Content::File { .. } => return Err(Errno::EACCES),
            _ => return Err(Errno::EINVAL),
        }
    }
    Ok(())
}

/// Says what a new process gets of a range: only private memory without a file can be wiped.
fn inherit(memory: &mut AddressSpace, range: UserRange, inheritance: Inheritance) -> Result<u64> {
    if !memory.mappings.is_covered(range) {
        return Err(Errno::ENOMEM);
    }
    let private = |mapping: &Mapping| !mapping.shared && !matches!(mapping.content, Content::File { .. });
    if inheritance == Inheritance::Wiped && !memory.mappings.within(range).all(private) {
        return Err(Errno::EINVAL);
    }
    memory.mappings.change(range, |mapping| mapping.inheritance = inheritance);
    Ok(0)
}

/// msync(2): shared pages of granted files are the host's own, so only MS_SYNC has something to do.
pub fn msync(call: &mut Call<'_>) -> Outcome {
    let [address, length, ..] = call.arguments;
    let flags = call.word(2);
    if address % PAGE != 0 || flags & !7 != 0 || flags & 5 == 5 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    if length == 0 {
        return Ok(0).into();
    }
    let memory = call.process().memory();
    let memory = memory.lock();
    let range = attempt!(memory.check(address, length));
    if !memory.mappings.is_covered(range) {
        return Err::<u64, _>(Errno::ENOMEM).into();
    }
    let mut files = Vec::new();
    for piece in memory.mappings.pieces(range) {
        if let Some((_, mapping)) = memory.mappings.containing(piece.address)
            && let Content::File { backed, .. } = &mapping.content
            && mapping.shared
        {
            files.push(backed.file.clone());
        }
    }
    drop(memory);
    if flags & 4 == 0 || files.is_empty() {
        return Ok(0).into();
    }
    let thread = call.thread.clone();
    call.wait(async move {
        for file in files {
            file.synchronise(&thread, Extent::Data).await?;
        }
        Ok(0)
    })
}

pub fn mincore(call: &mut Call<'_>) -> Outcome {
    let memory = call.process().memory();
    let memory = memory.lock();
    let range = attempt!(memory.check(call.arguments[0], call.arguments[1]));
    if !memory.mappings.is_covered(range) {
        return Err::<u64, _>(Errno::ENOMEM).into();
    }
    drop(memory);
    // As Linux, a page of answers at a time.
    let resident = [1; PAGE as usize];
    let pages = range.length / PAGE;
    for done in (0..pages).step_by(resident.len()) {
        let now = (pages - done).min(PAGE) as usize;
        attempt!(crate::user::write(call.thread, call.arguments[2].wrapping_add(done), &resident[..now]));
    }
    Ok(0).into()
}

/// mlock(2) and its kin: pages are brought in, and stay as long as the host lets them.
pub fn mlock(call: &mut Call<'_>) -> Outcome {
    let process = call.process();
    let memory = process.memory();
    let mut memory = memory.lock();
    let start = call.arguments[0] & !(PAGE - 1);
    let length = call.arguments[1] + (call.arguments[0] - start);
    if length == 0 {
        return Ok(0).into();
    }
    let range = attempt!(memory.check(start, length));
    memory.advise(&*process.kernel.machine, process.space(), range, Advice::Populate).into()
}

pub fn nothing(_call: &mut Call<'_>) -> Outcome {
    Ok(0).into()
}

/// A regular file without a name, and its node.
pub(super) fn anonymous_file(kernel: &Arc<crate::kernel::Kernel>) -> (Arc<MemoryFile>, Arc<Node>) {
    let file = MemoryFile::new(kernel);
    let now_ns = kernel.machine.now().realtime_ns as i64;
    let number = kernel.file_systems.next_number();
    let meta = Meta { links: 0, ..Meta::new(number, 0o100777, 0, 0, now_ns) };
    let node = Node::new(meta, Kind::Memory(file.clone()));
    file.belong_to(&node);
    (file, node)
}

const MFD_CLOEXEC: u32 = 1;
const MFD_ALLOW_SEALING: u32 = 2;
const MFD_NOEXEC_SEAL: u32 = 8;
const MFD_EXEC: u32 = 16;

/// memfd_create(2). There are no huge pages to choose, and MFD_HUGETLB is refused.
pub fn memfd_create(call: &mut Call<'_>) -> Outcome {
    let flags = call.word(1);
    let executable = flags & MFD_NOEXEC_SEAL == 0;
    let known = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC;
    if flags & !known != 0 || !executable && flags & MFD_EXEC != 0 {
        return Err::<u64, _>(Errno::EINVAL).into();
    }
    let name = attempt!(
        crate::user::read_string(call.thread, call.arguments[0], 250)
            .map_err(|errno| { if errno == Errno::ENAMETOOLONG { Errno::EINVAL } else { errno } })
    );
    let (file, node) = anonymous_file(call.kernel());
    {
        let identity = call.process().identity.lock();
        let mut meta = node.meta.lock();
        (meta.user, meta.group) = (identity.user, identity.group);
        if !executable {
            meta.mode &= !0o111;
        }
    }
    if flags & MFD_ALLOW_SEALING != 0 || !executable {
        file.seals.allow(!executable);
    }
    let mut label = b"/memfd:".to_vec();
    label.extend_from_slice(&name);
    let entry = file_system::Entry::nameless(&label, node);
    let description = crate::file::Description::new(file, flag::RDWR | flag::LARGE, Some(entry));
    let slot = Slot { description, close_on_exec: flags & MFD_CLOEXEC != 0 };
    call.process().files.add(slot, 0, call.process().limit(7)).into()
}

/// F_ADD_SEALS: of memory files that allow it. Writing cannot be sealed while a mapping can write.
pub fn add_seals(call: &Call<'_>, description: &crate::file::Description, added: u32) -> Result<u64> {
    let file = description.file_as::<file_system::MemoryFile>().ok_or(Errno::EINVAL)?;
    description.writable().map_err(|_| Errno::EPERM)?;
    let new = |seals: u32| added & seal::WRITE != 0 && seals & (seal::SEAL | seal::WRITE) == 0;
    if new(file.seals.get()) && is_written(call, description) {
        return Err(Errno::EBUSY);
    }
    let before = file.seal(added)?;
    // Looked at once more: no mapping is made from here on, nor a child that inherits one.
    if new(before) && is_written(call, description) {
        file.seals.take_back(added, before);
        return Err(Errno::EBUSY);
    }
    Ok(0)
}

/// Whether a mapping of anybody's can write to a file.
fn is_written(call: &Call<'_>, description: &crate::file::Description) -> bool {
    let _births = call.kernel().births.lock();
    let processes: Vec<Arc<Process>> = call.kernel().processes.lock().values().cloned().collect();
    // A child that is being made has a copy already: its making begins anew.
    crate::job::address(&processes);
    processes.iter().any(|process| process.memory().lock().mappings.writes_to(&description.file))
}

/// F_GET_SEALS.
pub fn get_seals(description: &crate::file::Description) -> Result<u64> {
    file_system::seals(description).map(|seals| u64::from(seals.get())).ok_or(Errno::EINVAL)
}
