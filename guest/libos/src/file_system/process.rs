//! /proc/PID: what a process and its threads are, as text (proc(5)).
//!
//! A [`Place`] names a process, one of its threads (0: the process as a whole) and a part. Both are
//! looked up anew at each use, so a place whose process has ended answers ENOENT (ESRCH on reading).
//! Links of `fd`, `exe`, `cwd` and `root` lead to the thing itself, whatever its name is by now.

mod contents;
mod memory;
mod status;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use abi::file::Attributes;

use super::context::FileSystemContext;
use super::generated::{Generator, attributes_now, mount_facts, mounts};
use super::node::{CHARACTER, DIRECTORY, FIFO, LINK, REGULAR, SOCKET, TERMINAL_NUMBER, TYPE};
use super::walk::Target;
use super::{Entry, Kind, Location, Meta, Node};
use crate::errno::{Errno, Result};
use crate::file::{Description, File};
use crate::kernel::Kernel;
use crate::process::Process;
use crate::syscall::may_inspect;
use crate::thread::Thread;

/// A thing of /proc/PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub process: u32,
    /// The thread of /proc/PID/task/TID; 0 outside.
    pub thread: u32,
    pub part: Part,
}

/// Which thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Directory,
    Tasks,
    Descriptors,
    Descriptor(u32),
    /// What a descriptor link leads to, if that has no name.
    Opened(u32),
    DescriptorFacts,
    DescriptorFact(u32),
    Executable,
    WorkingDirectory,
    Root,
    Network,
    Contents,
    /// An index into [`TEXTS`].
    Text(usize),
}

type Make = fn(&Arc<Process>, u32) -> Vec<u8>;

/// Files with text: name, permissions, content. Those that can be written ignore what is written.
static TEXTS: &[(&str, u32, Make)] = &[
    ("status", 0o444, status::status),
    ("stat", 0o444, status::stat),
    ("statm", 0o444, memory::statm),
    ("maps", 0o444, memory::maps),
    ("smaps", 0o444, memory::smaps),
    ("smaps_rollup", 0o444, memory::smaps_rollup),
    // Both are read from the process's memory: see `words`.
    (ARGUMENTS, 0o444, |_, _| Vec::new()),
    (ENVIRONMENT, 0o400, |_, _| Vec::new()),
    ("auxv", 0o400, |process, _| process.program.lock().auxiliary.clone()),
    ("comm", 0o644, |process, thread| [&status::name(process, thread)[..], b"\n"].concat()),
    ("limits", 0o444, status::limits),
    ("mounts", 0o444, |process, _| mounts(&process.kernel).into_bytes()),
    ("mountinfo", 0o444, |process, _| mount_facts(&process.kernel).into_bytes()),
    ("cgroup", 0o444, |_, _| b"0::/\n".to_vec()),
    ("io", 0o400, |_, _| status::TRANSFERS.to_vec()),
    ("wchan", 0o444, |_, _| b"0".to_vec()),
    ("oom_score", 0o444, |_, _| b"0\n".to_vec()),
    ("oom_score_adj", 0o644, |_, _| b"0\n".to_vec()),
    ("oom_adj", 0o644, |_, _| b"0\n".to_vec()),
    ("coredump_filter", 0o644, |_, _| b"00000033\n".to_vec()),
    ("clear_refs", 0o200, |_, _| Vec::new()),
    ("timerslack_ns", 0o666, |_, _| b"50000\n".to_vec()),
    ("loginuid", 0o644, |_, _| b"4294967295".to_vec()),
    ("sessionid", 0o444, |_, _| b"4294967295".to_vec()),
    ("personality", 0o400, |process, _| {
        format!("{:08x}\n", process.personality.load(Ordering::Relaxed)).into_bytes()
    }),
    ("schedstat", 0o444, status::schedule),
    ("uid_map", 0o444, |_, _| b"         0          0 4294967295\n".to_vec()),
    ("gid_map", 0o444, |_, _| b"         0          0 4294967295\n".to_vec()),
    ("setgroups", 0o444, |_, _| b"allow\n".to_vec()),
];

