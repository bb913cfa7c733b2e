//! From a path to a program about to start, as execve(2) has it.
//!
//! [`load`] finds out everything that can go wrong while the old program is still there: the file, its
//! `#!` line, its headers, its interpreter, the size of its arguments. [`install`] then replaces the
//! address space; what fails from there on ends the process. The monitor's copy of a file is a claim:
//! headers are checked in [`elf`], and nothing else of a file is interpreted here.

mod counter;
pub mod elf;
mod install;
pub mod script;
mod stack;
pub mod vdso;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::errno::{Errno, Result};
use crate::file::{Description, File};
use crate::file_system::{Follow, Location, open_found, permits, walk, want};
use crate::memory::Backed;
use crate::thread::Thread;
use elf::{Defect, HEAD, Headers};
pub use install::install;

/// Scripts that may name one another as interpreters before execve(2) answers ELOOP.
const SCRIPTS_MAX: usize = 4;
/// Bytes of the longest argument (MAX_ARG_STRLEN), and the least all of them may have together (ARG_MAX).
const ARGUMENT_MAX: usize = 128 << 10;
const ARGUMENTS_LEAST: u64 = 128 << 10;
/// RLIMIT_STACK.
const STACK_LIMIT: usize = 3;
/// Addresses below this are no program's (vm.mmap_min_addr).
const LOWEST: u64 = 0x1_0000;

/// Why a program cannot be loaded. The message is empty if there simply is no such file.
#[derive(Clone, Debug)]
pub struct LoadError {
    pub errno: Errno,
    pub message: String,
}

impl LoadError {
    fn new(errno: Errno, path: &[u8], reason: &str) -> Self {
        Self { errno, message: format!("{}: {reason}", shown(path)) }
    }
}

/// One file of a program: the program itself or its interpreter.
pub struct Module {
    headers: Headers,
    backed: Arc<Backed>,
    /// Absolute path, for /proc/PID/maps.
    path: Arc<[u8]>,
    device: u64,
    inode: u64,
}

/// A program that is ready to be installed.
pub struct Image {
    program: Module,
    interpreter: Option<Module>,
    /// The path as given to execve, for AT_EXECFN and the thread's name: that of a script, not its interpreter's.
    named: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
}

