//! Forking the guest's process and walking it through the wall.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::descriptor::Table;
use super::raw::{self, Forked};
use super::view::{View, map_caller};
use super::{Image, limit, wall};
use crate::caller::Caller;
use crate::signal::Signals;

/// What a guest's process runs, behind the wall.
#[derive(Clone, Copy)]
pub enum Program<'a> {
    /// This image, executed.
    Image(Image),
    /// This, in the forked process: it has nothing but the granted descriptors. Its status ends it.
    Inside(&'a dyn Fn() -> u8),
    /// A program of this machine, by its path, with these words after its name.
    Installed { path: &'a CStr, arguments: &'a [CString] },
}

/// What a guest's process is made from.
pub struct Launch<'a> {
    pub program: Program<'a>,
    pub caller: Caller,
    pub view: &'a View,
    /// A number that no other island has now: its monitor's.
    pub number: u32,
    /// What the process is called in lists of processes.
    pub name: &'a CStr,
    /// What it is granted, at the numbers from [`abi::pico::descriptor::CONTROL`] on.
    pub descriptors: &'a [BorrowedFd<'a>],
    /// A limit of private memory, where nothing better bounds it.
    pub data: Option<u64>,
    /// Its virtual CPUs.
    pub cpus: u16,
    /// The control group's door.
    pub group: Option<&'a OwnedFd>,
}

/// The guest's first process.
pub struct Guest {
    pub process: Pid,
    pub descriptor: OwnedFd,
    /// What it says before it can speak to the monitor.
    pub words: OwnedFd,
}

/// Where the way through the wall ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Fork,
    Group,
    UserMap,
    View,
    Limits,
    User,
    Capabilities,
    Tie,
    Descriptors,
    Restrict,
    Execute,
}

const STEPS: [Step; 11] = [
    Step::Fork,
    Step::Group,
    Step::UserMap,
    Step::View,
    Step::Limits,
    Step::User,
    Step::Capabilities,
    Step::Tie,
    Step::Descriptors,
    Step::Restrict,
    Step::Execute,
];

/// A guest's process could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the island's process could not be made ({step:?}: {errno}); `eyot doctor` says what this machine lacks"
)]
pub struct SpawnError {
    pub step: Step,
    pub errno: Errno,
}

impl SpawnError {
    /// Whether the machine refuses name spaces, so that it may be tried without.
    pub fn is_for_namespaces(self) -> bool {
        matches!(self.step, Step::Fork | Step::UserMap | Step::View)
    }
}

