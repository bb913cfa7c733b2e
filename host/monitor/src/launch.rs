//! Launching a planned island: its memory, its channel, its process.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use abi::pico::Start;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;

use crate::cgroup::Group;
use crate::plan::{Plan, host_cpus};
use crate::sandbox::{self, Guest, Launch, SpawnError, View, filter};
use crate::serve::Channel;
use crate::start::sealed_file;
use crate::stream::StreamError;
use crate::watch;

/// Bytes of address space for the library OS's state; memory is used as it is touched.
const STATE: u64 = 4 << 30;
/// What of it is not heap: stacks that are mostly never touched.
const STATE_LEAST: u64 = 96 << 20;

/// Why an island could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("this eyot was built without a guest image; build it again from a complete source tree")]
    NoImage,
    #[error("the island's memory and channels could not be made: {0}")]
    Resources(#[from] Errno),
    #[error("the island's memory could not be made: {0}")]
    Memory(#[from] std::io::Error),
    #[error("the terminal could not be set up: {0}")]
    Terminal(#[from] StreamError),
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

/// A guest's process, the monitor's end of its channel, and the library OS's memory.
pub struct Launched {
    pub channel: Channel,
    pub guest: Guest,
    pub state: OwnedFd,
}

/// Makes the guest's process, with the best view that this machine allows; `granted` follows the
/// descriptors that every guest has.
pub fn launch(plan: &Plan, granted: &[OwnedFd], group: Option<&Group>) -> Result<Launched, StartError> {
    if plan.image.code().is_empty() {
        return Err(StartError::NoImage);
    }
    let door = group.and_then(Group::door);
    // A group bounds all memory; without one, the watch does, and this is where it cannot be outrun.
    let data = plan.memory.filter(|_| group.is_none()).map(watch::private_most);
    let name = CString::new(plan.name.as_str()).unwrap_or_default();
    let length = plan.memory.map_or(STATE, |limit| limit.saturating_add(STATE_LEAST).min(STATE));
    let state = state(length)?;
    let mut last = None;
    for view in &plan.views {
        let (channel, control) = Channel::new()?;
        let own = [
            control,
            sealed_file("eyot-boot", &start_page(plan, view, length)?, false)?,
            state.try_clone()?,
            epoll::create(epoll::CreateFlags::CLOEXEC)?,
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        ];
        let descriptors: Vec<_> = own.iter().chain(granted).map(AsFd::as_fd).collect();
        let launch = Launch {
            image: plan.image,
            caller: plan.caller,
            view,
            number: std::process::id(),
            name: &name,
            descriptors: &descriptors,
            data,
            group: door.as_ref(),
        };
        match sandbox::spawn(launch) {
            Ok(guest) => return Ok(Launched { channel, guest, state }),
            Err(error) if error.is_for_namespaces() => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.map_or(StartError::NoImage, StartError::Spawn))
}

fn start_page(plan: &Plan, view: &View, state_length: u64) -> Result<Vec<u8>, StartError> {
    let direct = view.direct();
    let start = Start {
        boot: plan.boot.clone(),
        state_length,
        filter: filter::compile(plan.image.code(), !direct.is_empty()),
        direct,
        host_cpus: host_cpus(),
    };
    postcard::to_allocvec(&start).map_err(|error| StartError::Memory(std::io::Error::other(error)))
}

/// The library OS's memory: its length can never change, so that no access can fail for that.
fn state(length: u64) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Executable: the stubs of the gate live in it.
    let file = memfd_create("eyot-state", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("eyot-state", flags))?;
    ftruncate(&file, length)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}