/// The fixed parts of the directory that are no texts.
static PARTS: &[(&str, Part)] = &[
    ("task", Part::Tasks),
    ("fd", Part::Descriptors),
    ("fdinfo", Part::DescriptorFacts),
    ("exe", Part::Executable),
    ("cwd", Part::WorkingDirectory),
    ("root", Part::Root),
    ("net", Part::Network),
    ("mem", Part::Contents),
];

const ARGUMENTS: &str = "cmdline";
const ENVIRONMENT: &str = "environ";

/// Arguments or environment, as they are in a process's memory now: programs replace them to say what they do.
async fn words(thread: &Arc<Thread>, process: &Arc<Process>, arguments: bool) -> Vec<u8> {
    let (first, second) = {
        let program = process.program.lock();
        (program.arguments, program.environment)
    };
    let (range, memory) = (if arguments { first } else { second }, process.memory());
    let mut bytes = alloc::vec![0; range.length as usize];
    let length = crate::foreign::read(thread, &memory, range.address, &mut bytes).await.unwrap_or(0);
    bytes.truncate(length);
    // Words that have grown beyond their place go on in the environment's, to their end (proc(5)).
    if arguments && bytes.last().is_some_and(|byte| *byte != 0) {
        let mut rest = alloc::vec![0; second.length as usize];
        let length = crate::foreign::read(thread, &memory, second.address, &mut rest).await.unwrap_or(0);
        rest.truncate(length);
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
        bytes.extend_from_slice(&rest[..end]);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        bytes.push(0);
    }
    bytes
}

/// A decimal number without sign or leading zeroes.
fn number(name: &[u8]) -> Option<u32> {
    let number: u32 = core::str::from_utf8(name).ok()?.parse().ok()?;
    (format!("{number}").as_bytes() == name).then_some(number)
}

/// /proc/NAME for a process or a thread.
pub fn of_name(kernel: &Arc<Kernel>, name: &[u8]) -> Result<Generator> {
    let wanted = number(name).ok_or(Errno::ENOENT)?;
    let processes: Vec<Arc<Process>> = kernel.processes.lock().values().cloned().collect();
    let has =
        |process: &&Arc<Process>| process.number == wanted || process.threads.lock().contains_key(&wanted);
    let process = processes.iter().find(has).ok_or(Errno::ENOENT)?.number;
    Ok(Generator::Process(Place { process, thread: 0, part: Part::Directory }))
}

/// The directories of all processes.
pub fn all(kernel: &Arc<Kernel>) -> Vec<(Vec<u8>, Generator)> {
    let processes = kernel.processes.lock();
    let place = |process: u32| Place { process, thread: 0, part: Part::Directory };
    processes
        .keys()
        .map(|number| (format!("{number}").into_bytes(), Generator::Process(place(*number))))
        .collect()
}

impl Part {
    /// Type and permission bits.
    pub fn mode(self) -> u32 {
        match self {
            Part::Directory | Part::Tasks => DIRECTORY | 0o555,
            Part::Descriptors | Part::DescriptorFacts => DIRECTORY | 0o500,
            Part::Executable | Part::WorkingDirectory | Part::Root | Part::Network => LINK | 0o777,
            Part::Descriptor(_) => LINK | 0o700,
            Part::Opened(_) => FIFO | 0o600,
            Part::Contents => REGULAR | 0o600,
            Part::DescriptorFact(_) => REGULAR | 0o400,
            Part::Text(index) => REGULAR | TEXTS.get(index).map_or(0, |(_, mode, _)| *mode),
        }
    }

    /// A number for each part, for inodes.
    pub(super) fn number(self) -> (u8, u32) {
        match self {
            Part::Directory => (0, 0),
            Part::Tasks => (1, 0),
            Part::Descriptors => (2, 0),
            Part::Descriptor(number) => (3, number),
            Part::Opened(number) => (4, number),
            Part::DescriptorFacts => (5, 0),
            Part::DescriptorFact(number) => (6, number),
            Part::Executable => (7, 0),
            Part::WorkingDirectory => (8, 0),
            Part::Root => (9, 0),
            Part::Network => (10, 0),
            Part::Text(index) => (11, index as u32),
            Part::Contents => (12, 0),
        }
    }
}

