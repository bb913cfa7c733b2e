//! What a dump says of the process and its threads: notes as Linux writes them (elf(5), core(5); <sys/procfs.h>).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use machine::{Context, PAGE};

use crate::memory::Content;
use crate::process::Process;
use crate::ptrace::register;
use crate::signal::Information;
use crate::thread::Thread;

const STATUS: u32 = 1;
const FLOATING: u32 = 2;
const PROCESS: u32 = 3;
const AUXILIARY: u32 = 6;
const FILES: u32 = 0x4649_4c45;
const SIGNAL: u32 = 0x5349_4749;

/// Bytes of `struct elf_prstatus` and `struct elf_prpsinfo`.
const STATUS_LENGTH: usize = 336;
const PROCESS_LENGTH: usize = 136;

/// All notes, those of the thread that the signal was for first: debuggers take it for the one to look at.
pub fn all(
    thread: &Arc<Thread>,
    information: &Information,
    context: &Context,
    others: &[(Arc<Thread>, Box<Context>)],
) -> Vec<u8> {
    let process = &thread.process;
    let mut notes = Vec::new();
    let mut note = |kind: u32, content: &[u8]| {
        // The lengths of the name and the content, which begin at multiples of 4.
        [5, content.len() as u32, kind].iter().for_each(|word| notes.extend_from_slice(&word.to_le_bytes()));
        notes.extend_from_slice(b"CORE\0\0\0\0");
        notes.extend_from_slice(content);
        notes.resize(notes.len().next_multiple_of(4), 0);
    };
    note(STATUS, &status(thread, information.number, context));
    note(PROCESS, &facts(process));
    note(SIGNAL, &information.encode());
    note(AUXILIARY, &process.program.lock().auxiliary.clone());
    note(FILES, &files(process));
    note(FLOATING, &register::floating(context));
    for (other, context) in others {
        note(STATUS, &status(other, information.number, context));
        note(FLOATING, &register::floating(context));
    }
    notes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The number of a process or thread, and those of its parent, group and session.
fn numbers(own: u32, process: &Process) -> [u8; 16] {
    let [parent, group, session] =
        [&process.parent, &process.group, &process.session].map(|number| number.load(Ordering::Relaxed));
    let mut bytes = [0; 16];
    for (place, number) in bytes.chunks_exact_mut(4).zip([own, parent, group, session]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn status(thread: &Thread, signal: u8, context: &Context) -> [u8; STATUS_LENGTH] {
    let mut bytes = [0; STATUS_LENGTH];
    bytes[0] = signal;
    bytes[12] = signal;
    put(&mut bytes, 24, &thread.signals.mask.load(Ordering::SeqCst).to_le_bytes());
    let process = &thread.process;
    put(&mut bytes, 32, &numbers(thread.number(), process));
    let words = register::words(context);
    words.iter().enumerate().for_each(|(index, word)| put(&mut bytes, 112 + 8 * index, &word.to_le_bytes()));
    // The floating-point registers are valid.
    bytes[328] = 1;
    bytes
}

fn facts(process: &Process) -> [u8; PROCESS_LENGTH] {
    let mut bytes = [0; PROCESS_LENGTH];
    bytes[1] = b'R';
    let identity = process.identity.lock();
    put(&mut bytes, 16, &identity.real_user.to_le_bytes());
    put(&mut bytes, 20, &identity.real_group.to_le_bytes());
    put(&mut bytes, 24, &numbers(process.number, process));
    let program = process.program.lock();
    let name = program.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    put(&mut bytes, 40, &name[..name.len().min(15)]);
    put(&mut bytes, 56, &program.path[..program.path.len().min(79)]);
    bytes
}

/// Which files are mapped where: how many, the unit of offsets; start, end and offset of each; their names.
fn files(process: &Process) -> Vec<u8> {
    let memory = process.memory();
    let map = memory.lock();
    let (mut words, mut names) = (Vec::new(), Vec::new());
    for (range, mapping) in map.mappings.iter() {
        if let Content::File { offset, path, .. } = &mapping.content {
            words.extend([range.address, range.end(), offset / PAGE]);
            names.extend_from_slice(path);
            names.push(0);
        }
    }
    let head = [words.len() as u64 / 3, PAGE];
    head.iter().chain(&words).flat_map(|word| word.to_le_bytes()).chain(names).collect()
}