impl Image {
    /// The name the first thread gets (PR_SET_NAME): the last component of the path.
    pub fn short_name(&self) -> [u8; 16] {
        let last = self.named.rsplit(|byte| *byte == b'/').next().unwrap_or(&[]);
        let mut name = [0; 16];
        let length = last.len().min(15);
        name[..length].copy_from_slice(&last[..length]);
        name
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An opened file that may be executed, and the head of its content.
struct Opened {
    description: Arc<Description>,
    head: Vec<u8>,
    size: u64,
    device: u64,
    inode: u64,
}

/// What is to be executed.
pub struct Executable {
    /// As it is told of: AT_EXECFN, and what a script's interpreter is given.
    pub name: Vec<u8>,
    /// Where the path leads from; itself, if that is empty.
    pub start: Location,
    pub path: Vec<u8>,
    pub follow: Follow,
}

impl Executable {
    /// By its path, relative to the process's directory.
    pub fn at(thread: &Thread, path: &[u8]) -> Self {
        let (start, path) = (thread.file_system().directory(), path.to_vec());
        Self { name: path.clone(), start, path, follow: Follow::Yes }
    }
}

/// Loads a program.
pub async fn load(
    thread: &Arc<Thread>,
    program: Executable,
    mut arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> core::result::Result<Image, LoadError> {
    let path = &*program.name.clone();
    check_sizes(thread, path, &arguments, &environment)?;
    let mut wanted = program;
    for depth in 0.. {
        let named = wanted.name.clone();
        let opened = open(thread, &wanted).await.map_err(|errno| match (errno, depth) {
            (Errno::ENOENT, 0) => LoadError { errno, message: String::new() },
            (Errno::ENOENT, _) => missing_interpreter(path, &named),
            _ => LoadError::new(errno, &named, refusal(errno)),
        })?;
        let Some(line) = opened.head.strip_prefix(b"#!") else {
            let image = load_elf(thread, named, opened, arguments, environment).await?;
            return Ok(Image { named: path.to_vec(), ..image });
        };
        if depth == SCRIPTS_MAX {
            return Err(LoadError::new(Errno::ELOOP, path, "its #! line leads from script to script"));
        }
        let Some(line) = script::parse(line) else {
            return Err(LoadError::new(Errno::ENOEXEC, &named, "its #! line names no interpreter"));
        };
        let mut replaced = vec![line.interpreter.to_vec()];
        replaced.extend(line.argument.map(<[u8]>::to_vec));
        replaced.push(named);
        wanted = Executable::at(thread, line.interpreter);
        replaced.extend(arguments.into_iter().skip(1));
        arguments = replaced;
    }
    Err(LoadError::new(Errno::ELOOP, path, "its #! line leads from script to script"))
}

fn missing_interpreter(path: &[u8], interpreter: &[u8]) -> LoadError {
    let reason = format!("needs the interpreter {}, which does not exist on this island", shown(interpreter));
    LoadError::new(Errno::ENOENT, path, &reason)
}

/// Why a file that exists cannot be opened as a program.
fn refusal(errno: Errno) -> &'static str {
    match errno {
        Errno::EACCES => "is not executable, or may not be read on this island; chmod +rx makes it so",
        Errno::EISDIR => "is a directory",
        Errno::ENOTDIR => "a part of the path is not a directory",
        Errno::ELOOP => "too many symbolic links",
        Errno::ENAMETOOLONG => "the path is too long",
        Errno::EMFILE | Errno::ENFILE => "too many open files",
        _ => "cannot be read",
    }
}

/// Opens a file that may be executed and reads its head.
async fn open(thread: &Arc<Thread>, program: &Executable) -> Result<Opened> {
    let entry = walk(thread, &program.start, &program.path, program.follow).await?;
    let attributes = entry.node.attributes();
    if entry.node.is_directory() {
        return Err(Errno::EISDIR);
    }
    permits(&thread.process.identity.lock(), &attributes, want::EXECUTE)?;
    if attributes.mode & 0o170000 == 0o120000 {
        return Err(Errno::ELOOP);
    }
    if attributes.mode & 0o170000 != 0o100000 || attributes.mode & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    let description = open_found(thread, &entry, 0).await?;
    let mut head = vec![0; HEAD];
    let length = read(thread, description.file.as_ref(), &mut head, 0)?;
    head.truncate(length);
    let (device, inode) = (attributes.device, attributes.inode);
    Ok(Opened { description, head, size: attributes.size, device, inode })
}

/// Reads until `to` is full or the file ends.
fn read(thread: &Arc<Thread>, file: &dyn File, to: &mut [u8], offset: u64) -> Result<usize> {
    let mut done = 0;
    while done < to.len() {
        match file.read_kernel(thread, &mut to[done..], offset + done as u64)? {
            0 => break,
            length => done += length,
        }
    }
    Ok(done)
}

/// Loads an ELF program, and the interpreter it asks for.
async fn load_elf(
    thread: &Arc<Thread>,
    named: Vec<u8>,
    opened: Opened,
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> core::result::Result<Image, LoadError> {
    let headers = parse(thread, &named, &opened)?;
    let mut interpreter = None;
    if let Some((offset, length)) = headers.interpreter {
        let path = interpreter_path(thread, &opened, offset, length)
            .ok_or_else(|| LoadError::new(Errno::ENOEXEC, &named, defect(Defect::Corrupt)))?;
        let opened = open(thread, &Executable::at(thread, &path)).await.map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => missing_interpreter(&named, &path),
            _ => LoadError::new(errno, &path, refusal(errno)),
        })?;
        let headers = parse(thread, &path, &opened)?;
        interpreter = Some(module(thread, &path, opened, headers).await?);
    }
    let program = module(thread, &named, opened, headers).await?;
    Ok(Image { program, interpreter, named, arguments, environment })
}

/// The path in a program's PT_INTERP: ended by its only NUL.
fn interpreter_path(thread: &Arc<Thread>, opened: &Opened, offset: u64, length: u64) -> Option<Vec<u8>> {
    let mut path = vec![0; usize::try_from(length).ok()?];
    let read = read(thread, opened.description.file.as_ref(), &mut path, offset).ok()?;
    let end = path.iter().position(|byte| *byte == 0)?;
    path.truncate(end);
    (read as u64 == length && !path.is_empty()).then_some(path)
}

/// Parses headers, and refuses what wants addresses that no program can have here.
fn parse(thread: &Arc<Thread>, path: &[u8], opened: &Opened) -> core::result::Result<Headers, LoadError> {
    let headers = elf::parse(&opened.head, opened.size)
        .map_err(|found| LoadError::new(Errno::ENOEXEC, path, defect(found)))?;
    let user_end = thread.kernel().machine.user_end();
    let (first, last) = (headers.segments.first(), headers.segments.last());
    let start = first.map_or(0, |segment| segment.address);
    let end = last.map_or(0, |segment| segment.address + segment.memory_length);
    if !headers.movable && (start < LOWEST || end > user_end) || end - start > user_end / 2 {
        let reason = "is linked to addresses that programs cannot have on an island";
        return Err(LoadError::new(Errno::ENOMEM, path, reason));
    }
    Ok(headers)
}

fn defect(defect: Defect) -> &'static str {
    match defect {
        Defect::NotElf => "is neither an ELF program nor a script with a #! line",
        Defect::Truncated => "is truncated: its headers promise more than the file holds",
        Defect::NotLong => "is a 32-bit program; islands run 64-bit x86 programs",
        Defect::OtherMachine => "is for another processor; islands run 64-bit x86 programs",
        Defect::NotExecutable => "is an ELF file, but not a program",
        Defect::Corrupt => "is corrupt: its ELF headers contradict themselves",
    }
}

async fn module(
    thread: &Arc<Thread>,
    path: &[u8],
    opened: Opened,
    headers: Headers,
) -> core::result::Result<Module, LoadError> {
    let Opened { description, device, inode, .. } = opened;
    let handle = match description.file.pages(thread).await {
        Ok(Some(pages)) => pages.handle,
        Ok(None) => return Err(LoadError::new(Errno::ENODEV, path, "cannot be mapped")),
        Err(errno) => return Err(LoadError::new(errno, path, "cannot be mapped")),
    };
    let location = description.location.clone();
    let absolute = location.as_ref().map_or_else(|| path.to_vec(), |location| location.path());
    let backed = Arc::new(Backed { handle, file: description.file.clone(), location, writable: false });
    Ok(Module { headers, backed, path: absolute.into(), device, inode })
}

/// E2BIG, as execve(2) draws the line: a quarter of the stack's limit.
fn check_sizes(
    thread: &Arc<Thread>,
    path: &[u8],
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
) -> core::result::Result<(), LoadError> {
    let words = || arguments.iter().chain(environment);
    let total: u64 = words().map(|word| word.len() as u64 + 9).sum();
    let limit = (thread.process.limit(STACK_LIMIT) / 4).clamp(ARGUMENTS_LEAST, stack::LARGEST / 4);
    if total > limit || words().any(|word| word.len() >= ARGUMENT_MAX) {
        return Err(LoadError::new(Errno::E2BIG, path, "arguments and environment are too long"));
    }
    Ok(())
}