impl Place {
    fn process(self, kernel: &Kernel) -> Result<Arc<Process>> {
        kernel.processes.lock().get(&self.process).cloned().ok_or(Errno::ENOENT)
    }

    fn with(self, part: Part) -> Self {
        Self { part, ..self }
    }

    /// The effective user and group of the process.
    pub(super) fn owner(self, kernel: &Kernel) -> (u32, u32) {
        self.process(kernel).map_or((0, 0), |process| {
            let identity = process.identity.lock();
            (identity.user, identity.group)
        })
    }

    pub(super) fn lookup(self, kernel: &Kernel, name: &[u8]) -> Result<Self> {
        let process = self.process(kernel)?;
        let found = match self.part {
            Part::Directory => self.named_part(name),
            Part::Tasks => {
                let thread = number(name).filter(|number| process.threads.lock().contains_key(number));
                thread.map(|thread| Self { thread, ..self.with(Part::Directory) })
            }
            Part::Descriptors => descriptor(&process, name).map(|number| self.with(Part::Descriptor(number))),
            Part::DescriptorFacts => {
                descriptor(&process, name).map(|number| self.with(Part::DescriptorFact(number)))
            }
            _ => return Err(Errno::ENOTDIR),
        };
        found.ok_or(Errno::ENOENT)
    }