/// Makes the guest's process. It runs the image when this returns.
pub fn spawn(launch: Launch) -> Result<Guest, SpawnError> {
    let at = |step| move |errno| SpawnError { step, errno };
    let image = match launch.program {
        Program::Image(image) => Some(
            image
                .file()
                .map_err(|error| at(Step::Execute)(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?,
        ),
        Program::Inside(_) | Program::Installed { .. } => None,
    };
    let (report, failure) = pipe_with(PipeFlags::CLOEXEC).map_err(at(Step::Fork))?;
    let (words, stderr) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(at(Step::Fork))?;
    let table = Table::gather(image.as_ref(), &failure, &stderr, launch.descriptors)
        .map_err(at(Step::Descriptors))?;
    drop((failure, stderr));
    match raw::fork(launch.view.namespaces()).map_err(at(Step::Fork))? {
        Forked::Child => {
            let Err(error) = child(&launch, &table);
            tell(table.failure, error);
            raw::exit(125)
        }
        Forked::Parent { child, descriptor } => {
            drop(table);
            match told(report) {
                None => Ok(Guest { process: child, descriptor, words }),
                Some(error) => {
                    // It has ended by itself; this takes it off the list of processes.
                    let _ = waitid(WaitId::Pid(child), WaitIdOptions::EXITED);
                    Err(error)
                }
            }
        }
    }
}

fn child(launch: &Launch, table: &Table) -> Result<std::convert::Infallible, SpawnError> {
    let at = |step| move |errno| SpawnError { step, errno };
    let view = launch.view;
    Signals::unblock_all();
    if let Some(door) = launch.group {
        rustix::io::write(door, b"0").map_err(at(Step::Group))?;
    }
    if view.in_user_namespace() {
        map_caller(launch.caller.user, launch.caller.group).map_err(at(Step::UserMap))?;
    }
    view.enter().map_err(at(Step::View))?;
    limit::set(launch.data, launch.cpus).map_err(at(Step::Limits))?;
    wall::drop_bounding_set();
    if launch.caller.is_root() && !view.in_user_namespace() {
        wall::become_stranger(launch.number).map_err(at(Step::User))?;
    }
    wall::drop_capabilities().map_err(at(Step::Capabilities))?;
    wall::tie().map_err(at(Step::Tie))?;
    orphaned(table.failure.as_fd()).map_err(at(Step::Tie))?;
    wall::restrict(view.readable()).map_err(at(Step::Restrict))?;
    let next = table.arrange().map_err(at(Step::Descriptors))?;
    match (launch.program, &table.image) {
        (Program::Inside(run), _) => {
            // The name is shown only.
            let _ = rustix::thread::set_name(launch.name);
            // This tells the monitor as well that nothing failed.
            raw::close_all_from(next).map_err(at(Step::Descriptors))?;
            raw::exit(run().into())
        }
        (Program::Image(_), Some(image)) => {
            raw::close_from(next).map_err(at(Step::Descriptors))?;
            Err(at(Step::Execute)(raw::execute(image.as_fd(), launch.name)))
        }
        (Program::Image(_), None) => Err(at(Step::Execute)(Errno::NOENT)),
        (Program::Installed { path, arguments }, _) => {
            raw::close_from(next).map_err(at(Step::Descriptors))?;
            Err(at(Step::Execute)(raw::execute_installed(path, launch.name, arguments)))
        }
    }
}

/// Makes the name spaces of a view and enters it, and nothing more.
pub fn rehearse(view: &View, caller: Caller) -> Result<(), SpawnError> {
    let at = |step| move |errno| SpawnError { step, errno };
    let (report, failure) = pipe_with(PipeFlags::CLOEXEC).map_err(at(Step::Fork))?;
    match raw::fork(view.namespaces()).map_err(at(Step::Fork))? {
        Forked::Child => {
            let map = if view.in_user_namespace() { map_caller(caller.user, caller.group) } else { Ok(()) };
            let outcome = map.map_err(at(Step::UserMap)).and_then(|()| view.enter().map_err(at(Step::View)));
            if let Err(error) = outcome {
                tell(failure, error);
            }
            raw::exit(0)
        }
        Forked::Parent { child, .. } => {
            drop(failure);
            let outcome = told(report).map_or(Ok(()), Err);
            // It ends by itself.
            let _ = waitid(WaitId::Pid(child), WaitIdOptions::EXITED);
            outcome
        }
    }
}

/// An error if the monitor died before the guest was tied to it: then nobody reads the report.
fn orphaned(failure: BorrowedFd) -> Result<(), Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::new(&failure, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if polled[0].revents().contains(PollFlags::ERR) { Err(Errno::SRCH) } else { Ok(()) }
}

fn tell(failure: OwnedFd, error: SpawnError) {
    let errno = error.errno.raw_os_error().to_ne_bytes();
    // Without a monitor nobody wants to know.
    let _ = File::from(failure).write_all(&[&[error.step as u8][..], &errno[..]].concat());
}

/// Waits for the child to execute the image, which closes its end, or to say why not.
fn told(report: OwnedFd) -> Option<SpawnError> {
    let mut bytes = [0; 5];
    File::from(report).read_exact(&mut bytes).ok()?;
    let [step, errno @ ..] = bytes;
    let step = STEPS.into_iter().find(|each| *each as u8 == step)?;
    Some(SpawnError { step, errno: Errno::from_raw_os_error(i32::from_ne_bytes(errno)) })
}
