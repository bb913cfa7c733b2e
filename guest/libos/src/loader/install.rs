//! Replacing an address space by a program's: segments, break, stack, vDSO.
//!
//! Addresses are drawn as Linux draws them (arch/x86/mm/mmap.c), which some programs rely on: a
//! movable program near 0x5555_5555_4000, its break behind it, the interpreter with the mappings, the
//! stack at the top with nothing right below it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;

use machine::{Context, Machine, PAGE, Protection, Space, UserRange};

use super::stack::{self, Facts};
use super::{Image, Module, STACK_LIMIT, vdso};
use crate::errno::{Errno, Result};
use crate::memory::{AddressSpace, Content, Wanted, page_up};
use crate::process::Program;
use crate::thread::Thread;

/// Where movable programs go, before the random part.
const PROGRAM_BASE: u64 = 0x5555_5555_4000;
/// Pages the random parts may have, of program, break and stack.
const PROGRAM_SPREAD: u64 = 1 << 28;
const BREAK_SPREAD: u64 = 1 << 13;
const STACK_SPREAD: u64 = 1 << 18;
/// Bytes below the stack that stay inaccessible.
const STACK_GUARD: u64 = 1 << 20;

const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// What loading a module came to.
struct Placed {
    /// What is added to its addresses.
    bias: u64,
    entry: u64,
    end: u64,
}

/// The address space under construction.
struct Builder<'a> {
    machine: &'a dyn Machine,
    space: Space,
    memory: &'a mut AddressSpace,
    thread: &'a Arc<Thread>,
}

/// Makes the process run `image`: leaves its address space, fills a new one and says where to start. An
/// error leaves nothing to return to. The thread's context is complete.
pub async fn install(thread: &Arc<Thread>, image: Image) -> Result<Box<Context>> {
    let process = &thread.process;
    let machine = process.kernel.machine.clone();
    let stack_limit = process.limit(STACK_LIMIT);
    let identity = process.who();
    let memory = process.renew_memory(thread.cpu())?;
    let mut memory = memory.lock();
    let mut builder =
        Builder { machine: machine.as_ref(), space: process.space(), memory: &mut memory, thread };

    let program = builder.place(&image.program, true)?;
    let start = match &image.interpreter {
        Some(interpreter) => Some(builder.place(interpreter, false)?),
        None => None,
    };
    let vdso = builder.map_vdso()?;
    let headers = &image.program.headers;
    let mut random = [0; 16];
    process.kernel.entropy.fill(&mut random);
    let facts = Facts {
        vdso,
        headers: headers.headers_address.wrapping_add(program.bias),
        headers_count: headers.headers_count,
        base: start.as_ref().map_or(0, |start| start.bias),
        entry: program.entry,
        identity: [identity.real_user, identity.user, identity.real_group, identity.group],
        random,
    };
    let gap = builder.random(BREAK_SPREAD) * PAGE;
    builder.memory.break_start =
        page_up(program.end).and_then(|end| end.checked_add(gap)).ok_or(Errno::ENOMEM)?;
    builder.memory.break_end = builder.memory.break_start;
    let block = builder.build_stack(&image, stack_limit, &facts)?;
    drop(memory);

    *thread.name.lock() = image.short_name();
    *process.program.lock() = Program {
        path: image.program.path.to_vec(),
        place: image.program.backed.location.clone(),
        arguments: block.arguments,
        environment: block.environment,
        auxiliary: block.auxiliary,
    };
    let entry = start.map_or(program.entry, |start| start.entry);
    Ok(Box::new(Context::new(entry, block.address)))
}

