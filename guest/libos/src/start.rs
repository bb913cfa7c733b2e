//! The first process: its standard streams, and the program it is to run.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::exit::{Exit, NotStarted};
use machine::Context;

use crate::errno::Errno;
use crate::file::{Description, Slot, flag};
use crate::file_system::FileSystemContext;
use crate::file_system::{Follow, walk};
use crate::kernel::Kernel;
use crate::loader::{Executable, LoadError};
use crate::process::Process;
use crate::signal::ThreadSignals;
use crate::syscall::{Finish, may_enter};
use crate::thread::Thread;

/// Makes the first process, with one thread whose first act is to load the program.
pub fn first_process(kernel: &Arc<Kernel>) {
    let process = if kernel.boot.init { Process::after_init(kernel) } else { Process::first(kernel) };
    let files = crate::file::stream::standard(kernel)
        .expect("invariant: the monitor grants streams that can be watched");
    if let Some(control) = files.iter().find_map(|file| file.control()) {
        kernel.console.call_once(|| control.clone());
        control.offer(&process);
    }
    for (number, (file, stream)) in files.into_iter().zip(&kernel.boot.streams).enumerate() {
        let access = if number == 0 { 0 } else { flag::WRONLY };
        let access = if matches!(stream, abi::boot::Stream::Terminal(_)) { flag::RDWR } else { access };
        let slot =
            Slot { description: Description::new(file, access | flag::LARGE, None), close_on_exec: false };
        let _ = process.files.add(slot, number, u64::MAX);
    }
    let context = Box::new(Context::new(0, 0));
    let places = FileSystemContext::first(kernel.file_systems.root());
    let thread = Thread::new(process.number, process.clone(), context, ThreadSignals::default(), places);
    process.threads.lock().insert(thread.number(), thread.clone());
    if let Some(debugger) = &kernel.debugger {
        crate::debugger::begin(kernel, debugger, &process);
    }
    let starting = thread.clone();
    thread.begin_with(Box::pin(async move {
        match start(&starting).await {
            Ok(context) => Finish::Start(context),
            Err((reason, message)) => {
                starting.process.end(Exit::NotStarted { reason, message });
                Finish::Keep
            }
        }
    }));
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn start(thread: &Arc<Thread>) -> Result<Box<Context>, (NotStarted, String)> {
    let kernel = thread.kernel().clone();
    let boot = &kernel.boot;
    kernel
        .file_systems
        .attach_trees(&kernel)
        .await
        .map_err(|errno| (NotStarted::CannotRun, format!("a granted tree cannot be attached: {errno:?}")))?;
    let root = kernel.file_systems.root();
    let unsuitable = |errno| {
        let why = match errno {
            Errno::ENOENT => "it does not exist on this island",
            Errno::ENOTDIR => "it is no directory",
            Errno::EACCES => "the user may not enter it",
            Errno::ELOOP => "its links lead in a circle",
            _ => "it cannot be looked up",
        };
        let message = format!("{}: cannot be the working directory: {why}", shown(&boot.directory));
        (NotStarted::CannotRun, message)
    };
    let directory = walk(thread, &root, &boot.directory, Follow::Yes).await;
    let directory =
        directory.and_then(|entry| may_enter(thread, &entry).map(|()| entry)).map_err(unsuitable)?;
    thread.file_system().set_directory(directory);
    let path = find_program(thread, &boot.program, &boot.environment).await?;
    let program = Executable::at(thread, &path);
    let loaded = crate::loader::load(thread, program, boot.arguments.clone(), boot.environment.clone()).await;
    match loaded {
        Ok(image) => crate::loader::install(thread, image).await.map_err(|errno| {
            (NotStarted::CannotRun, format!("{}: cannot be loaded: {errno:?}", shown(&path)))
        }),
        Err(LoadError { errno: Errno::ENOENT, message }) if message.is_empty() => {
            Err((NotStarted::NotFound, format!("{}: no such file on this island", shown(&path))))
        }
        Err(LoadError { message, .. }) => Err((NotStarted::CannotRun, message)),
    }
}

/// A name without a slash is looked for in PATH, as a shell does.
async fn find_program(
    thread: &Arc<Thread>,
    program: &[u8],
    environment: &[Vec<u8>],
) -> Result<Vec<u8>, (NotStarted, String)> {
    if program.contains(&b'/') {
        return Ok(program.to_vec());
    }
    let search = environment.iter().find_map(|word| word.strip_prefix(b"PATH=")).unwrap_or(b"/usr/bin:/bin");
    let directory = thread.file_system().directory();
    let mut refused = None;
    for prefix in search.split(|byte| *byte == b':') {
        let mut path = if prefix.is_empty() { b".".to_vec() } else { prefix.to_vec() };
        path.push(b'/');
        path.extend_from_slice(program);
        if let Ok(entry) = walk(thread, &directory, &path, Follow::Yes).await {
            let attributes = entry.node.attributes();
            if entry.node.is_directory() {
                continue;
            }
            if attributes.mode & 0o111 != 0 {
                return Ok(path);
            }
            refused = Some(path);
        }
    }
    match refused {
        Some(path) => {
            Err((NotStarted::CannotRun, format!("{}: found, but it is not executable", shown(&path))))
        }
        None => {
            Err((NotStarted::NotFound, format!("{}: not found in PATH ({})", shown(program), shown(search))))
        }
    }
}
