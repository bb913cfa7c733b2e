//! From command to monitor: the same file executed again in place, with the [`Spec`] in a memory file.
//!
//! In place, so that the process the caller started is the one that answers for the island: its signals,
//! its terminal, its exit status. Executed again, so that the monitor starts small and single-threaded,
//! with nothing of the command's in memory.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api::spec::{Spec, Trial};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};

use crate::Error;
use crate::verdict::FAILED;

const NAME: &str = "eyot-monitor";
/// How often a memory file is sealed before it is given up.
const ATTEMPTS: u32 = 20;

/// Whether this process was started by [`become_monitor`].
pub fn called() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// Becomes the monitor of the wanted island; returns only if that fails.
pub fn become_monitor(spec: &Spec) -> io::Error {
    let file = match write(spec) {
        Ok(file) => file,
        Err(error) => return error,
    };
    monitor_of(spec, &file).exec()
}

/// The monitor of an island, whose memory file stays open.
fn monitor_of(spec: &Spec, file: &File) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(file.as_raw_fd().to_string());
    // The rest is for lists of processes.
    command.args(&spec.name).arg(OsStr::from_bytes(&spec.program));
    command
}

/// Runs an island whose output is nobody's, for a time at most: its exit status, or nothing if it was stopped; and
/// the names of the root's files that the program looked up, each ended by NUL. The island ends with this process.
pub fn try_out(spec: &Spec, limit: Duration) -> io::Result<(Option<i32>, Vec<u8>)> {
    let mut record = File::from(memfd_create("eyot-record", MemfdFlags::CLOEXEC)?);
    let trial = Trial { process: std::process::id(), record: record.as_raw_fd() as u32 };
    let status = run_for(&Spec { trial: Some(trial), ..spec.clone() }, limit)?;
    let mut names = Vec::new();
    record.read_to_end(&mut names)?;
    Ok((status, names))
}

/// Ends this process with the one that wants its island, if that is tied to one.
fn follow(spec: &Spec) -> Result<(), Error> {
    let Some(trial) = spec.trial else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|_| Error::NotCalled)?;
    // It may have ended before.
    let parent = getppid().map_or(0, |parent| parent.as_raw_nonzero().get() as u32);
    if parent == trial.process { Ok(()) } else { Err(Error::NotCalled) }
}

fn run_for(spec: &Spec, limit: Duration) -> io::Result<Option<i32>> {
    /// What a stopped island may take to end by itself.
    const GRACE: Duration = Duration::from_secs(2);
    let file = write(spec)?;
    let mut command = monitor_of(spec, &file);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    if spec.quiet {
        command.stderr(Stdio::null());
    }
    let mut child = command.spawn()?;
    let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
    if ends(&process, limit)? {
        return Ok(Some(child.wait()?.code().unwrap_or(i32::from(FAILED))));
    }
    pidfd_send_signal(&process, Signal::TERM)?;
    if !ends(&process, GRACE)? {
        child.kill()?;
    }
    child.wait()?;
    Ok(None)
}

/// Whether a process ends within a time.
fn ends(process: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now()));
        let left = left.map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            result => return Ok(result? > 0),
        }
    }
}

/// The memory file survives the execution: it is not marked close-on-exec.
fn write(spec: &Spec) -> io::Result<File> {
    let bytes = postcard::to_allocvec(spec).map_err(io::Error::other)?;
    let mut file = File::from(memfd_create("eyot-spec", MemfdFlags::empty())?);
    file.write_all(&bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Reads what [`become_monitor`] wrote. The descriptor is re-opened by its number, and closed.
pub(crate) fn read() -> Result<Spec, Error> {
    // The name that was executed says nothing.
    let _ = rustix::thread::set_name(c"eyot");
    let number: u32 = std::env::args().nth(1).and_then(|word| word.parse().ok()).ok_or(Error::NotCalled)?;
    let mut file = File::open(format!("/proc/self/fd/{number}")).map_err(|_| Error::NotCalled)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|_| Error::NotCalled)?;
    crate::sandbox::raw::close(number);
    let spec = postcard::from_bytes(&bytes).map_err(|_| Error::NotCalled)?;
    follow(&spec)?;
    Ok(spec)
}

/// A sealed, read-only memory file with these contents.
pub(crate) fn sealed_file(name: &str, contents: &[u8], executable: bool) -> io::Result<OwnedFd> {
    use rustix::fs::{SealFlags, fcntl_add_seals};
    let exec = if executable { MemfdFlags::EXEC } else { MemfdFlags::NOEXEC_SEAL };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 know neither flag; there memory files are executable as they are.
    let file = memfd_create(name, flags | exec).or_else(|_| memfd_create(name, flags))?;
    let mut file = File::from(file);
    file.write_all(contents)?;
    file.rewind()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    // While the kernel looks at a page for reasons of its own, the file counts as busy (fcntl(2)); each
    // attempt waits for a while itself.
    for _ in 0..ATTEMPTS {
        match fcntl_add_seals(&file, seals) {
            Err(Errno::BUSY) => {}
            result => return Ok(result.map(|()| file.into())?),
        }
    }
    Err(Errno::BUSY.into())
}