impl Builder<'_> {
    /// A random number below `spread`, a power of two; 0, if the process wants to have fixed addresses.
    fn random(&self, spread: u64) -> u64 {
        if !self.thread.process.is_randomised() {
            return 0;
        }
        let mut bytes = [0; 8];
        self.thread.kernel().entropy.fill(&mut bytes);
        u64::from_le_bytes(bytes) & (spread - 1)
    }

    fn map(&mut self, range: UserRange, protection: Protection, content: Content) -> Result<()> {
        self.memory.map(self.machine, self.space, range, Wanted { protection, shared: false, content })
    }

    /// Maps a module's segments; a movable one at the program's or the interpreter's place.
    fn place(&mut self, module: &Module, is_program: bool) -> Result<Placed> {
        let headers = &module.headers;
        let (Some(first), Some(last)) = (headers.segments.first(), headers.segments.last()) else {
            return Err(Errno::ENOEXEC);
        };
        let lowest = first.address & !(headers.alignment - 1);
        let end = page_up(last.address + last.memory_length).ok_or(Errno::ENOEXEC)?;
        let bias = if !headers.movable {
            0
        } else {
            // A program without an interpreter but movable may be a dynamic linker run by hand: it has
            // the program's place like any static program.
            let wanted = PROGRAM_BASE + self.random(PROGRAM_SPREAD) * PAGE;
            let hint = if is_program { wanted } else { 0 };
            let free = self.memory.find_free(hint, end - lowest + headers.alignment, u64::MAX)?;
            free.address.next_multiple_of(headers.alignment).wrapping_sub(lowest)
        };
        for segment in &headers.segments {
            self.map_segment(module, segment, bias)?;
        }
        Ok(Placed {
            bias,
            entry: headers.entry.wrapping_add(bias),
            end: (last.address + last.memory_length).wrapping_add(bias),
        })
    }

    /// Maps one segment: pages of the file, zeroes to the end of the last of them, then empty pages.
    fn map_segment(&mut self, module: &Module, segment: &super::elf::Segment, bias: u64) -> Result<()> {
        let address = segment.address.wrapping_add(bias);
        let start = address & !(PAGE - 1);
        let file_end = address.checked_add(segment.file_length).ok_or(Errno::ENOEXEC)?;
        let end = address.checked_add(segment.memory_length).and_then(page_up).ok_or(Errno::ENOEXEC)?;
        if end > self.memory.end() {
            return Err(Errno::ENOMEM);
        }
        let mapped_end =
            if segment.file_length == 0 { start } else { page_up(file_end).ok_or(Errno::ENOEXEC)? };
        if mapped_end > start {
            let content = Content::File {
                backed: module.backed.clone(),
                offset: segment.file_offset & !(PAGE - 1),
                path: module.path.clone(),
                device: module.device,
                inode: module.inode,
            };
            self.map(UserRange::new(start, mapped_end - start), segment.protection, content)?;
        }
        if mapped_end > file_end
            && segment.memory_length > segment.file_length
            && segment.protection.contains(Protection::WRITE)
        {
            let zeroes = vec![0; (mapped_end - file_end) as usize];
            self.machine.copy_out(self.space, &zeroes, file_end)?;
        }
        if end > mapped_end {
            self.map(UserRange::new(mapped_end, end - mapped_end), segment.protection, Content::Anonymous)?;
        }
        Ok(())
    }

    /// Maps our vDSO, written while it is writable and executable only afterwards.
    fn map_vdso(&mut self) -> Result<u64> {
        let image = vdso::build(&self.thread.kernel().clock);
        let length = page_up(image.len() as u64).ok_or(Errno::ENOMEM)?;
        let range = self.memory.find_free(0, length, u64::MAX)?;
        self.map(range, READ_WRITE, Content::Code)?;
        self.machine.copy_out(self.space, &image, range.address)?;
        let protection = Protection::READ | Protection::EXECUTE;
        self.memory.protect(self.machine, self.space, range, protection)?;
        Ok(range.address)
    }

    /// Maps the stack and writes the argument block at its top.
    fn build_stack(&mut self, image: &Image, limit: u64, facts: &Facts) -> Result<stack::Block> {
        let room = stack::room(&image.arguments, &image.environment, &image.named);
        let wanted = limit.clamp(stack::SMALLEST, stack::LARGEST).max(room + stack::SMALLEST);
        let length = page_up(wanted).ok_or(Errno::ENOMEM)?;
        let end = self.memory.end() - self.random(STACK_SPREAD) * PAGE;
        let start = end.checked_sub(length).ok_or(Errno::ENOMEM)?;
        let executable = image.program.headers.executable_stack;
        let protection = if executable { READ_WRITE | Protection::EXECUTE } else { READ_WRITE };
        self.map(UserRange::new(start, length), protection, Content::Stack)?;
        // Mapped, so that nothing else is put there and the C library finds the stack's end.
        self.map(UserRange::new(start - STACK_GUARD, STACK_GUARD), Protection::empty(), Content::Anonymous)?;
        let top = end - self.random(256) * 16;
        let block = stack::block(top, &image.named, &image.arguments, &image.environment, facts);
        self.machine.copy_out(self.space, &block.bytes, block.address)?;
        Ok(block)
    }
}