    fn named_part(self, name: &[u8]) -> Option<Self> {
        let part = PARTS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, part)| *part);
        let text = || TEXTS.iter().position(|(known, ..)| known.as_bytes() == name).map(Part::Text);
        let part = part.or_else(text).filter(|part| self.thread == 0 || *part != Part::Tasks);
        part.map(|part| self.with(part))
    }

    pub(super) fn list(self, kernel: &Kernel) -> Result<Vec<(Vec<u8>, Generator)>> {
        let process = self.process(kernel)?;
        let entry = |name: Vec<u8>, place: Self| (name, Generator::Process(place));
        let decimal = |number: u64| format!("{number}").into_bytes();
        let numbered = |make: fn(u32) -> Part| {
            let numbers = process.files.numbers();
            numbers.into_iter().map(|number| entry(decimal(number), self.with(make(number as u32)))).collect()
        };
        Ok(match self.part {
            Part::Directory => {
                let fixed = PARTS.iter().map(|(name, part)| (*name, *part));
                let texts = TEXTS.iter().enumerate().map(|(index, (name, ..))| (*name, Part::Text(index)));
                let here = fixed.chain(texts).filter(|(_, part)| self.thread == 0 || *part != Part::Tasks);
                here.map(|(name, part)| entry(name.into(), self.with(part))).collect()
            }
            Part::Tasks => {
                let threads: Vec<u32> = process.threads.lock().keys().copied().collect();
                let place = |thread| Self { thread, ..self.with(Part::Directory) };
                threads.into_iter().map(|thread| entry(decimal(u64::from(thread)), place(thread))).collect()
            }
            Part::Descriptors => numbered(Part::Descriptor),
            Part::DescriptorFacts => numbered(Part::DescriptorFact),
            _ => return Err(Errno::ENOTDIR),
        })
    }

    pub(super) fn tells_memory(self) -> bool {
        let name = match self.part {
            Part::Text(index) => TEXTS.get(index).map_or("", |(name, ..)| name),
            _ => "",
        };
        matches!(name, "status" | "stat" | "statm" | "smaps_rollup")
    }

    pub(super) async fn content(self, thread: &Arc<Thread>) -> Result<Vec<u8>> {
        let process = self.process(thread.kernel()).map_err(|_| Errno::ESRCH)?;
        match self.part {
            Part::Text(index) if matches!(TEXTS.get(index), Some((ARGUMENTS | ENVIRONMENT, ..))) => {
                let arguments = TEXTS.get(index).is_some_and(|(name, ..)| *name == ARGUMENTS);
                Ok(words(thread, &process, arguments).await)
            }
            Part::Text(index) => {
                let (_, _, make) = TEXTS.get(index).ok_or(Errno::ENOENT)?;
                Ok(make(&process, self.thread))
            }
            Part::DescriptorFact(number) => {
                let slot = process.files.slot(u64::from(number)).map_err(|_| Errno::ENOENT)?;
                Ok(descriptor_facts(&slot.description, slot.close_on_exec))
            }
            Part::Directory | Part::Tasks | Part::Descriptors | Part::DescriptorFacts => Err(Errno::EISDIR),
            _ => Err(Errno::ELOOP),
        }
    }

    /// Where the paths of the thread lead from, or of the process's first one.
    fn context(self, process: &Process) -> Result<Arc<FileSystemContext>> {
        match status::thread_of(process, self.thread) {
            Some(thread) => Ok(thread.file_system()),
            // Of a first process that runs nothing (`--init`).
            None if process.is_first() => Ok(FileSystemContext::first(process.kernel.file_systems.root())),
            None => Err(Errno::ENOENT),
        }
    }

    /// The process's memory as a file.
    pub(super) fn contents(self, thread: &Arc<Thread>, attributes: Attributes) -> Result<Arc<dyn File>> {
        let process = self.process(thread.kernel())?;
        may_inspect(&thread.process, &process).map_err(|_| Errno::EACCES)?;
        Ok(Arc::new(contents::Contents::new(process.memory(), attributes)))
    }

    /// The open file that a descriptor link leads to.
    pub(super) fn opened(self, kernel: &Kernel) -> Result<Arc<Description>> {
        let (Part::Descriptor(number) | Part::Opened(number)) = self.part else { return Err(Errno::EINVAL) };
        self.process(kernel)?.files.any(u64::from(number)).map_err(|_| Errno::ENOENT)
    }

    pub(super) fn target(self, thread: &Arc<Thread>) -> Result<Target> {
        let kernel = thread.kernel();
        let process = self.process(kernel)?;
        Ok(match self.part {
            Part::Executable => Target::Place(process.program.lock().place.clone().ok_or(Errno::ENOENT)?),
            Part::WorkingDirectory => Target::Place(self.context(&process)?.directory()),
            Part::Root => Target::Place(self.context(&process)?.root()),
            Part::Network => Target::Path(b"/proc/net".to_vec()),
            Part::Descriptor(number) => {
                let description = self.opened(kernel)?;
                match &description.location {
                    Some(location) => Target::Place(location.clone()),
                    None => Target::Place(self.nameless(thread, &description, number)),
                }
            }
            _ => return Err(Errno::EINVAL),
        })
    }

    /// A place of its own for an open file that has none, named as Linux names it; its "path" is that
    /// name, and opening it opens the file again.
    fn nameless(self, thread: &Arc<Thread>, description: &Arc<Description>, number: u32) -> Location {
        let generator = Generator::Process(self.with(Part::Opened(number)));
        let known = attributes_now(thread, description.file.as_ref());
        let meta = known.unwrap_or_else(|| generator.node(thread).attributes());
        let name = nameless_name(&meta);
        Entry::new(&name, None, Node::new(Meta::of(&meta), Kind::Generated(generator)))
    }
}

/// A descriptor that is open.
fn descriptor(process: &Process, name: &[u8]) -> Option<u32> {
    number(name).filter(|number| process.files.any(u64::from(*number)).is_ok())
}

fn nameless_name(attributes: &Attributes) -> Vec<u8> {
    let inode = attributes.inode;
    let name = match attributes.mode & TYPE {
        FIFO => format!("pipe:[{inode}]"),
        SOCKET => format!("socket:[{inode}]"),
        REGULAR => format!("/memfd:{inode} (deleted)"),
        CHARACTER if attributes.special == 0x103 => "/dev/null".into(),
        CHARACTER if attributes.special == TERMINAL_NUMBER => "/dev/pts/0".into(),
        CHARACTER => "/dev/tty".into(),
        _ => format!("anon_inode:[{inode}]"),
    };
    name.into_bytes()
}

fn descriptor_facts(description: &Description, close_on_exec: bool) -> Vec<u8> {
    let position = *description.position.lock();
    let closes = if close_on_exec { crate::file::flag::CLOSE_ON_EXEC } else { 0 };
    let flags = description.flags() | closes;
    format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t20\nino:\t0\n").into_bytes()
}
